"""What becomes of a request for an activity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from activities.domain.activity import Activity, scheduled, slot_of
from activities.domain.catalog import Catalog, Contact
from activities.domain.gate import case_of, judge
from activities.domain.moves import come_to_life, refuse_as_duplicate, refuse_as_erased
from contracts.activities import ActivityCreated
from contracts.vocabulary import OWN_ID_RULE, Mode, is_own_id
from servicekit.verdict import GiveUp, TryAgain, Unchanged, Verdict

_LONGEST = {"created_by": 200, "owner": 200, "destination": 320}


@dataclass(frozen=True, slots=True)
class CreationFacts:
    now: datetime
    catalog: Catalog
    contacts: Mapping[str, Contact]
    channels: frozenset[str]
    """Channels that have a dispatch topic."""
    holders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Open activities by slot, for exclusive requests."""
    crowded: frozenset[str] = frozenset()
    """Exclusive requests that follow another one for the same slot in the same batch."""
    missing_too_long: frozenset[str] = frozenset()
    """Ids of the catalogue that others have waited for in vain just now."""


def create(message: ActivityCreated, state: Activity | None, facts: CreationFacts) -> Verdict[Activity]:
    if state is not None:
        other = other_in(message, state)
        return GiveUp("activity_exists", other) if other else Unchanged("already created")
    if fault := fault_in(message, facts.channels):
        return GiveUp("impossible_activity", fault)
    for kind, id_ in unknown_in(message, facts.catalog):
        # The catalogue may be late; what stays unknown is a dead letter.
        why = f"there is no {kind} with id {id_!r} here"
        if id_ in facts.missing_too_long:
            return GiveUp("tries_exhausted", why)
        return TryAgain(why, after=1.0)
    activity = scheduled(message, facts.now)
    contact = facts.contacts.get(message.contact_id)
    if contact is not None and contact.erased and not needs_gate(message, facts.now):
        return refuse_as_erased(activity)
    if message.exclusive:
        if facts.holders.get(activity.slot):
            return refuse_as_duplicate(activity)
        if message.activity_id in facts.crowded:
            return TryAgain("another activity of this contact and subject is being created", after=0.01)
    ruling = None
    if needs_gate(message, facts.now):
        ruling = judge(case_of(activity, contact, facts.catalog, facts.now))
    return come_to_life(activity, ruling, facts.now)


def other_in(message: ActivityCreated, standing: Activity) -> str | None:
    """Why this is no repeat of what made the activity that has its id; None if it is one."""
    for name in ("contact_id", "subject_id"):
        if getattr(message, name) != getattr(standing, name):
            return f"There is an activity with id {standing.activity_id!r}, and its {name} is another."
    return None


def unknown_in(message: ActivityCreated, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Kind and id of what a manual activity names and nobody knows: people could not complete it, or not by
    the rules that it has. An automated one is made, and the gate waits."""
    if message.mode is not Mode.MANUAL:
        return
    if message.subject_id not in catalog.subjects:
        yield "subject", message.subject_id
    if message.campaign_id is not None and message.campaign_id not in catalog.campaigns:
        yield "campaign", message.campaign_id


def needs_gate(message: ActivityCreated, now: datetime) -> bool:
    return message.mode is Mode.AUTOMATED and message.scheduled_at <= now


def fault_in(message: ActivityCreated, channels: frozenset[str]) -> str | None:
    """Why this can never be worked; None if it can."""
    if not is_own_id(message.activity_id):
        return f"activity_id: {OWN_ID_RULE}"
    if not is_own_id(message.contact_id):
        return f"contact_id: {OWN_ID_RULE}"
    for name in ("created_by", "owner"):
        if getattr(message, name) == "":
            return f"{name}: must not be empty"
    for name, longest in _LONGEST.items():
        if len(getattr(message, name) or "") > longest:
            return f"{name}: must have at most {longest} characters"
    if message.attempt_number >= 2**63:
        return "attempt_number: must be at most 9223372036854775807"
    if message.mode is not Mode.AUTOMATED:
        return None
    if message.channel is None:
        return "an automated activity needs a channel"
    if message.channel not in channels:
        return f"no channel {message.channel!r} is connected here; there is {', '.join(sorted(channels))}"
    return None


def crowded_in(batch: Sequence[ActivityCreated]) -> frozenset[str]:
    first: dict[str, str] = {}
    crowded = set()
    for message in batch:
        slot = slot_of(message.contact_id, message.subject_id)
        if first.setdefault(slot, message.activity_id) != message.activity_id and message.exclusive:
            crowded.add(message.activity_id)
    return frozenset(crowded)
