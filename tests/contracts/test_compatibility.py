"""A published message keeps its meaning; and the checker that says so finds what it must find."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model

from contracts.catalogue import MESSAGES
from contracts.compatibility import BreakingChange, breaking_changes
from contracts.documents import write_documents
from contracts.message import Message, Record, Topic
from contracts.schemas import schema_of

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"

LIGHTS = Topic("light-switched")
WIRE: dict[str, Any] = {
    "type": "house.light.switched.v1",
    "topic": LIGHTS,
    "key": "lamp_id",
    "identity": ("lamp_id", "version"),
    "published_by": ("house",),
    "read_by": (),
}


class Bulb(Record):
    watts: int = Field(default=5, ge=1)
    colour: Literal["warm", "cold"] = "warm"


FIELDS: dict[str, Any] = {
    "lamp_id": (str, ...),
    "version": (int, ...),
    "state": (Literal["on", "off"], ...),
    "bulb": (Bulb | None, None),
    "tags": (tuple[str, ...], ()),
    "dimmed": (dict[str, int], {}),
}


def schema(wire: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    message: type[Message] = create_model("LightSwitched", __base__=Message, __cls_kwargs__=wire, **fields)
    return schema_of(message)


PROMISED = schema(WIRE, FIELDS)


def changed(**fields: Any) -> dict[str, Any]:
    return schema(WIRE, FIELDS | fields)


def without(field: str) -> dict[str, Any]:
    return schema(WIRE, {name: value for name, value in FIELDS.items() if name != field})


def rewired(**wire: Any) -> dict[str, Any]:
    return schema(WIRE | wire, FIELDS)


class BrightBulb(Record):
    watts: int = Field(default=5, ge=1)
    colour: Literal["warm", "cold"] = "warm"
    lumens: int | None = None


class OneColourBulb(Record):
    watts: int = Field(default=5, ge=1)
    colour: Literal["warm"] = "warm"


def test_the_same_schema_is_compatible() -> None:
    assert breaking_changes(PROMISED, changed()) == []


GOOD = {
    "an optional field": changed(room=(str | None, None)),
    "an optional field inside a record": changed(bulb=(BrightBulb | None, None)),
    "words": changed(state=(Annotated[Literal["on", "off"], Field(description="Lit or not")], ...)),
}


@pytest.mark.parametrize("fresh", GOOD.values(), ids=GOOD.keys())
def test_what_no_reader_notices_may_change(fresh: dict[str, Any]) -> None:
    assert breaking_changes(PROMISED, fresh) == []


BAD = {
    "body.tags was removed": without("tags"),
    "body.version: type was 'integer' and is 'string'": changed(version=(str, ...)),
    "body.bulb became required": changed(bulb=(Bulb | None, ...)),
    "body.version became optional": changed(version=(int, 1)),
    "body.room is new and required": changed(room=(str, ...)),
    "body.state: ": changed(state=(Literal["on"], ...)),
    "body.state may now be 'broken'": changed(state=(Literal["on", "off", "broken"], ...)),
    "body.bulb.colour: ": changed(bulb=(OneColourBulb | None, None)),
    "body.version: minimum was None and is 1": changed(version=(Annotated[int, Field(ge=1)], ...)),
    "body.tags[]: type was 'string' and is 'integer'": changed(tags=(tuple[int, ...], ())),
    "body.dimmed[]: type was 'integer'": changed(dimmed=(dict[str, str], {})),
    "body.tags: default was [] and is ['new']": changed(tags=(tuple[str, ...], ("new",))),
    "body: x-parley was": rewired(key="state"),
    "'topic': 'lamp-switched'": rewired(topic=Topic("lamp-switched")),
    "'compacted': True": rewired(topic=Topic("light-switched", compacted=True)),
    "'identity': ['lamp_id']": rewired(identity=("lamp_id",)),
}


@pytest.mark.parametrize(("fault", "fresh"), BAD.items(), ids=BAD.keys())
def test_a_change_of_meaning_is_found_and_named(fault: str, fresh: dict[str, Any]) -> None:
    assert any(fault in found for found in breaking_changes(PROMISED, fresh))


def test_a_removed_enum_value_is_found() -> None:
    enum = {"enum": ["on", "off", "dim"]}
    assert breaking_changes(enum, {"enum": ["on", "off"]}) == ["body may no longer be 'dim'"]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.wire.type)
def test_no_published_message_changed_its_meaning(message: type[Message]) -> None:
    promised = json.loads((PUBLISHED / f"{message.wire.type}.json").read_text())
    assert breaking_changes(promised, schema_of(message)) == []


def test_no_published_message_was_taken_away() -> None:
    promised = {path.stem for path in PUBLISHED.glob("*.json")}
    assert promised == {message.wire.type for message in MESSAGES}


def test_documents_are_not_written_over_a_broken_promise(tmp_path: Path) -> None:
    write_documents(tmp_path)
    promise = tmp_path / "schemas" / "parley.contact.set-preference.v1.json"
    promised = json.loads(promise.read_text())
    promised["properties"]["colour"] = {"type": "string"}
    promise.write_text(json.dumps(promised))
    (tmp_path / "asyncapi" / "parley.json").unlink()
    with pytest.raises(BreakingChange, match=r"set-preference\.v1: body\.colour was removed"):
        write_documents(tmp_path)
    assert not (tmp_path / "asyncapi" / "parley.json").exists()
