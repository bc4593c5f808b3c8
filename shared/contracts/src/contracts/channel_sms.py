"""Owned by the channel services (channel-sms today): what was said, and that it was said."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.message import Message, Record, Topic
from contracts.vocabulary import (
    ActivityId,
    CampaignId,
    ChannelName,
    Code,
    ContactId,
    Direction,
    EndpointId,
    Identifier,
    InteractionId,
    SubjectId,
    Time,
    Version,
)

MESSAGE_RECORDED = Topic("message-recorded")
INTERACTION_RECORDED = Topic("interaction-recorded")


class MessageRecorded(
    Message,
    type="parley.message.recorded.v1",
    topic=MESSAGE_RECORDED,
    key="contact_id",
    identity=("message_id", "version"),
    published_by=("channel-sms",),
    read_by=(),
):
    """One message of a conversation, its text and how far its delivery got."""

    message_id: Identifier
    version: Version
    activity_id: ActivityId | None = None
    contact_id: ContactId
    channel: ChannelName
    endpoint_id: EndpointId | None = None
    direction: Direction
    from_address: str
    to_address: str
    text: str = Field(max_length=20_000)
    segments: int | None = Field(default=None, ge=1)
    status: Literal["sent", "delivered", "undelivered", "failed", "unknown", "received"]
    provider_message_id: str | None = None
    occurred_at: Time


class Target(Record):
    """Somebody or something an interaction is about; `contact` first, other types by link."""

    type: Code = "contact"
    id: Identifier


class Addresses(Record):
    """Who a mail went between; lets a direction provider decide."""

    sender: str | None = None
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()


class InteractionRecorded(
    Message,
    type="parley.interaction.recorded.v1",
    topic=INTERACTION_RECORDED,
    key="contact_id",
    identity=("interaction_type", "interaction_id", "version"),
    published_by=("activities", "channel-sms"),
    read_by=("stats",),
):
    """The full current state of one message, call, mail or meeting, with a version that only grows.

    Any system may publish it. `direction` null leaves the decision to the type's direction provider.
    """

    interaction_id: InteractionId
    interaction_type: Code
    """`sms`, `call`, `email`, `meeting`, or a type of your own."""
    version: Version
    contact_id: ContactId
    targets: tuple[Target, ...] | None = None
    """Everything it is linked to; null means the contact alone, empty means nothing any more."""
    direction: Direction | None = None
    channel: ChannelName | None = None
    """Null means the interaction type is the channel."""
    addresses: Addresses | None = None
    occurred_at: Time | None = None
    """The interaction's own time; null means the time of the event."""
    activity_id: ActivityId | None = None
    campaign_id: CampaignId | None = None
    subject_id: SubjectId | None = None
    endpoint_id: EndpointId | None = None
    disposition: Code | None = None
    agent: str | None = None
    """The person who made the contact, for reports; null for an automated one."""
    deleted: bool = False
