from typing import Any

import pytest

from contacts.domain.contact_type import BadContactType, Definition, define
from servicekit.verdict import Become, Unchanged


def definition(**schema: Any) -> Definition:
    return Definition(name="Person", fields_schema={"type": "object", **schema})


def test_the_same_definition_again_is_no_change() -> None:
    first = define("person", definition(properties={"plan": {"type": "string"}}), None)
    assert isinstance(first, Become)
    again = define("person", definition(properties={"plan": {"type": "string"}}), first.state)
    assert isinstance(again, Unchanged)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "array"}, '"type": "object"'),
        ({"properties": {"a": {"type": "text"}}}, "not a JSON Schema at properties/a/type"),
        ({"properties": {"a": {"type": "string", "pattern": "("}}}, "not a JSON Schema"),
        ({"properties": {"a": {"$ref": "http://example.org/x"}}}, "only references inside"),
        ({"title": "\ud800"}, "whole characters"),
        ({"maxProperties": 2**63}, "at most 64 bits"),
        ({"properties": {"a": {"x\0": 1}}}, "no NUL in a name"),
        ({"minimum": float("nan")}, "finite numbers"),
        (nested(80), "at most 64 levels"),
        ({"$ref": "#"}, "back to itself"),
        ({"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}}, "back to itself"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, "leads nowhere"),
        ({"properties": {"a": {"$ref": "#spot"}}}, "only references inside"),
        ({"properties": {"a": {"$id": "urn:a"}}}, "at the top only"),
        ({"properties": {"a.b": {}}}, "must begin with a letter"),
        ({"properties": {"phone": {}}}, "choose another name"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "draft/2020-12"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_a_sentence(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(BadContactType, match=says):
        define("person", definition(**schema), None)


def test_a_schema_may_refer_to_itself_below() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}
    schema = {"$id": "urn:trees", "properties": {"t": {"$ref": "#/$defs/tree"}}, "$defs": {"tree": tree}}
    made = define("person", definition(**schema), None)
    assert isinstance(made, Become)
    assert list(made.state.field_faults({"t": {"left": {"left": {}}}})) == []
    assert list(made.state.field_faults({"t": {"left": 1}})) == [("t.left", "must be of type object")]


@pytest.mark.parametrize(
    ("rule", "value", "says"),
    [
        ({"type": "integer", "minimum": 0}, -1, "must be 0 or more"),
        ({"type": "number", "exclusiveMaximum": 5}, 5, "must be less than 5"),
        ({"type": "string", "format": "date"}, "yesterday", "must be a date such as 2020-01-09"),
        ({"type": "string", "maxLength": 3}, "long", "must have at most 3 characters"),
        ({"type": "string", "pattern": "^[a-z]+$"}, "A1", 'must satisfy pattern "^[a-z]+$"'),
    ],
)
def test_a_field_that_breaks_its_rule_is_told_what_would_be_right(
    rule: dict[str, Any], value: object, says: str
) -> None:
    made = define("person", definition(properties={"a": rule}), None)
    assert isinstance(made, Become)
    assert list(made.state.field_faults({"a": value})) == [("a", says)]
