"""The six kinds of the catalogue: what is kept and announced of each, and how a bundle writes it.

The state of an item is the message that announces it. How a bundle writes it is derived from that
message: the same fields without ids and version, and references by code.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from contracts.campaigns import (
    AgentProfileChanged,
    CampaignChanged,
    CatalogKind,
    DispositionChanged,
    EndpointChanged,
    PolicyChanged,
    SubjectChanged,
    catalog_id,
)
from contracts.message import Message
from contracts.vocabulary import CampaignState, Code
from servicekit.json_schema import JsonSchema


class Subject(SubjectChanged):
    """The message; its schema is kept as text."""

    data_schema: JsonSchema = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description=SubjectChanged.model_fields["data_schema"].description,
    )


class Written(BaseModel):
    """An item as a bundle writes it. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    code: Code


def _written(
    name: str, message: type[Message], without: tuple[str, ...] = (), **references: Any
) -> type[Written]:
    left_out = {message.wire.key, "version", "code", *without, *references}
    fields = {
        name: (field.annotation, copy(field))
        for name, field in message.model_fields.items()
        if name not in left_out
    }
    made: type[Written] = create_model(name, __base__=Written, **fields, **references)  # type: ignore[call-overload]
    return made


@dataclass(frozen=True, slots=True)
class Kind:
    """name: as in `catalog_id`. plural: its list in a bundle, and its collection. path: under /v1."""

    name: CatalogKind
    plural: str
    path: str
    state: type[Any]
    written: type[Written]

    @property
    def id_field(self) -> str:
        field: str = self.state.wire.key
        return field

    def id_of(self, code: str) -> str:
        return catalog_id(self.name, code)

    def made(self, written: Written, version: int, **resolved: Any) -> Any:
        """The state that an item gives; `resolved` is what does not come from the item as it is."""
        given = {name: getattr(written, name) for name in type(written).model_fields}
        given |= {self.id_field: self.id_of(written.code), "version": version, **resolved}
        return self.state(**{name: given[name] for name in self.state.model_fields})


SUBJECT = Kind("subject", "subjects", "subjects", Subject, _written("SubjectItem", Subject))
DISPOSITION = Kind(
    "disposition",
    "dispositions",
    "dispositions",
    DispositionChanged,
    _written("DispositionItem", DispositionChanged),
)
ENDPOINT = Kind(
    "endpoint", "endpoints", "endpoints", EndpointChanged, _written("EndpointItem", EndpointChanged)
)
POLICY = Kind("policy", "policies", "policies", PolicyChanged, _written("PolicyItem", PolicyChanged))
CAMPAIGN = Kind(
    "campaign",
    "campaigns",
    "campaigns",
    CampaignChanged,
    _written(
        "CampaignItem",
        CampaignChanged,
        without=("endpoint_id", "policy_id"),
        endpoint=(Code | None, Field(default=None, description="Code of an endpoint of its channel")),
        policy=(Code | None, Field(default=None, description="Code of a policy")),
        state=(CampaignState | None, Field(default=None, description="Left out: stays as it is; new: draft")),
    ),
)
AGENT_PROFILE = Kind(
    "agent-profile",
    "agent_profiles",
    "agent-profiles",
    AgentProfileChanged,
    _written("AgentProfileItem", AgentProfileChanged),
)

KINDS = (DISPOSITION, ENDPOINT, POLICY, AGENT_PROFILE, SUBJECT, CAMPAIGN)
"""Referred to before referring."""

Catalog = Mapping[str, Mapping[str, Any]]
"""plural -> code -> state: everything that stands."""


class _Strict(BaseModel):
    """A whole configuration; items refer to each other, and to what stands already, by code."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _list_of(kind: Kind) -> Any:
    return (tuple[kind.written, ...], ())  # type: ignore[name-defined]


Bundle: type[BaseModel] = create_model(
    "Bundle", __base__=_Strict, **{kind.plural: _list_of(kind) for kind in KINDS}
)
