"""What the judge looks at: the carrier's journal, the topics and the databases, read with public clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import MongoClient

from tests.services import SERVICES

Json = dict[str, Any]

_READ = (
    ("contacts", "contacts"),
    ("batch-loader", "batches"),
    ("activities", "activities"),
    ("workflow", "decisions"),
    ("channel-sms", "conversations"),
    ("channel-sms", "inbound"),
)

_NEEDED: dict[str, dict[str, type]] = {
    "parley.activity.created.v1": {"activity_id": str, "contact_id": str},
    "parley.activity.completed.v1": {"activity_id": str},
    "parley.activity.changed.v1": {"activity_id": str, "version": int},
    "parley.activity.dispatched.v1": {"destination": str},
    "parley.contact-stats.changed.v1": {"version": int, "total": dict},
    "parley.interaction.recorded.v1": {
        "interaction_type": str,
        "interaction_id": str,
        "version": int,
        "contact_id": str,
    },
    "parley.stats.merge-targets.v1": {"target_id": str, "survivor_id": str},
    "parley.stats.erase-target.v1": {"target_id": str},
}
"""Without these nothing can be concluded from a body, and no reader takes it."""

_ORIGIN = ("dlq_topic", "dlq_partition", "dlq_offset", "dlq_timestamp")


@dataclass
class Event:
    """One record of a topic."""

    key: str
    headers: dict[str, str]
    body: Json | None
    place: tuple[str, ...] = ()
    """Topic, partition, offset and time: how a dead letter names its origin."""
    torn: bool = False
    """It has a body that is no JSON object."""

    @property
    def is_tombstone(self) -> bool:
        return self.body is None and not self.torn

    @property
    def fits(self) -> bool:
        needed = _NEEDED.get(self.headers.get("ce_type", ""), {})
        return self.body is not None and all(
            type(self.body.get(name)) is type_ for name, type_ in needed.items()
        )

    @property
    def id(self) -> tuple[str, str]:
        return self.headers.get("ce_type", ""), self.headers.get("ce_id", "")


@dataclass
class Evidence:
    """Everything the judge looks at."""

    journal: list[Json]
    topics: dict[str, list[Event]]
    stored: dict[str, list[Json]]
    """`service/collection`: its documents."""
    given: Json | None = None
    """What the load says it put in, where there was one that says so."""

    def of_type(self, topic: str, type_: str) -> Iterator[Json]:
        """The bodies of one type on a topic, each event once.

        What became a dead letter may have come again under its name, mended: that is what was told.
        """
        given_up = self._given_up()
        told: dict[tuple[str, str], Event] = {}
        for event in self.topics.get(topic, ()):
            if event.headers.get("ce_type") != type_ or not event.fits or not all(event.id):
                continue
            if event.id not in told or (told[event.id].place in given_up and event.place not in given_up):
                told[event.id] = event
        yield from (event.body for event in told.values() if event.body is not None)

    def taken(self, topic: str, type_: str) -> Iterator[Json]:
        """Of a topic with one reader, the same without what is a dead letter of that reader's."""
        given_up = self._given_up()
        events = [event for event in self.topics.get(topic, ()) if event.place not in given_up]
        yield from Evidence([], {topic: events}, {}).of_type(topic, type_)

    def _given_up(self) -> set[tuple[str, ...]]:
        """Where the records lie that a dead letter has as its origin."""
        return {
            tuple(event.headers.get(name, "") for name in _ORIGIN)
            for topic, events in self.topics.items()
            if topic.endswith(".dlq")
            for event in events
        }

    def rows(self, place: str) -> list[Json]:
        return self.stored.get(place, [])

    def accepted(self) -> list[Json]:
        return [entry for entry in self.journal if entry["kind"] == "accepted"]

    def replies(self) -> list[Json]:
        return [entry for entry in self.journal if entry["kind"] == "reply"]


async def gather(
    kafka: str, mongo: str, journal: Path, namespace: str = "", given: Path | None = None
) -> Evidence:
    """Read everything there is now."""
    client: MongoClient[Json] = MongoClient(mongo, tz_aware=True)
    prefix = f"{namespace}-" if namespace else ""
    with client:
        stored = {
            f"{name}/{collection}": list(client[f"{prefix}parley-{name}"][collection].find({}))
            for name, collection in [*_READ, *((name, "outbox") for name in SERVICES)]
        }
    told = json.loads(given.read_text()) if given is not None else None
    return Evidence(list(_lines(journal)), await _read_topics(kafka, namespace), stored, told)


def _lines(journal: Path) -> Iterable[Json]:
    if not journal.exists():
        return
    with journal.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


async def _read_topics(kafka: str, namespace: str) -> dict[str, list[Event]]:
    prefix = f"{namespace}." if namespace else ""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_poll_records=5000,
    )
    await consumer.start()
    try:
        names = [
            name for name in await consumer.topics() if name.startswith(prefix) and not name.startswith("__")
        ]
        partitions = await _partitions(kafka, names)
        found: dict[str, list[Event]] = {name.removeprefix(prefix): [] for name in names}
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.beginning_offsets(partitions)
        left = {p for p in partitions if ends[p] > starts[p]}
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                found[partition.topic.removeprefix(prefix)].extend(map(_event, records))
            left = {p for p in left if await consumer.position(p) < ends[p]}
        return found
    finally:
        await consumer.stop()


async def _partitions(kafka: str, names: list[str]) -> list[TopicPartition]:
    """Raises LookupError: of a topic that cannot be read, nothing may be concluded."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        described = {each["topic"]: each["partitions"] for each in await admin.describe_topics(names)}
    finally:
        await admin.close()
    if unread := [name for name in names if not described.get(name)]:
        raise LookupError(f"no partitions are told of {', '.join(unread)}")
    return [TopicPartition(name, each["partition"]) for name in names for each in described[name]]


def _event(record: Any) -> Event:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    try:
        body = json.loads(record.value) if record.value else None
    except ValueError:
        body = None
    key = (record.key or b"").decode("utf-8", "replace")
    place = (record.topic, str(record.partition), str(record.offset), str(record.timestamp))
    whole = body if isinstance(body, dict) else None
    return Event(key, headers, whole, place, torn=bool(record.value) and whole is None)
