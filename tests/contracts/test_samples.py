"""The golden samples: one per message, complete, readable, and safe to publish."""

import json
import re
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from contracts.catalogue import MESSAGES
from contracts.message import Message
from contracts.reasons import Objection, Skipped
from contracts.samples import sample, sample_body, sample_json
from contracts.schemas import schema_of

every_message = pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.wire.type)

FICTIONAL = re.compile(r"^\+1[2-9]\d{2}55501\d\d$")


def test_there_is_exactly_one_sample_per_message() -> None:
    found = {path.name for path in files("contracts").joinpath("samples").iterdir()}
    assert {name for name in found if name.endswith(".json")} == {f"{m.wire.type}.json" for m in MESSAGES}


@every_message
def test_a_sample_survives_the_round_trip(message: type[Message]) -> None:
    read = sample(message.wire.type)
    assert type(read) is message
    assert json.loads(read.to_json()) == sample_body(message.wire.type)
    assert message.from_json(read.to_json()) == read


CONTRADICT = {
    "parley.activity.changed.v1": {"reason", "assigned_to"},  # completed, and by a channel
    "parley.batch.progressed.v1": {"error"},  # still loading
}
"""Fields that the rest of a sample leaves empty."""


@every_message
def test_a_sample_shows_every_field(message: type[Message]) -> None:
    left_out = message.model_fields.keys() - sample_body(message.wire.type).keys()
    assert left_out == CONTRADICT.get(message.wire.type, set())


def test_samples_give_reasons_in_the_words_of_their_owners() -> None:
    assert sample_body("parley.activity.decided.v1")["reason"] in set(Objection)
    assert sample_body("parley.activity.returned.v1")["reason"] in set(Objection)
    assert sample_body("parley.batch.progressed.v1")["skipped"].keys() <= set(Skipped)


@every_message
def test_a_sample_is_valid_against_the_published_schema(message: type[Message]) -> None:
    schema = schema_of(message)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    validator.validate(sample_body(message.wire.type))


@every_message
def test_a_reader_ignores_fields_it_does_not_know(message: type[Message]) -> None:
    body = sample_body(message.wire.type) | {"added_next_year": {"by": "somebody"}}
    assert message.from_json(json.dumps(body).encode()) == sample(message.wire.type)


@every_message
def test_phone_numbers_in_samples_are_fictional(message: type[Message]) -> None:
    numbers = re.findall(rb"\+\d{7,15}", sample_json(message.wire.type))
    assert all(FICTIONAL.match(number.decode()) for number in numbers)


def test_an_unknown_type_has_no_sample() -> None:
    with pytest.raises(KeyError):
        sample("parley.nobody.knows.v1")
