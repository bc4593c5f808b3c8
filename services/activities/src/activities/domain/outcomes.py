"""What becomes of what a channel reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from activities.domain.activity import Activity
from activities.domain.captured import faults_in
from activities.domain.catalog import Catalog, Contact
from activities.domain.moves import complete_by_channel, fail, give_back, lose_track, note_late, progress
from contracts.activities import ActivityOutcome, ActivityProgressed, ActivityReturned
from contracts.campaigns import DispositionChanged
from contracts.vocabulary import ActivityState, Picker
from servicekit.verdict import GiveUp, TryAgain, Unchanged, Verdict

Report = ActivityProgressed | ActivityReturned | ActivityOutcome
PROGRAMS = frozenset({Picker.AGENT, Picker.SYSTEM})
PEOPLE = frozenset({Picker.PERSON})


@dataclass(frozen=True, slots=True)
class OutcomeFacts:
    now: datetime
    catalog: Catalog
    contacts: Mapping[str, Contact]


@dataclass(frozen=True, slots=True)
class NotMade(TryAgain):
    """The activity is not there: its creation may be on the way."""


def hear(message: Report, state: Activity | None, facts: OutcomeFacts) -> Verdict[Activity]:
    if state is None:
        return NotMade(f"activity {message.activity_id} is unknown", after=0.15)
    if state.contact_id != message.contact_id:
        return GiveUp("wrong_contact", "contact_id is not the contact of this activity")
    if isinstance(message, ActivityProgressed):
        return progress(state, message, facts.now)
    if isinstance(message, ActivityReturned):
        return give_back(state, message, facts.now)
    if state.is_final:
        return note_late(state, message, facts.now)
    told = message.dispatch_number
    if told is not None and told > state.dispatch_number:
        return GiveUp("unknown_dispatch", f"the newest dispatch is {state.dispatch_number}")
    if told is not None and (told < state.dispatch_number or state.state is ActivityState.SCHEDULED):
        return Unchanged(f"given back, or dispatched again: {state.dispatch_number}")
    # What was in doubt may be told under the same id once it is known, and the doubt itself comes again.
    if message.result == "unknown" and message.outcome_id == state.outcome_id:
        return Unchanged("repeat")
    match message.result:
        case "failed":
            if not message.reason:
                return GiveUp("reason_missing", "a failed outcome needs a reason")
            return fail(state, message, facts.now)
        case "unknown":
            return lose_track(state, message, facts.now)
        case "completed":
            return _complete(message, state, facts)


def _complete(message: ActivityOutcome, state: Activity, facts: OutcomeFacts) -> Verdict[Activity]:
    try:
        disposition = ending(state, message.disposition, message.captured, PROGRAMS, facts.catalog)
    except NotInCatalog as missing:
        return TryAgain(str(missing), after=0.15)
    except BadEnding as wrong:
        return GiveUp(wrong.code, str(wrong))
    contact = facts.contacts.get(message.contact_id)
    return complete_by_channel(state, message, disposition, contact.time_zone if contact else None, facts.now)


class BadEnding(Exception):
    """An activity cannot end like this. `code` is stable, for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class NotInCatalog(BadEnding):
    """What it refers to is not in the catalogue (yet)."""


def ending(
    activity: Activity,
    code: str | None,
    captured: dict[str, Any],
    picker: frozenset[Picker],
    catalog: Catalog,
) -> DispositionChanged:
    """The disposition that an activity may end with. Raises BadEnding."""
    disposition = allowed_disposition(activity, code, picker, catalog)
    subject = catalog.subjects.get(activity.subject_id)
    if subject is None:
        raise NotInCatalog("unknown_subject", f"The subject {activity.subject_id} is not in the catalogue.")
    if faults := faults_in(captured, subject):
        raise BadEnding("invalid_captured", "; ".join(faults[:10]))
    return disposition


def allowed_disposition(
    activity: Activity, code: str | None, picker: frozenset[Picker], catalog: Catalog
) -> DispositionChanged:
    """Raises BadEnding."""
    if code is None:
        raise BadEnding("disposition_missing", "A completed activity needs a disposition.")
    campaign = catalog.campaigns.get(activity.campaign_id or "")
    if campaign and campaign.dispositions and code not in campaign.dispositions:
        raise BadEnding(
            "disposition_not_allowed",
            f"The campaign {campaign.code} does not allow the disposition {code!r}; "
            f"it allows {', '.join(campaign.dispositions)}.",
        )
    disposition = catalog.dispositions.get(code)
    if disposition is None:
        raise NotInCatalog("unknown_disposition", f"There is no disposition {code!r} in the catalogue.")
    if not picker & set(disposition.pickable_by):
        raise BadEnding(
            "disposition_not_pickable",
            f"The disposition {code!r} may be picked by {', '.join(disposition.pickable_by)} only.",
        )
    return disposition
