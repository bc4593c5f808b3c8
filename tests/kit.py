"""How tests run a service for real: its own composition root, real engines, its own namespace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import catalogue
from contracts.message import Message, Topic, wire_headers
from servicekit.bus import Subscription
from servicekit.clock import DrivenClock
from servicekit.delivery import headers_of
from servicekit.failpoints import FAILPOINTS
from servicekit.producer import Outgoing, Producer
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from servicekit.topics import Topics, partitions_of
from tests.engines import Engines

Settings = TypeVar("Settings", bound=ServiceSettings)
M = TypeVar("M", bound=Message)

DEADLINE = 30.0


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str = "the condition", within: float = DEADLINE
) -> Any:
    """Wait until the condition answers with something true, and return that."""
    until = time.monotonic() + within
    while True:
        answer = await condition()
        if answer:
            return answer
        assert time.monotonic() < until, f"waited {within:g} s for {what}; last answer: {answer!r}"
        await asyncio.sleep(0.02)


async def failed_where_told() -> None:
    """Wait until every armed failpoint was reached: some lie behind what a test can see."""

    async def reached() -> bool:
        return FAILPOINTS.waiting() == []

    await eventually(reached, "every armed failpoint")


@dataclass
class Wire:
    """The topics of one test: publish as an outsider, read what came out."""

    engines: Engines
    namespace: str
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self.producer = Producer(self.engines.kafka, f"test-{self.namespace}")

    def name(self, topic: str) -> str:
        return f"{self.namespace}.{topic}" if self.namespace else topic

    async def create_topics(self, topics: Iterable[Topic] | None = None) -> None:
        await Topics(self.engines.kafka, self.namespace).create(topics or catalogue.topics())

    async def publish(self, *messages: Message, source: str = "test") -> None:
        await self.producer.publish_all(
            Outgoing(
                self.name(message.topic()),
                message.key().encode(),
                message.to_json(),
                wire_headers(message, source, "2026-01-05T12:00:00Z"),
            )
            for message in messages
        )

    async def publish_raw(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = b"key",
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        """Anything at all, as a careless outsider would send it."""
        record = Outgoing(self.name(topic), key, value, headers)  # type: ignore[arg-type]
        await self.producer.publish_all([record])

    async def records(self, topic: str) -> list[Any]:
        """Everything in the topic now, oldest first in each partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.engines.kafka, auto_offset_reset="earliest")
        await consumer.start()
        try:
            name = self.name(topic)
            partitions = await partitions_of(self.engines.kafka, [name])
            assert partitions, f"there is no topic {name}"
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[Any] = []
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(batch)
            return found
        finally:
            await consumer.stop()

    async def messages(self, message_class: type[M], topic: str | None = None) -> list[M]:
        """The messages of one class that are in its topic now; tombstones are left out."""
        return [
            message_class.from_json(record.value)
            for record in await self.records(topic or message_class.wire.topic.name)
            if record.value is not None and headers_of(record).get("ce_type") == message_class.wire.type
        ]

    async def dead_letters(self, topic: str) -> list[dict[str, str]]:
        """The headers of every dead letter of a topic."""
        return [headers_of(record) for record in await self.records(f"{topic}.dlq")]

    async def expect(
        self, message_class: type[M], count: int, topic: str | None = None, within: float = DEADLINE
    ) -> list[M]:
        """Wait until at least that many messages of the class are there."""

        async def enough() -> list[M]:
            found = await self.messages(message_class, topic)
            return found if len(found) >= count else []

        found: list[M] = (
            await eventually(enough, f"{count} {message_class.__name__}", within) if count else []
        )
        return found

    async def close(self) -> None:
        await self.producer.close()


def frozen_clock(directory: Path, at: datetime) -> DrivenClock:
    """A clock that stands still for all services of a test; move it with `clock.set(when, rate=0)`."""
    clock = DrivenClock(directory / "clock.json")
    clock.set(at, rate=0)
    return clock


@asynccontextmanager
async def running(
    build: Callable[[Settings], Service],
    settings_class: type[Settings],
    engines: Engines,
    namespace: str,
    *,
    clock: DrivenClock | None = None,
    instance: str = "test-0",
    **settings: Any,
) -> AsyncIterator[Service]:
    """The service of a composition root, consuming; drained at the end.

    `clock`: the shared clock of the test, see `frozen_clock`; without it, the system's.
    """
    await Topics(engines.kafka, namespace).create(catalogue.topics())
    made = settings_class(
        kafka_bootstrap_servers=engines.kafka,
        mongo_url=engines.mongo,
        namespace=namespace,
        instance=instance,
        unhurried_ms=10,
        clock_file=clock.path if clock else None,
        **({"port": 0} | settings),
    )
    service = build(made)
    async with service.running():
        await eventually(lambda: _consuming(service), f"{service.name} to consume", 60)
        yield service


async def _consuming(service: Service) -> bool:
    if service.failure is not None:
        raise service.failure
    return service.consuming.is_set()


async def settled(*services: Service, within: float = DEADLINE) -> None:
    """Wait until nothing is in flight: every record in the topics had its effect, no row is unpublished.

    A consumer learns only from its next fetch how far a topic reaches, so the broker itself is asked. What
    one service says, another may answer: the topics must end where they ended when the outboxes were looked
    at, twice in a row.
    """
    quiet = 0
    last: dict[str, dict[TopicPartition, int] | None] = {}

    async with _looker(services[0]) as looker:

        async def at_rest() -> bool:
            nonlocal quiet, last
            ends = {
                subscription.name: await _ends_if_finished(looker, subscription)
                for service in services
                for subscription in service.bus.subscriptions
            }
            unpublished = [await service.mongo["outbox"].find_one({}) for service in services]
            rests = None not in ends.values() and not any(unpublished)
            quiet = quiet + 1 if rests and ends == last else 0
            last = ends
            return quiet >= 2

        await eventually(at_rest, "everything to settle", within)


async def rewind(service: Service) -> int:
    """Send every consumer group of a service that rests back to the beginning; returns how many."""
    for subscription in service.bus.subscriptions:
        assert subscription.consumer is not None
        subscription.finished.update(dict.fromkeys(subscription.consumer.assignment(), 0))
        await subscription.consumer.seek_to_beginning()
    return len(service.bus.subscriptions)


@asynccontextmanager
async def _looker(service: Service) -> AsyncIterator[AIOKafkaConsumer]:
    """Somebody beside the consumers who asks the broker where topics end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=service.settings.kafka_bootstrap_servers)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _ends_if_finished(
    looker: AIOKafkaConsumer, subscription: Subscription
) -> dict[TopicPartition, int] | None:
    """Where the partitions of a subscriber end; None while a record in one of them lacks its effect."""
    consumer = subscription.consumer
    if consumer is None or subscription.busy_since is not None:
        return None
    ends: dict[TopicPartition, int] = await looker.end_offsets(sorted(consumer.assignment()))
    for partition, end in ends.items():
        finished = subscription.finished.get(partition)
        if finished is None and end:
            finished = await consumer.committed(partition)  # by an earlier run of the service
        if (finished or 0) < end:
            return None
    return ends
