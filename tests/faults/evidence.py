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


@dataclass
class Event:
    """One record of a topic."""

    key: str
    headers: dict[str, str]
    body: Json | None

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
        """The bodies of one type on a topic, each event once."""
        seen: set[tuple[str, str]] = set()
        for event in self.topics.get(topic, ()):
            if event.headers.get("ce_type") == type_ and event.body is not None and event.id not in seen:
                seen.add(event.id)
                yield event.body

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
        bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False, max_poll_records=5000
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
    return Event(
        (record.key or b"").decode("utf-8", "replace"), headers, body if isinstance(body, dict) else None
    )
