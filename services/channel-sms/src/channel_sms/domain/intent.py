"""A message we mean to send, written before anything is sent, and what is told about it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from channel_sms.domain.segments import segments
from contracts.activities import ActivityProgressed
from contracts.campaigns import CampaignChanged, EndpointChanged
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from contracts.channels import PREFERENCE_OF_CHANNEL
from contracts.message import Message
from contracts.reasons import Objection
from contracts.vocabulary import (
    ActivityId,
    CampaignId,
    ContactId,
    Direction,
    EndpointId,
    InteractionId,
    SubjectId,
)

CHANNEL = "sms"
FORBIDDEN_BY = PREFERENCE_OF_CHANNEL[CHANNEL]
DeliveryStatus = Literal["sent", "delivered", "undelivered", "failed", "unknown"]


class IntentState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    """Claimed: from here on it may have been sent."""
    SENT = "sent"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    EXPIRED = "expired"
    """Provably not sent in the time it had."""
    CANCELLED = "cancelled"
    """Not sent: the address opted out, the conversation ended first, or the gate would not allow it now."""


class Purpose(StrEnum):
    OPENING = "opening"
    REPLY = "reply"
    HELP = "help"
    OPTED_OUT = "opted_out"
    OPTED_IN = "opted_in"


SENT_IN_SPITE_OF_OPT_OUT = frozenset({Purpose.OPTED_OUT})
"""The one confirmation; nothing else goes to an address that opted out."""
SENT_IN_SPITE_OF_PREFERENCE = SENT_IN_SPITE_OF_OPT_OUT | {Purpose.OPTED_IN}
"""Who came back is told so, although the copy of the contact does not know of it yet."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Times ending in `real_at` are the machine's; the others are the business clock's."""

    intent_id: str
    contact_id: str
    endpoint_id: str
    sender: str
    to: str
    text: str
    purpose: Purpose
    created_at: datetime
    send_at: datetime
    expires_real_at: datetime
    not_after: datetime | None = None
    """The contact's hours end here."""
    activity_id: str | None = None
    """None for the answer to a keyword of somebody who is in no conversation."""
    campaign_id: str | None = None
    subject_id: str | None = None
    no_response_seconds: float | None = None
    state: IntentState = IntentState.PENDING
    segments: int = 0
    attempts: int = 0
    retry_real_at: datetime | None = None
    claim: str | None = None
    claimed_at: datetime | None = None
    claimed_real_at: datetime | None = None
    provider_message_id: str | None = None
    status: DeliveryStatus | None = None
    message_version: int = 0
    error: str | None = None
    unknown_real_at: datetime | None = None
    reported_unknown: bool = False
    absent_real_at: datetime | None = None
    look_real_at: datetime | None = None
    looks: int = 0
    resolved_by: str | None = None
    trace: str | None = None
    """The trace that led to it, carried on by everything it leads to."""
    version: int = field(default=1)

    @property
    def may_have_outlived_its_conversation(self) -> bool:
        """Whoever ends one cancels what waits; not what was being sent then, nor a reply before the last."""
        return self.purpose is Purpose.REPLY or (self.purpose is Purpose.OPENING and self.attempts > 1)

    def objection(
        self, campaign: CampaignChanged | None, endpoint: EndpointChanged | None, now: datetime
    ) -> Objection | None:
        """Why the conversation that it opens would not be begun now, although the policy gate allowed it."""
        if self.purpose is not Purpose.OPENING:
            return None
        if self.not_after is not None and now >= self.not_after:
            return Objection.OUTSIDE_WINDOW
        if endpoint is not None and not endpoint.enabled:
            return Objection.ENDPOINT_DISABLED
        return campaign.objection(now) if campaign is not None else None

    @property
    def occurred_at(self) -> datetime:
        return self.claimed_at or self.send_at


def new_intent(**known: object) -> Intent:
    intent = Intent(**known)  # type: ignore[arg-type]
    return replace(intent, segments=segments(intent.text))


def recorded(intent: Intent, status: DeliveryStatus, version: int) -> MessageRecorded:
    return MessageRecorded(
        message_id=intent.intent_id,
        version=version,
        activity_id=None if intent.activity_id is None else ActivityId(intent.activity_id),
        contact_id=ContactId(intent.contact_id),
        channel=CHANNEL,
        endpoint_id=EndpointId(intent.endpoint_id),
        direction=Direction.OUTGOING,
        from_address=intent.sender,
        to_address=intent.to,
        text=intent.text,
        segments=intent.segments,
        status=status,
        provider_message_id=intent.provider_message_id,
        occurred_at=intent.occurred_at,
    )


def announce_sent(intent: Intent, status: DeliveryStatus = "sent") -> tuple[Message, ...]:
    """Everything that is told when a message is known to have been sent; once per intent."""
    told: list[Message] = [
        recorded(intent, status, intent.message_version + 1),
        InteractionRecorded(
            interaction_id=InteractionId(intent.intent_id),
            interaction_type=CHANNEL,
            version=1,
            contact_id=ContactId(intent.contact_id),
            direction=Direction.OUTGOING,
            channel=CHANNEL,
            occurred_at=intent.occurred_at,
            activity_id=None if intent.activity_id is None else ActivityId(intent.activity_id),
            campaign_id=None if intent.campaign_id is None else CampaignId(intent.campaign_id),
            subject_id=None if intent.subject_id is None else SubjectId(intent.subject_id),
            endpoint_id=EndpointId(intent.endpoint_id),
        ),
    ]
    if intent.purpose is Purpose.OPENING and intent.activity_id is not None:
        told.append(
            ActivityProgressed(
                activity_id=ActivityId(intent.activity_id),
                contact_id=ContactId(intent.contact_id),
                state="awaiting_reply",
                occurred_at=intent.occurred_at,
            )
        )
    return tuple(told)


_RANK: dict[str | None, int] = {None: 0, "sent": 1, "undelivered": 2, "failed": 2, "delivered": 3}
_RECEIPTS: dict[str, DeliveryStatus] = {
    "queued": "sent",
    "accepted": "sent",
    "scheduled": "sent",
    "sending": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "undelivered",
    "failed": "failed",
}


def status_of_receipt(told: str) -> DeliveryStatus | None:
    return _RECEIPTS.get(told.lower())


def is_forward(standing: str | None, told: str) -> bool:
    """Receipts arrive in any order and several times; a message's status only ever moves forward."""
    return _RANK.get(told, 0) > _RANK.get(standing, 0)
