"""What follows for an intent, and for its conversation, from what became of a send."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from channel_sms.domain.conversation import (
    Conversation,
    Ending,
    ended,
    given_back,
)
from channel_sms.domain.intent import (
    DeliveryStatus,
    Intent,
    IntentState,
    announce_sent,
    recorded,
)
from contracts.campaigns import SubjectChanged
from contracts.message import Message
from contracts.reasons import Objection


@dataclass(frozen=True, slots=True)
class Sent:
    provider_message_id: str | None
    status: DeliveryStatus = "sent"
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Unsent:
    """Provably not sent: it may be tried again while there is time."""

    reason: str
    wait_seconds: float = 0.0
    by: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedForGood:
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    reason: str


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Not sent, because the contact or the address opted out."""


@dataclass(frozen=True, slots=True)
class TooLate:
    """Not sent, because the policy gate, which allowed it, would not do so any more when its turn came."""

    objection: Objection


@dataclass(frozen=True, slots=True)
class Pointless:
    """Not sent, because its conversation ended while nobody knew whether it was, or while it was tried."""


Settlement = Sent | Unsent | RefusedForGood | InDoubt | Suppressed | TooLate | Pointless

_FIRST_LOOK = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes of the intent, of its conversation, and what is told."""

    intent: dict[str, Any]
    messages: tuple[Message, ...] = ()
    conversation: Conversation | None = None
    awaits_reply_until: datetime | None = None
    """Set when the conversation, if this intent is still the one it waits for, now waits for its contact."""


@dataclass(frozen=True, slots=True)
class Context:
    """conversation and subject are only needed where `ends_conversation` says so."""

    now: datetime
    real_now: datetime
    conversation: Conversation | None = None
    subject: SubjectChanged | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def is_open_to(intent: Intent, settlement: Settlement) -> bool:
    """Whether an intent can still settle this way; a repeat or a loser of a race cannot.

    Another replica may have taken it for lost and put it in doubt: whoever claimed it knows better.
    """
    if isinstance(settlement, InDoubt):
        return intent.state is IntentState.SENDING
    return intent.state in (IntentState.SENDING, IntentState.UNKNOWN)


def ends_conversation(intent: Intent, settlement: Settlement, real_now: datetime) -> bool:
    match settlement:
        case Sent() | InDoubt() | Pointless():
            return False
        case Unsent(_, wait):
            return real_now + timedelta(seconds=wait) >= intent.expires_real_at
        case _:
            return True


def settle(intent: Intent, settlement: Settlement, context: Context) -> Plan:
    """Pure; the caller has checked `is_open_to`."""
    match settlement:
        case Sent():
            return _sent(intent, settlement)
        case InDoubt(reason):
            return Plan(
                {
                    "state": IntentState.UNKNOWN,
                    "error": reason,
                    "unknown_real_at": context.real_now,
                    "look_real_at": context.real_now + _FIRST_LOOK,
                    "looks": 0,
                }
            )
        case Unsent(reason, wait, by):
            if ends_conversation(intent, settlement, context.real_now):
                return _end(intent, context, IntentState.EXPIRED, reason, Ending(None, "not_sent_in_time"))
            retry = context.real_now + timedelta(seconds=wait)
            changes: dict[str, Any] = {"state": IntentState.PENDING, "error": reason, "retry_real_at": retry}
            return Plan(changes if by is None else {**changes, "resolved_by": by})
        case RefusedForGood(code, reason):
            disposition = context.subject.undeliverable_disposition if context.subject else None
            ending = Ending(disposition, f"refused: {code}", notes="The provider refused the message.")
            plan = _end(intent, context, IntentState.REFUSED, f"{code} {reason}".strip(), ending)
            version = intent.message_version + 1
            told = recorded(intent, "failed", version)
            changes = {**plan.intent, "status": "failed", "message_version": version}
            return Plan(changes, (told, *plan.messages), plan.conversation)
        case Suppressed():
            disposition = context.subject.opt_out_disposition if context.subject else None
            return _end(intent, context, IntentState.CANCELLED, "opted out", Ending(disposition, "opted_out"))
        case TooLate(objection):
            return _give_back(intent, context, objection)
        case Pointless():
            return Plan({"state": IntentState.CANCELLED, "error": "the conversation has ended"})
        case _:
            assert_never(settlement)


def _sent(intent: Intent, sent: Sent) -> Plan:
    changes: dict[str, Any] = {
        "state": IntentState.SENT,
        "status": sent.status,
        "message_version": intent.message_version + 1,
    }
    if sent.provider_message_id is not None:
        intent = replace(intent, provider_message_id=sent.provider_message_id)
        changes["provider_message_id"] = sent.provider_message_id
    if sent.by is not None:
        changes["resolved_by"] = sent.by
    until = None
    if intent.no_response_seconds is not None:
        until = intent.occurred_at + timedelta(seconds=intent.no_response_seconds)
    return Plan(changes, announce_sent(intent, sent.status), awaits_reply_until=until)


def _end(intent: Intent, context: Context, state: IntentState, error: str, ending: Ending) -> Plan:
    changes: dict[str, Any] = {"state": state, "error": error}
    if (conversation := _waiting_for(intent, context)) is None:
        return Plan(changes)
    concluded, outcome = ended(conversation, ending, context.now)
    return Plan(changes, (outcome,), concluded)


def _give_back(intent: Intent, context: Context, objection: Objection) -> Plan:
    changes: dict[str, Any] = {"state": IntentState.CANCELLED, "error": objection.value}
    if (conversation := _waiting_for(intent, context)) is None:
        return Plan(changes)
    concluded, returned = given_back(conversation, objection, context.now)
    return Plan(changes, (returned,), concluded)


def _waiting_for(intent: Intent, context: Context) -> Conversation | None:
    conversation = context.conversation
    if conversation is None or not conversation.is_open or conversation.intent_id != intent.intent_id:
        return None
    return conversation


_BETWEEN_LOOKS = timedelta(seconds=2)


def next_look(looks: int, real_now: datetime) -> datetime:
    """Soon at first, then each minute."""
    return real_now + timedelta(seconds=min(60.0, 1.5**looks))


def is_proven_absent(intent: Intent, absence_proves_after: float | None, real_now: datetime) -> bool:
    """Whether a look-up that found nothing now, like an earlier one, means that nothing was sent.

    Two looks, both late enough, some time apart: one may have been answered ahead of the request itself.
    """
    if absence_proves_after is None or intent.claimed_real_at is None:
        return False
    late_enough = intent.claimed_real_at + timedelta(seconds=absence_proves_after)
    if real_now < late_enough or intent.absent_real_at is None:
        return False
    return intent.absent_real_at >= late_enough and real_now - intent.absent_real_at >= _BETWEEN_LOOKS
