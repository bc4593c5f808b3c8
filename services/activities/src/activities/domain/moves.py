"""The life of an activity: every move it can make, each a new state and what the world is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from activities.domain.activity import Activity, AuditEntry, AuditWord, LastVerdict, LateOutcome
from activities.domain.announcements import changed, completed, decided, dispatched, interaction, verdict_of
from activities.domain.gate import Allow, Defer, Deny, Ruling, pause_after
from contracts.activities import ActivityOutcome, ActivityProgressed, ActivityRecalled, ActivityReturned
from contracts.campaigns import DispositionChanged
from contracts.message import Message, copied
from contracts.reasons import Objection, Skipped, in_our_words
from contracts.vocabulary import FINAL_STATES, NAMELESS, URGENCY_RANK, ActivityState, Mode, Urgency
from servicekit.verdict import Become, GiveUp, Unchanged, Verdict, Write, following

SLOTS = "slots"
_AUDIT_LIMIT = 200
_LATE_LIMIT = 10
_LONGEST_NAME = 200

S = ActivityState
_OPEN = frozenset(ActivityState) - FINAL_STATES
_WITH_PEOPLE = frozenset({S.AVAILABLE, S.ASSIGNED, S.IN_PROGRESS})


class Move(StrEnum):
    """What can be asked of an activity, in the words of the refusal."""

    JUDGE = "judge"
    OFFER = "offer"
    CLAIM = "claim"
    RELEASE = "release"
    START = "start"
    PROGRESS = "progress"
    RETURN = "return"
    COMPLETE = "complete"
    REPORT = "report an outcome of"
    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    CORRECT = "correct"
    PURGE = "purge"


MAY: dict[Move, dict[Mode, frozenset[ActivityState]]] = {
    Move.JUDGE: {Mode.AUTOMATED: frozenset({S.SCHEDULED})},
    Move.OFFER: {Mode.MANUAL: frozenset({S.SCHEDULED})},
    Move.CLAIM: {Mode.MANUAL: frozenset({S.AVAILABLE})},
    Move.RELEASE: {Mode.MANUAL: frozenset({S.ASSIGNED, S.IN_PROGRESS})},
    Move.START: {Mode.MANUAL: frozenset({S.AVAILABLE, S.ASSIGNED})},
    Move.PROGRESS: {Mode.AUTOMATED: frozenset({S.DISPATCHED, S.IN_PROGRESS})},
    Move.RETURN: {Mode.AUTOMATED: frozenset({S.DISPATCHED, S.IN_PROGRESS, S.OUTCOME_UNKNOWN})},
    Move.COMPLETE: {Mode.MANUAL: _WITH_PEOPLE, Mode.AUTOMATED: frozenset({S.OUTCOME_UNKNOWN})},
    Move.REPORT: {Mode.MANUAL: _OPEN, Mode.AUTOMATED: _OPEN},
    Move.CANCEL: {Mode.MANUAL: _OPEN, Mode.AUTOMATED: _OPEN},
    Move.RESCHEDULE: {
        Mode.MANUAL: frozenset({S.SCHEDULED, S.AVAILABLE, S.ASSIGNED}),
        Mode.AUTOMATED: frozenset({S.SCHEDULED}),
    },
    Move.CORRECT: {Mode.MANUAL: frozenset({S.COMPLETED}), Mode.AUTOMATED: frozenset({S.COMPLETED})},
    Move.PURGE: {
        Mode.MANUAL: FINAL_STATES - {S.PURGED},
        Mode.AUTOMATED: FINAL_STATES - {S.PURGED},
    },
}
"""From which states a move is legal; a mode that is absent never makes it."""

_FORGOTTEN: dict[str, Any] = {
    "destination": None,
    "instructions": "",
    "notes": "",
    "captured": {},
    "preparation_notes": "",
    "transcript_id": None,
}
"""What was said of and to a person, and where they are reached."""

_OUR_BEGINNINGS = ("deferred", "denied", "returned")
"""Of reasons that go on in the words of the gate or of a channel."""

_BY_PEOPLE = (Move.CLAIM, Move.START, Move.COMPLETE)
_PROGRESS = (S.DISPATCHED, S.IN_PROGRESS, S.AWAITING_REPLY)


class IllegalMove(Exception):
    """The life of an activity has no such turn."""

    def __init__(self, activity: Activity, move: Move) -> None:
        self.activity_id = activity.activity_id
        self.state = activity.state
        self.mode = activity.mode
        self.move = move
        self.legal = sorted(MAY[move].get(activity.mode, ()))
        right = f"only one that is {' or '.join(self.legal)}" if self.legal else "that is never done"
        kind = "an automated" if activity.mode is Mode.AUTOMATED else "a manual"
        stands = str(activity.state)
        if activity.state is S.SCHEDULED:
            stands += f" for {activity.due_at:%Y-%m-%d %H:%M} UTC"
            if move in _BY_PEOPLE:
                right += ", and it can be rescheduled to an earlier time"
        super().__init__(f"Cannot {move} {kind} activity that is {stands}; {right}.")


class Taken(Exception):
    """Somebody else has it."""

    def __init__(self, activity: Activity) -> None:
        self.activity_id = activity.activity_id
        self.taken_by = activity.assigned_to
        super().__init__(f"The activity is taken by {activity.assigned_to!r}.")


def check(activity: Activity, move: Move) -> None:
    """Raises IllegalMove."""
    if activity.state not in MAY[move].get(activity.mode, ()):
        raise IllegalMove(activity, move)


# Coming to life


def come_to_life(activity: Activity, ruling: Ruling | None, now: datetime) -> Become[Activity]:
    """The first write of an activity: as far as it gets at once, all of it in version 1.

    ruling: what the gate says, for an automated one that is due.
    """
    messages: list[Message] = []
    if ruling is not None:
        activity, messages = _judged(activity, ruling, now, activity.version)
    elif activity.mode is Mode.MANUAL and activity.due_at <= now:
        activity = copied(activity, _offered(activity, now))
    return Become(activity, (*messages, changed(activity)), _hold_slot(activity))


def refuse_as_duplicate(activity: Activity) -> Become[Activity]:
    """The duplicate rule: the contact has an open activity of the same subject."""
    refused = copied(activity, {"state": S.CANCELLED, "reason": Skipped.DUPLICATE.value})
    return Become(refused, (changed(refused),))


def refuse_as_erased(activity: Activity) -> Become[Activity]:
    """Nobody works for somebody who was erased."""
    refused = copied(activity, {"state": S.CANCELLED, "reason": Objection.CONTACT_ERASED.value, **_FORGOTTEN})
    return Become(refused, (changed(refused),))


def judged(activity: Activity, ruling: Ruling, now: datetime) -> Become[Activity]:
    """What the gate said becomes of a scheduled automated activity.

    A repeated deferral for the same reason is a verdict, but no news about the activity.
    """
    check(activity, Move.JUDGE)
    after, messages = _judged(activity, ruling, now, activity.version + 1)
    if (after.state, after.reason) != (activity.state, activity.reason):
        messages.append(changed(after))
    return Become(after, tuple(messages), _release_slot(activity, after))


def _judged(
    activity: Activity, ruling: Ruling, now: datetime, version: int
) -> tuple[Activity, list[Message]]:
    verdict, reason = verdict_of(ruling)
    until = ruling.until if isinstance(ruling, Defer) else None
    changes: dict[str, Any] = {
        "version": version,
        "changed_at": now,
        "last_verdict": LastVerdict(
            verdict=verdict, reason=reason, until=until, decided_at=now, inputs=ruling.inputs
        ),
        "hold": None,
        "awaits_contact": False,
    }
    match ruling:
        case Allow():
            changes |= {
                "state": S.DISPATCHED,
                "reason": None,
                "deferrals": 0,
                "dispatch_number": activity.dispatch_number + 1,
                "endpoint_id": ruling.endpoint_id,
                "started_at": activity.started_at or now,
            }
        case Deny():
            changes |= {"state": S.CANCELLED, "reason": f"denied: {reason}"}
            if reason == Objection.CONTACT_ERASED:
                changes |= _FORGOTTEN
        case Defer():
            why = f"deferred: {reason}"
            changes |= {
                "reason": why,
                "deferrals": activity.deferrals + 1 if activity.reason == why else 1,
                "hold": ruling.hold,
                "awaits_contact": ruling.awaits_contact,
            }
            if ruling.until is not None:
                changes["due_at"] = ruling.until
        case _:
            assert_never(ruling)
    after = copied(activity, changes)
    messages: list[Message] = [decided(after, ruling, now)]
    if isinstance(ruling, Allow):
        messages.append(dispatched(after, ruling, now))
    return after, messages


def _offered(activity: Activity, now: datetime) -> dict[str, Any]:
    if activity.assigned_to is None:
        return {"state": S.AVAILABLE, "reason": None}
    return {
        "state": S.ASSIGNED,
        "reason": None,
        "audit": _with(activity, "assigned", activity.assigned_to, now),
    }


# Worked by a person


def offer(activity: Activity, now: datetime) -> Become[Activity]:
    """Its time has come: to its owner, or to whoever claims it."""
    check(activity, Move.OFFER)
    return _moved(activity, now, **_offered(activity, now))


def claim(activity: Activity, agent: str, now: datetime) -> Become[Activity] | Unchanged:
    if activity.state in (S.ASSIGNED, S.IN_PROGRESS) and activity.mode is Mode.MANUAL:
        if activity.assigned_to == agent:
            return Unchanged("already theirs")
        raise Taken(activity)
    check(activity, Move.CLAIM)
    return _moved(
        activity,
        now,
        state=S.ASSIGNED,
        assigned_to=agent,
        audit=_with(activity, "assigned", agent, now),
    )


def release(activity: Activity, agent: str | None, now: datetime) -> Become[Activity]:
    check(activity, Move.RELEASE)
    _check_theirs(activity, agent)
    who = agent or activity.assigned_to or "somebody"
    return _moved(
        activity, now, state=S.AVAILABLE, assigned_to=None, audit=_with(activity, "released", who, now)
    )


def start(activity: Activity, agent: str, now: datetime) -> Become[Activity] | Unchanged:
    if activity.state is S.IN_PROGRESS and activity.mode is Mode.MANUAL and activity.assigned_to == agent:
        return Unchanged("already started")
    _check_theirs(activity, agent)
    check(activity, Move.START)
    return _moved(
        activity,
        now,
        state=S.IN_PROGRESS,
        assigned_to=agent,
        started_at=activity.started_at or now,
        audit=_with(activity, "started", agent, now),
    )


def complete(
    activity: Activity,
    disposition: DispositionChanged,
    actor: str,
    now: datetime,
    *,
    notes: str = "",
    captured: dict[str, Any] | None = None,
    preparation_notes: str = "",
    follow_up_at: datetime | None = None,
    incoming: bool = False,
    contact_time_zone: str | None = None,
) -> Become[Activity]:
    """By a person: their own work, or what a channel could not find out and leaves alone from now on."""
    check(activity, Move.COMPLETE)
    _check_theirs(activity, actor)
    finished = _finished(
        activity,
        disposition,
        now,
        contact_time_zone,
        notes=notes or activity.notes,
        captured={**activity.captured, **(captured or {})},
        preparation_notes=preparation_notes,
        follow_up_at=follow_up_at,
        incoming=incoming,
        reason=None,
        completed_at=now,
        completed_by=actor,
    )
    return _called_back(activity, finished, "completed by a person", now)


def cancel(activity: Activity, reason: str, actor: str, now: datetime) -> Become[Activity]:
    """What a channel has in hand is called back from there as well."""
    check(activity, Move.CANCEL)
    cancelled = _moved(
        activity,
        now,
        state=S.CANCELLED,
        reason=reason,
        hold=None,
        awaits_contact=False,
        audit=_with(activity, "cancelled", actor, now),
    )
    return _called_back(activity, cancelled, reason, now)


def reschedule(
    activity: Activity,
    scheduled_at: datetime,
    actor: str,
    now: datetime,
    urgency: Urgency | None = None,
) -> Become[Activity]:
    """To another time; what is due at once is looked at by the scheduler at once."""
    check(activity, Move.RESCHEDULE)
    urgency = urgency or activity.urgency
    return _moved(
        activity,
        now,
        state=S.SCHEDULED,
        reason=None,
        scheduled_at=scheduled_at,
        due_at=scheduled_at,
        urgency=urgency,
        rank=URGENCY_RANK[urgency],
        hold=None,
        awaits_contact=False,
        deferrals=0,
        audit=_with(activity, "rescheduled", actor, now),
    )


def correct(
    activity: Activity,
    actor: str,
    now: datetime,
    *,
    disposition: DispositionChanged | None = None,
    notes: str | None = None,
) -> Become[Activity]:
    """Mends what was written down; no flow runs again."""
    check(activity, Move.CORRECT)
    after = following(
        activity,
        changed_at=now,
        notes=activity.notes if notes is None else notes,
        disposition=activity.disposition if disposition is None else disposition.code,
        audit=_with(activity, "corrected", actor, now),
    )
    logged = interaction(after, disposition) if disposition else None
    return Become(after, (changed(after), *((logged,) if logged else ())))


def purge(activity: Activity, actor: str, now: datetime) -> Become[Activity] | Unchanged:
    """Forgets what was said, and keeps who did what when. Again, it forgets what an earlier release kept."""
    forgotten = _forgotten(activity)
    if activity.state is not S.PURGED:
        check(activity, Move.PURGE)
    elif copied(activity, forgotten) == activity:
        return Unchanged("already purged")
    return _moved(
        activity,
        now,
        state=S.PURGED,
        **forgotten,
        audit=_with(activity, "purged", actor, now),
    )


def _forgotten(activity: Activity) -> dict[str, Any]:
    """Reasons too, as far as they are not in our own words: people name names in theirs."""
    late = (copied(each, {"reason": in_our_words(each.reason)}) for each in activity.late_outcomes)
    return {
        **_FORGOTTEN,
        "reason": in_our_words(activity.reason, *_OUR_BEGINNINGS),
        "late_outcomes": tuple(late),
    }


# Worked by a channel


def progress(activity: Activity, message: ActivityProgressed, now: datetime) -> Become[Activity] | Unchanged:
    """Forward only."""
    told = ActivityState(message.state)
    if activity.mode is not Mode.AUTOMATED or activity.state not in MAY[Move.PROGRESS][Mode.AUTOMATED]:
        return Unchanged(f"already {activity.state}")
    if _PROGRESS.index(told) <= _PROGRESS.index(activity.state):
        return Unchanged(f"already {activity.state}")
    return _moved(activity, now, state=told)


_DOUBLINGS_FOR_LATE_COPIES = 4
"""Half a minute: who waits for a copy that is late need not wait longer than that."""
_PATIENT_DISPATCHES = 9
"""From then on it is no late copy any more."""


def give_back(activity: Activity, message: ActivityReturned, now: datetime) -> Verdict[Activity]:
    """Not begun in time, or proven so later: due again, so that the gate says when."""
    if message.dispatch_number > activity.dispatch_number:
        return GiveUp("unknown_dispatch", f"the newest dispatch is {activity.dispatch_number}")
    if activity.dispatch_number != message.dispatch_number:
        return Unchanged(f"dispatched again: {activity.dispatch_number}")
    if activity.state is S.AWAITING_REPLY:
        return GiveUp("already_begun", "it awaits a reply, so somebody was reached: report an outcome")
    if activity.state not in MAY[Move.RETURN].get(activity.mode, ()):
        return Unchanged(f"already {activity.state}")
    # Whoever gave it back may know what the gate does not know yet: they do not chase each other.
    due_at = now + _pause_after_return(message.reason, activity.dispatch_number)
    return _moved(activity, now, state=S.SCHEDULED, due_at=due_at, reason=f"returned: {message.reason}")


def _pause_after_return(reason: str, dispatches: int) -> timedelta:
    if reason == Objection.OUTSIDE_WINDOW:
        return pause_after(0)  # the gate says when, if only its clock shows what the other's did
    if dispatches <= _PATIENT_DISPATCHES:
        return pause_after(min(dispatches - 1, _DOUBLINGS_FOR_LATE_COPIES))
    return pause_after(dispatches - _PATIENT_DISPATCHES + _DOUBLINGS_FOR_LATE_COPIES)


def complete_by_channel(
    activity: Activity,
    outcome: ActivityOutcome,
    disposition: DispositionChanged,
    contact_time_zone: str | None,
    now: datetime,
) -> Become[Activity]:
    check(activity, Move.REPORT)
    return _finished(
        activity,
        disposition,
        now,
        contact_time_zone,
        notes=outcome.notes,
        captured=outcome.captured,
        transcript_id=outcome.transcript_id,
        outcome_id=outcome.outcome_id,
        reason=None,
        completed_at=min(outcome.occurred_at, now),
        completed_by=_who(outcome),
    )


def fail(activity: Activity, outcome: ActivityOutcome, now: datetime) -> Become[Activity]:
    check(activity, Move.REPORT)
    return _moved(
        activity,
        now,
        state=S.FAILED,
        reason=outcome.reason,
        notes=outcome.notes,
        transcript_id=outcome.transcript_id,
        outcome_id=outcome.outcome_id,
        hold=None,
        awaits_contact=False,
        audit=_with(activity, "failed", _who(outcome), now),
    )


def lose_track(activity: Activity, outcome: ActivityOutcome, now: datetime) -> Become[Activity] | Unchanged:
    """A side effect may or may not have happened: it rests until somebody finds out."""
    if activity.state is S.OUTCOME_UNKNOWN:
        return Unchanged("already outcome_unknown")
    check(activity, Move.REPORT)
    return _moved(
        activity,
        now,
        state=S.OUTCOME_UNKNOWN,
        reason=outcome.reason or "outcome_unknown",
        notes=outcome.notes,
        outcome_id=outcome.outcome_id,
        transcript_id=outcome.transcript_id,
    )


def note_late(activity: Activity, outcome: ActivityOutcome, now: datetime) -> Become[Activity] | Unchanged:
    """What was called off stays as it was then. What came of the channel's work after that, by its clock, is
    kept beside it. What came of it before changes nothing: whether it had another answer then or was on its
    way cannot be told once a topic is read again."""
    known = {each.outcome_id for each in activity.late_outcomes}
    called_off = activity.state in (S.CANCELLED, S.EXPIRED) and outcome.occurred_at > activity.changed_at
    of_this_dispatch = outcome.dispatch_number in (None, activity.dispatch_number)
    has_room = len(activity.late_outcomes) < _LATE_LIMIT
    is_news = outcome.outcome_id not in known
    if outcome.result == "unknown" or not (is_news and called_off and of_this_dispatch and has_room):
        return Unchanged(f"already final: {activity.state}")
    late = LateOutcome(
        outcome_id=outcome.outcome_id,
        result=outcome.result,
        disposition=outcome.disposition,
        reason=outcome.reason,
        actor=_who(outcome),
        occurred_at=outcome.occurred_at,
        told_at=now,
    )
    return Become(following(activity, late_outcomes=(*activity.late_outcomes, late)))


def _who(outcome: ActivityOutcome) -> str:
    """An outcome is not refused for the name under which it was worked."""
    return outcome.actor[:_LONGEST_NAME] or NAMELESS


# What the moves share


def _finished(
    activity: Activity,
    disposition: DispositionChanged,
    now: datetime,
    contact_time_zone: str | None,
    **changes: Any,
) -> Become[Activity]:
    after = following(
        activity,
        **changes,
        changed_at=now,
        state=S.COMPLETED,
        disposition=disposition.code,
        hold=None,
        awaits_contact=False,
        started_at=activity.started_at or now,
        audit=_with(activity, "completed", changes["completed_by"], now),
    )
    messages: list[Message] = [completed(after, disposition, contact_time_zone), changed(after)]
    logged = interaction(after, disposition)
    if logged and not logged.deleted:
        messages.append(logged)
    return Become(after, tuple(messages), _release_slot(activity, after))


def _moved(activity: Activity, now: datetime, **changes: Any) -> Become[Activity]:
    after = following(activity, **changes, changed_at=now)
    return Become(after, (changed(after),), _release_slot(activity, after))


def _called_back(activity: Activity, ended: Become[Activity], reason: str, now: datetime) -> Become[Activity]:
    """Ended by people, and a channel may have it in hand."""
    if activity.mode is not Mode.AUTOMATED or activity.state is S.SCHEDULED or activity.channel is None:
        return ended
    recalled = ActivityRecalled(
        activity_id=activity.activity_id,
        contact_id=activity.contact_id,
        channel=activity.channel,
        reason=reason,
        recalled_at=now,
    )
    return replace(ended, messages=(*ended.messages, recalled))


def _check_theirs(activity: Activity, agent: str | None) -> None:
    held = activity.state in (S.ASSIGNED, S.IN_PROGRESS) and activity.mode is Mode.MANUAL
    if held and agent is not None and activity.assigned_to not in (None, agent):
        raise Taken(activity)


def _with(activity: Activity, what: AuditWord, who: str, at: datetime) -> Sequence[AuditEntry]:
    entry = AuditEntry(what=what, who=who, at=at)
    return (*activity.audit[:1], *activity.audit[1:][2 - _AUDIT_LIMIT :], entry)


def _hold_slot(begun: Activity) -> tuple[Write, ...]:
    """Every open activity holds the slot of its contact and subject; an exclusive one finds it empty."""
    if begun.is_final:
        return ()
    hold = Write.joining_empty if begun.exclusive else Write.joining
    return (hold(SLOTS, begun.slot, "holders", begun.activity_id),)


def _release_slot(before: Activity, after: Activity) -> tuple[Write, ...]:
    if before.is_final or not after.is_final:
        return ()
    return (Write.leaving(SLOTS, after.slot, "holders", after.activity_id),)
