"""A time is written out; what pydantic would make of a number is none."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts import samples
from contracts.catalogue import MESSAGES
from contracts.message import Message
from contracts.vocabulary import AskedTime, Day, Time

TIME: TypeAdapter[datetime] = TypeAdapter(Time)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENTENCE = "not an instant such as 2026-03-01T12:00:00Z"


def _times_in(schema: dict[str, Any], body: Any, definitions: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Every place of a body, as what holds it and where in that, that the schema calls a time."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for each in schema.get("anyOf", ()):
        yield from _times_in(each, body, definitions)
    parts: list[tuple[Any, dict[str, Any]]] = []
    if isinstance(body, dict):
        named = schema.get("properties", {})
        other = schema.get("additionalProperties")
        parts = [(name, named.get(name, other)) for name in body if isinstance(named.get(name, other), dict)]
    elif isinstance(body, list) and "items" in schema:
        parts = [(place, schema["items"]) for place in range(len(body))]
    for place, part in parts:
        if "date-time" in (part.get("format"), *(each.get("format") for each in part.get("anyOf", ()))):
            yield body, place
        else:
            yield from _times_in(part, body[place], definitions)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.wire.type)
def test_no_time_of_any_message_is_a_number(message: type[Message]) -> None:
    body = json.loads((Path(samples.__path__[0]) / f"{message.wire.type}.json").read_bytes())
    schema = message.model_json_schema()
    for holder, place in _times_in(schema, body, schema.get("$defs", {})):
        right = holder[place]
        for wrong in ("20271224", "1798761600", "1798761600000", "1.5e9", 1798761600, 1798761600.5):
            holder[place] = wrong
            with pytest.raises(ValidationError) as refused:
                message.from_json(json.dumps(body).encode())
            assert [fault["msg"] for fault in refused.value.errors()] == [SENTENCE]
        holder[place] = right
        message.from_json(json.dumps(body).encode())


def test_most_messages_say_when() -> None:
    """So that the above looks at something."""
    schemas = [message.model_json_schema() for message in MESSAGES]
    assert sum("date-time" in json.dumps(schema) for schema in schemas) > len(schemas) / 2


@pytest.mark.parametrize(
    "told",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00.0004Z",
        "2026-03-01T12:00:00.000000000Z",
        "2026-03-01T13:00:00+01:00",
        "2026-02-28T22:00:00-14:00",
        "2026-03-01t12:00:00z",
        "2026-03-01T12:00Z",
        "2026-03-01 12:00:00+00:00",
        "2026-03-01T13:00:00+0100",
    ],
)
def test_an_instant_is_read_as_it_is_written(told: str) -> None:
    assert TIME.validate_python(told) == NOON
    assert TIME.validate_json(json.dumps(told), strict=True) == NOON
    assert TIME.dump_json(TIME.validate_python(told)) == b'"2026-03-01T12:00:00Z"'


@pytest.mark.parametrize(
    "told",
    [
        "",
        "noon",
        "20260301",
        "20260301T120000Z",
        "2026-W09-7T12:00:00Z",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-03-01T12Z",
        "2026-02-30T12:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:00:00Zulu",
        "٢٠٢٦-03-01T12:00:00Z",
        None,
        True,
        [],
    ],
)
def test_what_is_no_instant_is_refused(told: Any) -> None:
    with pytest.raises(ValidationError, match=SENTENCE):
        TIME.validate_python(told)
    with pytest.raises(ValidationError, match=SENTENCE):
        TIME.validate_json(json.dumps(told), strict=True)


def test_a_time_that_was_read_before_is_taken_in_utc() -> None:
    east = timezone(timedelta(hours=1))
    assert TIME.validate_python(datetime(2026, 3, 1, 13, tzinfo=east)).isoformat() == NOON.isoformat()
    assert TIME.validate_python(NOON) is NOON
    with pytest.raises(ValidationError, match=SENTENCE):
        TIME.validate_python(NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    "told",
    [
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:59:59+01:00",
        "9000-01-01T00:00:00Z",
        "9000-01-01T00:59:59-01:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_a_time_out_of_bounds_is_refused(told: str) -> None:
    with pytest.raises(ValidationError, match="must be of 1970 or later and before 9000"):
        TIME.validate_python(told)


def test_a_query_may_have_lost_its_plus() -> None:
    asked: TypeAdapter[datetime] = TypeAdapter(AskedTime)
    assert asked.validate_python("2026-03-01T13:00:00 01:00") == NOON
    with pytest.raises(ValidationError, match=SENTENCE):
        asked.validate_python("1798761600")


def test_a_day_is_a_day() -> None:
    day: TypeAdapter[Any] = TypeAdapter(Day)
    assert day.validate_python("2026-03-01") == NOON.date()
    for told in ("20260301", "0", 0, "2026-03-01T00:00:00Z", "2026-3-1", NOON):
        with pytest.raises(ValidationError, match="not a day such as 2026-03-01"):
            day.validate_python(told)
