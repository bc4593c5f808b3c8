"""What people write to us, and what is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from channel_sms.domain.conversation import SYSTEM
from channel_sms.domain.intent import CHANNEL, FORBIDDEN_BY
from channel_sms.domain.segments import segments
from contracts.activities import ActivityCreated
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from contracts.channels import KIND_OF_CHANNEL
from contracts.contacts import SetPreference
from contracts.message import Message, stable_id
from contracts.vocabulary import (
    ActivityId,
    CampaignId,
    ContactId,
    Direction,
    EndpointId,
    InteractionId,
    Mode,
    Source,
    SubjectId,
)


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message as it was stored by the webhook; `sender` is the person, `to` is us."""

    inbound_id: str
    sender: str
    to: str
    text: str
    received_at: datetime
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """Who a message is from and what it belongs to, as far as is known."""

    contact_id: str
    activity_id: str | None = None
    campaign_id: str | None = None
    subject_id: str | None = None
    endpoint_id: str | None = None
    root_id: str | None = None
    """The first activity of the chain; null where that is `activity_id`."""


def announce_received(arrived: Arrived, thread: Thread) -> tuple[Message, ...]:
    activity_id = None if thread.activity_id is None else ActivityId(thread.activity_id)
    endpoint_id = None if thread.endpoint_id is None else EndpointId(thread.endpoint_id)
    return (
        MessageRecorded(
            message_id=arrived.inbound_id,
            version=1,
            activity_id=activity_id,
            contact_id=ContactId(thread.contact_id),
            channel=CHANNEL,
            endpoint_id=endpoint_id,
            direction=Direction.INCOMING,
            from_address=arrived.sender,
            to_address=arrived.to,
            text=arrived.text,
            segments=segments(arrived.text),
            status="received",
            provider_message_id=arrived.inbound_id,
            occurred_at=arrived.received_at,
        ),
        InteractionRecorded(
            interaction_id=InteractionId(arrived.inbound_id),
            interaction_type=CHANNEL,
            version=1,
            contact_id=ContactId(thread.contact_id),
            direction=Direction.INCOMING,
            channel=CHANNEL,
            occurred_at=arrived.received_at,
            activity_id=activity_id,
            campaign_id=None if thread.campaign_id is None else CampaignId(thread.campaign_id),
            subject_id=None if thread.subject_id is None else SubjectId(thread.subject_id),
            endpoint_id=endpoint_id,
        ),
    )


def preference(arrived: Arrived, contact_id: str, *, opted_out: bool) -> SetPreference:
    return SetPreference(
        command_id=stable_id("opt-out" if opted_out else "opt-in", arrived.inbound_id, contact_id),
        contact_id=ContactId(contact_id),
        preference=FORBIDDEN_BY,
        opted_out=opted_out,
        source=CHANNEL,
        actor="contact",
        occurred_at=arrived.received_at,
    )


def inbound_activity(arrived: Arrived, thread: Thread, subject_id: str, now: datetime) -> ActivityCreated:
    """A person is to look at a message that belongs to no open conversation."""
    root_id = thread.root_id or thread.activity_id
    return ActivityCreated(
        activity_id=ActivityId(stable_id("inbound", arrived.inbound_id)),
        contact_id=ContactId(thread.contact_id),
        kind=KIND_OF_CHANNEL[CHANNEL],
        mode=Mode.MANUAL,
        source=Source.INBOUND,
        subject_id=SubjectId(subject_id),
        campaign_id=None if thread.campaign_id is None else CampaignId(thread.campaign_id),
        channel=CHANNEL,
        endpoint_id=None if thread.endpoint_id is None else EndpointId(thread.endpoint_id),
        destination=arrived.sender,
        scheduled_at=now,
        instructions="A text arrived outside any open conversation.",
        parent_id=None if thread.activity_id is None else ActivityId(thread.activity_id),
        root_id=None if root_id is None else ActivityId(root_id),
        created_at=now,
        created_by=SYSTEM,
    )
