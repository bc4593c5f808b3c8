"""What may change within a version of a message: optional fields may be added, and nothing else.

Words (titles, descriptions, examples) may change freely. Everything else a schema says is a promise to
somebody's reader or writer; a change of it is a new version of the message, published beside the old.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WORDS = frozenset({"title", "description", "examples", "$comment"})
STRUCTURE = frozenset({"properties", "required", "$defs"})

Schema = dict[str, Any]


class BreakingChange(Exception):
    """A published message would mean something else than it did."""

    def __init__(self, type_: str, faults: list[str]) -> None:
        super().__init__(f"{type_}: {'; '.join(faults)}. Publish a new version beside the old one instead")
        self.type = type_
        self.faults = faults


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Each change from one schema of a message to the next that is more than an added optional field."""
    return list(_compare(_Place(old, old), _Place(new, new), "body"))


class _Place:
    """A part of a schema, with references followed."""

    def __init__(self, root: Schema, part: Schema) -> None:
        self.root = root
        self.part = part
        while (reference := self.part.get("$ref")) is not None:
            beside = {key: value for key, value in self.part.items() if key != "$ref"}
            self.part = root["$defs"][reference.rsplit("/", 1)[1]] | beside

    def at(self, part: Schema) -> _Place:
        return _Place(self.root, part)


def _compare(old: _Place, new: _Place, where: str) -> Iterator[str]:
    yield from _compare_fields(old, new, where)
    keywords = (old.part.keys() | new.part.keys()) - WORDS - STRUCTURE
    for keyword in sorted(keywords):
        before, after = old.part.get(keyword), new.part.get(keyword)
        yield from _compare_keyword(keyword, before, after, old, new, where)


def _compare_fields(old: _Place, new: _Place, where: str) -> Iterator[str]:
    fields, fields_now = old.part.get("properties", {}), new.part.get("properties", {})
    required, required_now = set(old.part.get("required", ())), set(new.part.get("required", ()))
    for name in fields.keys() - fields_now.keys():
        yield f"{where}.{name} was removed"
    for name in sorted(required_now - required):
        yield f"{where}.{name} became required" if name in fields else f"{where}.{name} is new and required"
    for name in sorted((required - required_now) & fields_now.keys()):
        yield f"{where}.{name} became optional, and readers rely on it"
    for name in fields.keys() & fields_now.keys():
        yield from _compare(old.at(fields[name]), new.at(fields_now[name]), f"{where}.{name}")


def _compare_keyword(
    keyword: str, before: Any, after: Any, old: _Place, new: _Place, where: str
) -> Iterator[str]:
    """Schemas inside schemas are compared as such; any other keyword must say what it said."""
    match before, after:
        case dict(), dict() if keyword in {"items", "additionalProperties", "propertyNames"}:
            yield from _compare(old.at(before), new.at(after), f"{where}[]")
        case list(), list() if keyword in {"anyOf", "allOf", "oneOf"} and len(before) == len(after):
            for one, other in zip(before, after, strict=True):
                yield from _compare(old.at(one), new.at(other), where)
        case list(), list() if keyword == "enum":
            yield from (f"{where} may no longer be {value!r}" for value in before if value not in after)
            yield from (
                f"{where} may now be {value!r}, which readers refuse"
                for value in after
                if value not in before
            )
        case _ if before != after:
            yield f"{where}: {keyword} was {before!r} and is {after!r}"
        case _:
            return
