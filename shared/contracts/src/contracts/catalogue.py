"""Every message and every topic there is. Everything published about the topics is derived from here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from contracts import activities, batch_loader, campaigns, channel_sms, contacts, stats
from contracts.message import DEAD_LETTER_SUFFIX, Message, Topic

MESSAGES: tuple[type[Message], ...] = (
    contacts.ContactChanged,
    contacts.SetPreference,
    contacts.UpsertContact,
    campaigns.SubjectChanged,
    campaigns.DispositionChanged,
    campaigns.CampaignChanged,
    campaigns.EndpointChanged,
    campaigns.PolicyChanged,
    campaigns.AgentProfileChanged,
    activities.ActivityCreated,
    activities.ActivityProgressed,
    activities.ActivityReturned,
    activities.ActivityOutcome,
    activities.ActivityDispatched,
    activities.ActivityRecalled,
    activities.ActivityDecided,
    activities.ActivityCompleted,
    activities.ActivityChanged,
    channel_sms.MessageRecorded,
    channel_sms.InteractionRecorded,
    batch_loader.BatchProgressed,
    stats.ContactStatsChanged,
    stats.SetTargetLink,
    stats.MergeTargets,
    stats.EraseTarget,
    stats.SetParent,
    stats.SetCounting,
    stats.Recalculate,
)

CHANNELS = ("sms",)
"""Channels that ship with Parley; a topic is made for each. Others are configuration."""

DEAD_LETTER_RETENTION_DAYS = 30


def by_type(type_: str) -> type[Message] | None:
    return _BY_TYPE.get(type_)


def channels_among(names: Iterable[str]) -> tuple[str, ...]:
    """Those that ship with Parley, and the others that have a dispatch topic among these names."""
    start = activities.ACTIVITY_DISPATCHED.named(channel="")
    found = {name.removeprefix(start) for name in names if name.startswith(start)}
    return (*CHANNELS, *sorted(name for name in found - {*CHANNELS} if "." not in name))


def names_of(topic: Topic, channels: tuple[str, ...] = CHANNELS) -> list[str]:
    """Its name; of a template one for each channel."""
    return [topic.named(channel=channel) for channel in channels] if topic.is_template else [topic.name]


def topics(channels: tuple[str, ...] = CHANNELS) -> Iterator[Topic]:
    """Every topic with its settings, templates filled in, each followed by its dead-letter topic."""
    for topic in _topics_of(MESSAGES, channels):
        yield topic
        yield dead_letters_of(topic)


def topics_of(service: str, channels: tuple[str, ...] = CHANNELS) -> tuple[Topic, ...]:
    """The topics a service reads, each followed by its dead-letter topic, then those it only publishes."""
    read = _topics_of(read_by(service), channels)
    published = _topics_of(published_by(service), channels)
    return (
        *(each for topic in read for each in (topic, dead_letters_of(topic))),
        *(topic for topic in published if topic not in read),
    )


def _topics_of(messages: Iterable[type[Message]], channels: tuple[str, ...]) -> list[Topic]:
    found: dict[str, Topic] = {}
    for message in messages:
        topic = message.wire.topic
        for name in names_of(topic, channels):
            found.setdefault(name, Topic(name, topic.compacted, topic.retention_days, topic.partitions))
    return list(found.values())


def dead_letters_of(topic: Topic) -> Topic:
    return Topic(
        topic.name + DEAD_LETTER_SUFFIX,
        retention_days=DEAD_LETTER_RETENTION_DAYS,
        partitions=topic.partitions,
    )


def read_by(service: str) -> tuple[type[Message], ...]:
    return tuple(message for message in MESSAGES if service in message.wire.read_by)


def published_by(service: str) -> tuple[type[Message], ...]:
    return tuple(message for message in MESSAGES if service in message.wire.published_by)


def services() -> tuple[str, ...]:
    """Every service that some message names, in the order of the catalogue."""
    named = (name for m in MESSAGES for name in (*m.wire.published_by, *m.wire.read_by))
    return tuple(dict.fromkeys(named))


_BY_TYPE = {message.wire.type: message for message in MESSAGES}
