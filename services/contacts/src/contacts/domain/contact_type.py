"""A kind of contact: its custom fields, whether it needs a time zone, which preferences apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contacts.domain.storable import good_name
from contracts.vocabulary import Code, Flag, PreferenceKind
from servicekit import json_schema
from servicekit.json_schema import JsonSchema, Judge
from servicekit.verdict import Become, Unchanged, Verdict, following

OWN_NAMES = frozenset(
    {"external_id", "first_name", "last_name", "organisation", "phone", "email", "time_zone", "opted_out"}
)
"""Columns of an import that a custom field cannot be named like."""


class BadContactType(ValueError):
    """The message says what is wrong with the definition."""


class Definition(BaseModel):
    """What somebody decides about a contact type."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(min_length=1, max_length=200)
    fields_schema: JsonSchema = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema (2020-12) of the custom fields."""
    time_zone_required: Flag = False
    preferences: tuple[PreferenceKind, ...] = tuple(PreferenceKind)
    """Those that apply to this kind of contact."""


class ContactType(Definition):
    model_config = ConfigDict(frozen=True, extra="ignore")

    code: Code
    version: int

    @cached_property
    def custom_fields(self) -> Mapping[str, Mapping[str, Any]]:
        properties: Mapping[str, Any] = self.fields_schema.get("properties", {})
        return {name: rule if isinstance(rule, dict) else {} for name, rule in properties.items()}

    def field_faults(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        return json_schema.faults(self._judge, fields)

    @cached_property
    def _judge(self) -> Judge:
        return json_schema.judge_of(self.fields_schema)


def define(code: str, definition: Definition, standing: ContactType | None) -> Verdict[ContactType]:
    """Raises BadContactType. Contacts that exist are checked again only when they change."""
    _check(definition)
    version = 1 if standing is None else standing.version + 1
    defined = ContactType(code=code, version=version, **dict(definition))
    if standing is not None and defined == following(standing):
        return Unchanged("the same definition")
    return Become(defined)


def _check(definition: Definition) -> None:
    if fault := json_schema.fault_of(definition.fields_schema):
        raise BadContactType(f"fields_schema: {fault}")
    for name in definition.fields_schema.get("properties", {}):
        if not good_name(name):
            raise BadContactType(
                f"fields_schema: the field name {name[:64]!r} must begin with a letter "
                "and have at most 64 letters, digits, _ - and spaces"
            )
        if name.lower() in OWN_NAMES:
            raise BadContactType(f"fields_schema: every contact has {name!r}; choose another name")
