"""What the domain knows of foreign things: the catalogue, and contacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from contracts.campaigns import (
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    PolicyChanged,
    SubjectChanged,
)
from contracts.channels import NEED_AN_ADDRESS, address_for
from contracts.reasons import AT_REST
from contracts.vocabulary import Lifecycle, PhoneType, PreferenceKind

Item = SubjectChanged | DispositionChanged | CampaignChanged | EndpointChanged | PolicyChanged


@dataclass(frozen=True, slots=True)
class Contact:
    """What the gate needs of a contact, and no more."""

    contact_id: str
    version: int
    lifecycle: Lifecycle = Lifecycle.PUBLISHED
    phones: tuple[tuple[str, PhoneType], ...] = ()
    emails: tuple[str, ...] = ()
    time_zone: str | None = None
    opted_out: frozenset[PreferenceKind] = frozenset()
    erased: bool = False

    def address(self, channel: str) -> str | None:
        """A channel that Parley has no addresses for gets the contact's id: its service knows where to."""
        if channel not in NEED_AN_ADDRESS:
            return self.contact_id
        return address_for(channel, self.phones, self.emails)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All of the catalogue, as of one moment."""

    subjects: Mapping[str, SubjectChanged] = field(default_factory=dict)
    campaigns: Mapping[str, CampaignChanged] = field(default_factory=dict)
    endpoints: Mapping[str, EndpointChanged] = field(default_factory=dict)
    policies: Mapping[str, PolicyChanged] = field(default_factory=dict)
    dispositions: Mapping[str, DispositionChanged] = field(default_factory=dict)
    """By code."""

    @classmethod
    def of(cls, items: Iterable[Item]) -> Catalog:
        items = tuple(items)
        return cls(
            {item.subject_id: item for item in items if isinstance(item, SubjectChanged)},
            {item.campaign_id: item for item in items if isinstance(item, CampaignChanged)},
            {item.endpoint_id: item for item in items if isinstance(item, EndpointChanged)},
            {item.policy_id: item for item in items if isinstance(item, PolicyChanged)},
            {item.code: item for item in items if isinstance(item, DispositionChanged)},
        )

    def holding_nothing(self, now: datetime) -> list[str]:
        """Ids of what no activity has to wait for any longer."""
        return [
            *(id_ for id_, campaign in self.campaigns.items() if campaign.objection(now) not in AT_REST),
            *(id_ for id_, endpoint in self.endpoints.items() if endpoint.enabled),
            *self.subjects,
            *self.policies,
        ]
