"""The life of a conversation: one per activity, from its opening to its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from channel_sms.domain.dialogue import Conclude, Dialogue, HandOver, Say
from channel_sms.domain.intent import CHANNEL, Intent, Purpose, new_intent
from contracts.activities import ActivityCreated, ActivityDispatched, ActivityOutcome, ActivityReturned
from contracts.campaigns import EndpointChanged, SubjectChanged
from contracts.channels import KIND_OF_CHANNEL
from contracts.message import Message, copied, stable_id
from contracts.opening import filled
from contracts.reasons import Objection, in_our_words
from contracts.vocabulary import (
    ActivityId,
    CampaignId,
    ContactId,
    EndpointId,
    Mode,
    Source,
    SubjectId,
)
from servicekit.verdict import following

AGENT = "automated-agent"
SYSTEM = "system"

_OUR_WORDS = (
    *("agent_concluded", "handed_over", "no_opening", "no_response", "not_sent_in_time"),
    *("provider_not_configured", "recalled", "refused", "returned", "send_result_unknown", "undelivered"),
)
"""Of reasons, or how they begin: some go on in the words of a person, of an agent or of the carrier."""


class ConversationState(StrEnum):
    OPENING = "opening"
    """Our first message is on its way."""
    AWAITING_REPLY = "awaiting_reply"
    REPLYING = "replying"
    """A reply of ours is on its way."""
    CONCLUDED = "concluded"


class AlreadyConcluded(Exception):
    """A conversation ends once."""

    def __init__(self, activity_id: str) -> None:
        super().__init__(f"the conversation of activity {activity_id} has ended")
        self.activity_id = activity_id


class Conversation(BaseModel):
    model_config = ConfigDict(frozen=True)

    activity_id: str
    version: int
    contact_id: str
    subject_id: str
    campaign_id: str | None = None
    agent_profile_id: str | None = None
    endpoint_id: str
    our_address: str
    their_address: str
    dispatch_number: int
    attempt_number: int = 1
    root_id: str | None = None
    """The first activity of the chain; None for the first itself."""
    chain_depth: int = 0
    state: ConversationState
    dialogue: Dialogue = Field(default_factory=Dialogue)
    intent_id: str | None = None
    """The message of ours that is on its way."""
    opening: str = ""
    deadline_at: datetime | None = None
    result: str | None = None
    disposition: str | None = None
    reason: str | None = None
    opened_at: datetime
    changed_at: datetime

    @property
    def is_open(self) -> bool:
        return self.state is not ConversationState.CONCLUDED

    def evolve(self, **changes: Any) -> Conversation:
        return following(self, **changes)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a conversation ends. Without a disposition it did not complete, and `reason` says why."""

    disposition: str | None
    reason: str
    actor: str = SYSTEM
    notes: str = ""
    result: Literal["completed", "failed", "unknown"] | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What an activity's dispatch leads to."""

    conversation: Conversation
    intent: Intent | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What has to be known to open a conversation."""

    subject: SubjectChanged
    endpoint: EndpointChanged
    contact: Mapping[str, Any]
    opted_out: bool
    refusal: str | None
    """Why nothing can be sent at all."""
    endpoint_disabled: bool
    """It may be enabled again: the gate is asked anew."""
    now: datetime
    expires_real_at: datetime


def open_conversation(message: ActivityDispatched, standing: Conversation | None, known: Known) -> Opening:
    """The conversation and the first message it intends, or the outcome if there can be none."""
    text = filled(known.subject.opening, known.contact)
    conversation = Conversation(
        activity_id=message.activity_id,
        version=standing.version + 1 if standing else 1,
        contact_id=message.contact_id,
        subject_id=message.subject_id,
        campaign_id=message.campaign_id,
        agent_profile_id=message.agent_profile_id,
        endpoint_id=message.endpoint_id,
        our_address=known.endpoint.address,
        their_address="" if known.contact.get("erased") else message.destination,
        dispatch_number=message.dispatch_number,
        attempt_number=message.attempt_number,
        root_id=message.root_id,
        chain_depth=message.chain_depth,
        state=ConversationState.OPENING,
        opening=text,
        opened_at=known.now,
        changed_at=known.now,
    )
    if ending := _obstacle(known, text):
        concluded, outcome = ended(conversation, ending, known.now)
        return Opening(copied(concluded, {"version": conversation.version}), None, (outcome,))
    if known.endpoint_disabled:
        concluded, returned = given_back(conversation, Objection.ENDPOINT_DISABLED, known.now)
        return Opening(copied(concluded, {"version": conversation.version}), None, (returned,))
    intent = new_intent(
        intent_id=stable_id("intent", message.activity_id, message.dispatch_number, 0),
        contact_id=message.contact_id,
        activity_id=message.activity_id,
        endpoint_id=message.endpoint_id,
        sender=known.endpoint.address,
        to=message.destination,
        text=text,
        purpose=Purpose.OPENING,
        created_at=known.now,
        send_at=known.now,
        expires_real_at=known.expires_real_at,
        not_after=message.not_after,
        campaign_id=message.campaign_id,
        subject_id=message.subject_id,
        no_response_seconds=known.subject.no_response_seconds,
    )
    return Opening(copied(conversation, {"intent_id": intent.intent_id}), intent)


def _obstacle(known: Known, text: str) -> Ending | None:
    if known.opted_out:
        return Ending(
            known.subject.opt_out_disposition, "opted_out", notes="Opted out before anything was sent."
        )
    if known.refusal:
        return Ending(None, known.refusal)
    if not text:
        return Ending(None, "no_opening", notes="The subject has no opening text.")
    return None


def ended(conversation: Conversation, ending: Ending, now: datetime) -> tuple[Conversation, ActivityOutcome]:
    """The concluded conversation and what is told about it. Raises AlreadyConcluded."""
    if not conversation.is_open:
        raise AlreadyConcluded(conversation.activity_id)
    result = ending.result or ("completed" if ending.disposition else "failed")
    captured = conversation.dialogue.captured
    outcome = ActivityOutcome(
        outcome_id=stable_id("outcome", conversation.activity_id, conversation.dispatch_number),
        activity_id=ActivityId(conversation.activity_id),
        contact_id=ContactId(conversation.contact_id),
        dispatch_number=conversation.dispatch_number,
        result=result,
        disposition=ending.disposition,
        notes=ending.notes,
        captured=captured,
        transcript_id=conversation.activity_id,
        reason=ending.reason,
        actor=ending.actor,
        occurred_at=now,
    )
    concluded = conversation.evolve(
        state=ConversationState.CONCLUDED,
        intent_id=None,
        deadline_at=None,
        result=result,
        disposition=ending.disposition,
        reason=ending.reason,
        changed_at=now,
    )
    return concluded, outcome


def given_back(
    conversation: Conversation, objection: Objection, now: datetime
) -> tuple[Conversation, ActivityReturned]:
    """Over before it began: a later dispatch begins it anew. Raises AlreadyConcluded."""
    if not conversation.is_open:
        raise AlreadyConcluded(conversation.activity_id)
    returned = ActivityReturned(
        activity_id=ActivityId(conversation.activity_id),
        contact_id=ContactId(conversation.contact_id),
        dispatch_number=conversation.dispatch_number,
        reason=objection.value,
        occurred_at=now,
    )
    return _without_outcome(conversation, f"returned: {objection}", now), returned


def recalled(conversation: Conversation, reason: str, now: datetime) -> Conversation:
    """Whoever cancelled the activity knows why."""
    return _without_outcome(conversation, f"recalled: {reason}", now)


def forgotten(conversation: Conversation, now: datetime) -> Conversation | None:
    """What stays when its contact is erased; None if that is all there is."""
    blank: dict[str, Any] = {
        "their_address": "",
        "opening": "",
        "dialogue": Dialogue(turns=conversation.dialogue.turns),
    }
    if conversation.is_open:
        return copied(recalled(conversation, Objection.CONTACT_ERASED, now), blank)
    blank["reason"] = in_our_words(conversation.reason, *_OUR_WORDS)
    if copied(conversation, blank) == conversation:
        return None
    return conversation.evolve(**blank, changed_at=now)


def _without_outcome(conversation: Conversation, reason: str, now: datetime) -> Conversation:
    return conversation.evolve(
        state=ConversationState.CONCLUDED, intent_id=None, deadline_at=None, reason=reason, changed_at=now
    )


def unknown_outcome(conversation: Conversation, intent_id: str, now: datetime) -> ActivityOutcome:
    """Nobody could find out whether a message was sent. The conversation stays open: an answer may come."""
    return ActivityOutcome(
        outcome_id=stable_id("outcome-unknown", intent_id),
        activity_id=ActivityId(conversation.activity_id),
        contact_id=ContactId(conversation.contact_id),
        dispatch_number=conversation.dispatch_number,
        result="unknown",
        captured=conversation.dialogue.captured,
        transcript_id=conversation.activity_id,
        reason="send_result_unknown",
        actor=SYSTEM,
        occurred_at=now,
    )


def replied(
    conversation: Conversation,
    say: Say,
    inbound_id: str,
    subject: SubjectChanged,
    now: datetime,
    expires_real_at: datetime,
) -> tuple[Conversation, Intent]:
    """The agent's next message: one per inbound message, since its id is made from that."""
    intent = reply_intent(
        conversation, Purpose.REPLY, say.text, inbound_id, now, subject.reply_delay_seconds, expires_real_at
    )
    following = conversation.evolve(
        state=ConversationState.REPLYING,
        dialogue=say.dialogue,
        intent_id=intent.intent_id,
        deadline_at=None,
        changed_at=now,
    )
    return following, replace(intent, no_response_seconds=subject.no_response_seconds)


def reply_intent(
    conversation: Conversation,
    purpose: Purpose,
    text: str,
    inbound_id: str,
    now: datetime,
    delay_seconds: float,
    expires_real_at: datetime,
) -> Intent:
    delay = timedelta(seconds=delay_seconds)
    return new_intent(
        intent_id=stable_id(purpose.value, inbound_id),
        contact_id=conversation.contact_id,
        activity_id=conversation.activity_id,
        endpoint_id=conversation.endpoint_id,
        sender=conversation.our_address,
        to=conversation.their_address,
        text=text,
        purpose=purpose,
        created_at=now,
        send_at=now + delay,
        expires_real_at=expires_real_at + delay,
        campaign_id=conversation.campaign_id,
        subject_id=conversation.subject_id,
    )


def agent_concluded(
    conversation: Conversation, answer: Conclude, now: datetime
) -> tuple[Conversation, ActivityOutcome]:
    return ended(
        copied(conversation, {"dialogue": answer.dialogue}),
        Ending(answer.disposition, "agent_concluded", AGENT, answer.summary),
        now,
    )


def handed_over(
    conversation: Conversation, answer: HandOver, now: datetime
) -> tuple[Conversation, tuple[Message, ...]]:
    """The automated activity fails with the reason, and a manual one for the same contact takes over."""
    concluded, outcome = ended(
        copied(conversation, {"dialogue": answer.dialogue}),
        Ending(None, f"handed_over: {answer.reason}", AGENT, "The automated agent handed over to a person."),
        now,
    )
    activity = ActivityCreated(
        activity_id=ActivityId(
            stable_id("hand-over", conversation.activity_id, conversation.dispatch_number)
        ),
        contact_id=ContactId(conversation.contact_id),
        kind=KIND_OF_CHANNEL[CHANNEL],
        mode=Mode.MANUAL,
        source=Source.AUTOMATIC,
        subject_id=SubjectId(conversation.subject_id),
        campaign_id=None if conversation.campaign_id is None else CampaignId(conversation.campaign_id),
        channel=CHANNEL,
        endpoint_id=EndpointId(conversation.endpoint_id),
        destination=conversation.their_address,
        scheduled_at=now,
        instructions=f"Handed over by the automated agent: {answer.reason}.",
        attempt_number=conversation.attempt_number,
        parent_id=ActivityId(conversation.activity_id),
        root_id=ActivityId(conversation.root_id or conversation.activity_id),
        chain_depth=conversation.chain_depth + 1,
        created_at=now,
        created_by=AGENT,
    )
    return concluded, (outcome, activity)
