"""JSON Schema (2020-12), judged without ever fetching anything and without repeating values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import BeforeValidator, PlainSerializer, SerializationInfo
from referencing import Registry

_DEEPEST = 64
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Judge = Draft202012Validator
_NOTHING_OUTSIDE: Registry[Any] = Registry()


def _for_storage(schema: dict[str, Any], info: SerializationInfo) -> dict[str, Any] | str:
    return schema if info.mode == "json" else json.dumps(schema)


def _from_storage(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


JsonSchema = Annotated[dict[str, Any], BeforeValidator(_from_storage), PlainSerializer(_for_storage)]
"""Kept as text: the database reads meaning into names such as `$ref` and `$id`."""


def judge_of(schema: Mapping[str, Any]) -> Judge:
    return Judge(schema, registry=_NOTHING_OUTSIDE, format_checker=Judge.FORMAT_CHECKER)


def fault_of(schema: Mapping[str, Any]) -> str | None:
    """Why this cannot describe an object, in one sentence; None when it can."""
    if not _is_plain_json(schema):
        return (
            f"it must be JSON of at most {_DEEPEST} levels, with whole characters, finite numbers, "
            "whole ones of at most 64 bits, and no NUL in a name"
        )
    if schema.get("$schema", DIALECT) != DIALECT:
        return f"$schema must be {DIALECT!r} or left out"
    if schema.get("type") != "object":
        return 'a schema of fields says "type": "object"'
    try:
        Judge.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        return f"not a JSON Schema{f' at {where}' if where else ''}: {error.message[:300]}"
    try:
        _follow(schema, schema, set(), set())
    except _BadReference as bad:
        return str(bad)
    return None


def faults(judge: Judge, value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(where, what would be right) for every violation."""
    for error in judge.iter_errors(value):
        yield ".".join(map(str, error.absolute_path)), _would_be_right(error)


def _would_be_right(error: ValidationError) -> str:
    match error.validator:
        case "required" | "additionalProperties" | "unevaluatedProperties" | "dependentRequired":
            return str(error.message)
        case "type":
            wanted = error.validator_value
            return f"must be of type {' or '.join(wanted) if isinstance(wanted, list) else wanted}"
        case "enum":
            return f"must be one of {json.dumps(error.validator_value, ensure_ascii=False)[:300]}"
        case "format":
            name = str(error.validator_value)
            return f"must be a {_FORMATS.get(name, name)}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return f"must be {_BOUNDS[str(error.validator)].format(error.validator_value)}"
        case "minLength" | "maxLength":
            most = "least" if error.validator == "minLength" else "most"
            return f"must have at {most} {error.validator_value} characters"
        case rule:
            return f"must satisfy {rule} {json.dumps(error.validator_value, ensure_ascii=False)[:300]}"


_FORMATS = {
    "email": "mail address",
    "date": "date such as 2020-01-09",
    "date-time": "time such as 2020-01-09T10:30:00Z",
}
_BOUNDS = {
    "minimum": "{} or more",
    "maximum": "{} or less",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
}


class _BadReference(ValueError):
    pass


_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords whose schemas judge the same value, so that a circle through them never ends."""


def _is_plain_json(schema: Mapping[str, Any]) -> bool:
    try:
        json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    level: list[object] = [schema]
    for _ in range(_DEEPEST):
        if not all(map(_can_be_kept, level)):
            return False
        level = [part for node in level for part in _parts(node)]
    return not level


def _can_be_kept(node: object) -> bool:
    """By every service that has a copy, and by its database."""
    match node:
        case int():
            return -(2**63) <= node < 2**63
        case dict():
            return not any("\0" in name for name in node)
        case _:
            return True


def _parts(node: object) -> Iterable[object]:
    match node:
        case dict():
            return node.values()
        case list():
            return node
        case _:
            return ()


def _follow(root: Mapping[str, Any], node: object, open_: set[int], done: set[int]) -> None:
    """Raises _BadReference for a reference that leaves the schema, leads nowhere, or round in place."""
    if isinstance(node, list):
        for item in node:
            _follow(root, item, set(), done)
    if not isinstance(node, dict) or id(node) in done:
        return
    if id(node) in open_:
        raise _BadReference("a $ref in it leads back to itself")
    here = open_ | {id(node)}
    if node is not root and "$id" in node:
        raise _BadReference("$id may stand at the top only")
    if "$dynamicRef" in node:
        raise _BadReference("$dynamicRef is not followed; write $ref")
    if isinstance(node.get("$ref"), str):
        _follow(root, _target(root, node["$ref"]), here, done)
    for name, part in node.items():
        in_place = part if name in _IN_PLACE else None
        for inner in in_place if isinstance(in_place, list) else [in_place]:
            _follow(root, inner, here, done)
    done.add(id(node))
    for part in node.values():
        _follow(root, part, set(), done)


def _target(root: Mapping[str, Any], reference: str) -> object:
    if reference != "#" and not reference.startswith("#/"):
        raise _BadReference(
            f"$ref {reference[:200]!r}: only references inside the schema (#/...) are followed"
        )
    node: Any = root
    for step in reference[2:].split("/") if reference != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node:
            raise _BadReference(f"$ref {reference[:200]!r} leads nowhere")
        node = node[name]
    return node
