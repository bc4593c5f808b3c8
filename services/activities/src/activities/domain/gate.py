"""The policy gate: whether a contact may be contacted now, and by whose word not.

The rules are asked in order; the first objection is the verdict. No policy on the campaign means that
no window is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any

from activities.domain.activity import Activity
from activities.domain.catalog import Catalog, Contact
from activities.domain.contact_window import (
    EVERY_OFFSET,
    is_inside_all,
    next_closing,
    next_common_opening,
    spread,
    zone_named,
)
from contracts.campaigns import CampaignChanged, EndpointChanged, PolicyChanged, SubjectChanged
from contracts.channels import PREFERENCE_OF_CHANNEL
from contracts.reasons import AT_REST, Objection
from contracts.vocabulary import EndpointId, Lifecycle, Source

_FIRST_LOOK = timedelta(seconds=2)
_LONGEST_LOOK = timedelta(hours=1)
PATIENCE = 7 * 24
"""Deferrals, hourly in the end, after which an activity for a contact that nobody knows is denied."""


@dataclass(frozen=True, slots=True)
class Allow:
    endpoint_id: EndpointId
    destination: str
    inputs: dict[str, Any] = field(default_factory=dict)
    not_after: datetime | None = None
    """The end of the contact's hours; None if none apply."""


@dataclass(frozen=True, slots=True)
class Defer:
    """Not now. `until` is when to look again; `hold` names the item of the catalogue to wait for instead."""

    reason: Objection
    until: datetime | None = None
    hold: str | None = None
    awaits_contact: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deny:
    reason: Objection
    inputs: dict[str, Any] = field(default_factory=dict)


Ruling = Allow | Defer | Deny


@dataclass(frozen=True, slots=True)
class Case:
    """One activity that is due, and everything the gate may look at."""

    activity: Activity
    now: datetime
    contact: Contact | None
    subject: SubjectChanged | None
    campaign: CampaignChanged | None
    endpoint: EndpointChanged | None
    policy: PolicyChanged | None

    @property
    def channel(self) -> str:
        return self.activity.channel or ""

    @property
    def endpoint_id(self) -> EndpointId | None:
        return self.activity.endpoint_id or (self.campaign.endpoint_id if self.campaign else None)

    @property
    def destination(self) -> str | None:
        fixed = self.activity.destination
        return fixed or (self.contact.address(self.channel) if self.contact else None)


def case_of(activity: Activity, contact: Contact | None, catalog: Catalog, now: datetime) -> Case:
    campaign = catalog.campaigns.get(activity.campaign_id or "")
    endpoint_id = activity.endpoint_id or (campaign.endpoint_id if campaign else None)
    return Case(
        activity=activity,
        now=now,
        contact=contact,
        subject=catalog.subjects.get(activity.subject_id),
        campaign=campaign,
        endpoint=catalog.endpoints.get(endpoint_id or ""),
        policy=catalog.policies.get(campaign.policy_id or "") if campaign else None,
    )


def judge(case: Case) -> Ruling:
    inputs = inputs_of(case)
    for rule in RULES:
        match rule(case):
            case Deny(reason):
                return Deny(reason, inputs)
            case Defer(reason, until, hold, awaits_contact):
                return Defer(reason, until, hold, awaits_contact, inputs)
    assert case.endpoint_id is not None
    assert case.destination is not None
    return Allow(case.endpoint_id, case.destination, inputs, _end_of_hours(case))


Refusal = Defer | Deny | None
"""What a rule says; None if it has nothing against it."""


def contact_was_not_erased(case: Case) -> Refusal:
    """Before all else: nothing of theirs is kept until a campaign goes on."""
    return Deny(Objection.CONTACT_ERASED) if case.contact is not None and case.contact.erased else None


def campaign_is_open(case: Case) -> Refusal:
    wanted = case.activity.campaign_id
    if wanted is None:
        return None
    if case.campaign is None:
        return Defer(Objection.CAMPAIGN_UNKNOWN, hold=wanted)
    objection = case.campaign.objection(case.now)
    if objection is None:
        return None
    return Defer(objection, hold=wanted) if objection in AT_REST else Deny(objection)


def subject_is_known(case: Case) -> Refusal:
    return None if case.subject else Defer(Objection.SUBJECT_UNKNOWN, hold=case.activity.subject_id)


def contact_is_reachable(case: Case) -> Refusal:
    match case.contact:
        case None if case.activity.deferrals >= PATIENCE:
            return Deny(Objection.CONTACT_UNKNOWN)
        case None:
            again = case.now + pause_after(case.activity.deferrals)
            return Defer(Objection.CONTACT_UNKNOWN, again, awaits_contact=True)
        case Contact(lifecycle=Lifecycle.DRAFT):
            return Deny(Objection.CONTACT_IS_DRAFT)
    return None


def channel_is_wanted(case: Case) -> Refusal:
    preference = PREFERENCE_OF_CHANNEL.get(case.channel)
    return Deny(Objection.OPTED_OUT) if case.contact and preference in case.contact.opted_out else None


def endpoint_is_enabled(case: Case) -> Refusal:
    if case.endpoint_id is None:
        return Deny(Objection.NO_ENDPOINT)
    if case.endpoint is None:
        return Defer(Objection.ENDPOINT_UNKNOWN, hold=case.endpoint_id)
    if case.endpoint.channel != case.channel:
        return Deny(Objection.ENDPOINT_OF_ANOTHER_CHANNEL)
    return None if case.endpoint.enabled else Defer(Objection.ENDPOINT_DISABLED, hold=case.endpoint_id)


def address_is_known(case: Case) -> Refusal:
    return None if case.destination else Deny(Objection.NO_ADDRESS)


def contact_is_within_hours(case: Case) -> Refusal:
    """Somebody who wrote to us just now is answered at any hour."""
    wanted = case.campaign.policy_id if case.campaign else None
    if wanted is None or case.activity.source is Source.INBOUND:
        return None
    if case.policy is None:
        return Defer(Objection.POLICY_UNKNOWN, hold=wanted)
    window = case.policy.window
    zones, are_known = _zones(case, case.policy)
    if is_inside_all(case.now, zones, window):
        return None
    reason = Objection.OUTSIDE_WINDOW if are_known else Objection.UNKNOWN_ZONE
    opening = next_common_opening(case.now, zones, window)
    if opening is None:
        return Defer(reason, case.now + _LONGEST_LOOK, awaits_contact=not are_known)
    until = spread(opening, case.activity.contact_id, zones, window)
    return Defer(reason, until, awaits_contact=not are_known)


def _end_of_hours(case: Case) -> datetime | None:
    """For a case that every rule allows."""
    if case.policy is None or case.activity.source is Source.INBOUND:
        return None
    zones, _ = _zones(case, case.policy)
    return min(next_closing(case.now, zone, case.policy.window) for zone in zones)


def _zones(case: Case, policy: PolicyChanged) -> tuple[Sequence[tzinfo], bool]:
    """Those whose clocks count, and whether that is the contact's own."""
    zone = zone_named(case.contact.time_zone) if case.contact else None
    return ((zone,), True) if zone else (_zones_of_the_unknown(policy), False)


RULES: tuple[Callable[[Case], Refusal], ...] = (
    contact_was_not_erased,
    campaign_is_open,
    subject_is_known,
    contact_is_reachable,
    channel_is_wanted,
    endpoint_is_enabled,
    address_is_known,
    contact_is_within_hours,
)


def _zones_of_the_unknown(policy: PolicyChanged) -> tuple[Any, ...]:
    """A listed zone that nobody knows makes no time safe, so all of them are asked."""
    zones = tuple(map(zone_named, policy.unknown_zone_zones))
    return zones if zones and None not in zones else EVERY_OFFSET


def pause_after(times: int) -> timedelta:
    """Before it is looked at again, after so many times in vain: it doubles, up to an hour."""
    return min(_FIRST_LOOK * (1 << min(times, 12)), _LONGEST_LOOK)


def inputs_of(case: Case) -> dict[str, Any]:
    """What the verdict rests on, without anybody's address."""
    inputs: dict[str, Any] = {"channel": case.channel, "source": case.activity.source.value}
    if case.campaign:
        inputs |= {"campaign_state": case.campaign.state.value, "campaign_version": case.campaign.version}
    if case.subject:
        inputs["subject_version"] = case.subject.version
    if case.endpoint:
        inputs |= {"endpoint_enabled": case.endpoint.enabled, "endpoint_version": case.endpoint.version}
    if case.policy:
        window = case.policy.window
        inputs |= {
            "policy_version": case.policy.version,
            "window": f"{window.start}-{window.end}",
            "weekdays": list(window.weekdays),
        }
    if case.contact:
        zone = zone_named(case.contact.time_zone)
        inputs |= {
            "contact_version": case.contact.version,
            "lifecycle": case.contact.lifecycle.value,
            "opted_out": sorted(case.contact.opted_out),
            "time_zone": case.contact.time_zone,
            "local_time": case.now.astimezone(zone).isoformat(timespec="minutes") if zone else None,
            "has_address": case.destination is not None,
        }
    return inputs
