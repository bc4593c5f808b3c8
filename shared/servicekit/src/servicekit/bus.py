"""FastStream on Kafka, set up so that nothing is acknowledged before its effect.

Measured traps that this closes: the default commits automatically from `latest`; a broker-wide policy
does not reach every subscriber; a null header fails before any middleware; batches of injected models
cost half the speed; a consumer can stall without any task having ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage

from contracts.message import Message
from servicekit.backoff import backoff
from servicekit.brokers import why_away
from servicekit.delivery import Reader
from servicekit.failpoints import InjectedFault
from servicekit.fetching import (
    poll_until_there_is_something,
    read_whatever_comes,
    rest_between_empty_fetches,
)
from servicekit.metrics import Metrics
from servicekit.pipeline import TRIES, BatchHandler, Pipeline, Stopping
from servicekit.producer import Producer
from servicekit.resting import rest
from servicekit.settings import ServiceSettings

log = structlog.get_logger()

_HOUR_MS = 3_600_000
_LOOK_SECONDS = 5.0
_STILL_SECONDS = 15.0
_STALLED_SECONDS = 60.0
_LOST_SECONDS = 120.0
_POLL_MS = 1000


class _RawRecords:
    """The codec: records pass through as they came."""

    async def encode_batch(self, msgs: Any, serializer: Any = None) -> list[tuple[bytes, str | None]]:
        raise TypeError("this broker publishes through the outbox")

    async def decode_batch(self, msg: Any) -> Any:
        return msg.raw_message

    async def encode(self, msg: Any, serializer: Any = None) -> tuple[bytes, str | None]:
        raise TypeError("this broker publishes through the outbox")

    async def decode(self, msg: Any) -> Any:
        return msg.raw_message


@dataclass(slots=True)
class Subscription:
    """One subscriber: what it reads and how it is doing."""

    name: str
    group: str
    topic: str
    reads: tuple[type[Message], ...]
    pipeline: Pipeline
    subscriber: Any = None
    prepared: AIOKafkaConsumer | None = None
    rests_until: float = 0.0
    """Monotonic time before which no batch is asked for: an unhurried subscriber gathers."""
    stalled_for: float = 0.0
    """Seconds for which it was looked at and found still, although the broker answers others."""
    busy_since: float | None = None
    progressed_at: float = field(default_factory=time.monotonic)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    finished: dict[TopicPartition, int] = field(default_factory=dict)
    last_timestamp_ms: int = 0
    behind_since: float = field(default_factory=time.monotonic)
    """Monotonic time at which it was last seen without a lag."""

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        return getattr(self.subscriber, "consumer", None)

    def prepare(self) -> None:
        """Whatever the consumer fetches later comes by our ways. Subscribers of a process join one after
        another, and each begins to take as soon as it has joined."""
        consumer = self.consumer
        if consumer is None or consumer is self.prepared:
            return
        self.prepared = consumer
        read_whatever_comes(consumer)
        rest_between_empty_fetches(consumer)
        poll_until_there_is_something(consumer, self)

    def lag(self) -> int:
        """Messages the broker has told us of that were not taken; touches no network.

        Those of a transaction that is still open are not there yet.
        """
        consumer = self.consumer
        if consumer is None:
            return 0
        total = 0
        for partition in consumer.assignment():
            highwater = consumer.highwater(partition)
            state = consumer._subscription.subscription.assignment.state_value(partition)
            if highwater is not None and state is not None and state.has_valid_position:
                end = highwater if state.lso is None or state.lso < 0 else min(highwater, state.lso)
                total += max(0, end - state._position)
        return total

    def answered_at_ms(self) -> int:
        """When the broker last answered a fetch; 0 if it never did, or if a batch keeps us from asking."""
        consumer = self.consumer
        if consumer is None or self.busy_since is not None:
            return 0
        assignment = consumer._subscription.subscription.assignment
        states = (assignment.state_value(partition) for partition in consumer.assignment())
        return max((state.timestamp or 0 for state in states if state is not None), default=0)

    def gather(self, seconds: float) -> None:
        """Ask for the next batch only then, unless messages wait already."""
        if not self.lag():
            self.rests_until = time.monotonic() + seconds

    def seconds_behind(self, lag: int) -> float:
        """The age of the last message taken, but no more than how long there has been a lag: the first
        message after a quiet night is not a night late."""
        now = time.monotonic()
        if not lag:
            self.behind_since = now
            return 0.0
        age = time.time() - self.last_timestamp_ms / 1000
        return max(0.0, min(age, now - self.behind_since))

    def has_ended(self) -> bool:
        tasks = getattr(self.subscriber, "tasks", ())
        return self.consumer is not None and (not tasks or any(task.done() for task in tasks))

    def is_still(self) -> bool:
        """Whether it takes nothing although messages wait, or no fetch of it was answered for a while."""
        consumer = self.consumer
        if consumer is None or self.busy_since is not None:
            return False
        if time.monotonic() - self.progressed_at < _STILL_SECONDS:
            return False
        if self.lag() > 0:
            return True
        unanswered = time.time() - self.answered_at_ms() / 1000
        return bool(consumer.assignment()) and unanswered > _STILL_SECONDS


class LostConsumer(RuntimeError):
    """A subscriber will not move again by itself, and this process has to be started again."""


class Revocation(ConsumerRebalanceListener):  # type: ignore[misc]
    """Lets the batch in hand finish, and commits exactly what is finished, before partitions go."""

    def __init__(self, subscription: Subscription, budget: float, metrics: Metrics) -> None:
        self._subscription = subscription
        self._budget = budget
        self._metrics = metrics

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        subscription = self._subscription
        if not revoked:
            # So it is before a new consumer is given its first partitions.
            subscription.prepare()
            return
        self._metrics.rebalances.labels(subscription.name).inc()
        try:
            async with asyncio.timeout(self._budget):
                await subscription.idle.wait()
        except TimeoutError:
            log.warning("partitions were revoked from under a batch", subscriber=subscription.name)
        offsets = {tp: offset for tp, offset in subscription.finished.items() if tp in revoked}
        subscription.finished.clear()
        consumer = subscription.consumer
        if offsets and consumer is not None:
            try:
                async with asyncio.timeout(5):
                    await consumer.commit(offsets)
            except (KafkaError, TimeoutError) as error:
                log.warning("offsets not committed", subscriber=subscription.name, error=repr(error))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._subscription.progressed_at = time.monotonic()


class Bus:
    """All subscribers of one service process."""

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        producer: Producer,
        metrics: Metrics,
        stopping: asyncio.Event,
    ) -> None:
        self._service = service
        self._settings = settings
        self._producer = producer
        self._metrics = metrics
        self._stopping = stopping
        self.servers = settings.kafka_bootstrap_servers
        # A rebalance waits for the longest drain, and whoever waits for that is not lost.
        self._lost_seconds = max(_LOST_SECONDS, settings.drain_seconds + 60)
        self.subscriptions: list[Subscription] = []
        self._consuming = False
        self.waits: str | None = None
        """Before it consumes: for which brokers, and why they do not answer."""
        self._asked_at: float | None = None
        self.broker = KafkaBroker(
            settings.kafka_bootstrap_servers,
            client_id=f"{service}-{settings.instance}",
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            graceful_timeout=settings.drain_seconds,
            apply_types=False,
            logger=None,
        )

    def subscribe(
        self,
        name: str,
        reads: tuple[type[Message], ...],
        handler: BatchHandler,
        *,
        topic: str | None = None,
        tries: int = TRIES,
        batch_size: int | None = None,
        unhurried: bool = False,
        consumer: int = 1,
    ) -> Subscription:
        """Declare a subscriber. `reads` share one topic; `topic` fills in a template (`....sms`).

        An unhurried one begins a batch only so often: what nobody waits for costs less in larger batches.
        A subscriber may have several consumers, from 1: while one waits for the database another decides.
        """
        own_topics = {message.wire.topic.name for message in reads}
        if len(own_topics) != 1:
            raise ValueError(f"{name} reads from {len(own_topics)} topics; a subscriber reads from one")
        settings = self._settings
        topic = settings.prefixed(topic or own_topics.pop())
        known = tuple(m for m in all_messages() if m.wire.topic.name == reads[0].wire.topic.name)
        full_name = f"{self._service}.{name}"
        own_name = full_name if consumer == 1 else f"{full_name}-{consumer}"
        subscription = Subscription(
            own_name,
            settings.prefixed(full_name),
            topic,
            reads,
            Pipeline(
                full_name,
                Reader(reads, known),
                handler,
                self._producer,
                self._metrics,
                self._stopping,
                tries,
                self.silent_seconds,
            ),
        )
        subscription.idle.set()
        subscription.subscriber = subscriber = self.broker.subscriber(
            topic,
            batch=True,
            group_id=subscription.group,
            group_instance_id=f"{own_name}-{settings.instance}",
            auto_offset_reset="earliest",
            isolation_level=settings.kafka_isolation,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            max_records=batch_size or settings.batch_size,
            batch_timeout_ms=_POLL_MS,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            rebalance_timeout_ms=int(settings.drain_seconds * 1000) + 10_000,
            max_poll_interval_ms=24 * _HOUR_MS,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            listener=Revocation(subscription, settings.drain_seconds, self._metrics),
            parser=_parse,
            codec=_RawRecords(),
            title=own_name,
        )

        async def handle(records: Any) -> None:
            if unhurried:
                subscription.gather(settings.unhurried_ms / 1000)
            await self._take(subscription, records)

        subscriber(handle)
        self.subscriptions.append(subscription)
        return subscription

    def begin(self) -> None:
        """From now on Kafka is asked for."""
        self._asked_at = time.monotonic()

    async def start(self) -> None:
        """Connect and consume; waits for Kafka as long as it takes."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self.broker.start()
                self._consuming = True
                self.waits = None
                return
            except (KafkaError, OSError, TimeoutError) as error:
                await self.tell_away(error)
                await self.broker.stop()
                await asyncio.sleep(backoff(failures, 0.2, 5.0))
                failures += 1

    async def tell_away(self, error: BaseException) -> None:
        """In the log, and to whoever asks whether this process is ready."""
        why = await why_away(self.servers, error)
        self.waits = f"Kafka at {self.servers}: {why}"
        log.warning("waiting for Kafka", servers=self.servers, error=why)

    async def watch(self) -> None:
        """Look after the subscribers until the process stops. Raises LostConsumer.

        aiokafka can lose a consumer in an outage of the broker (seen on Apache Kafka: a group without
        members, while every other consumer of the process had come back); only a new one helps.
        """
        while not self._stopping.is_set():
            await rest(self._stopping, _LOOK_SECONDS)
            if lost := await self.look():
                raise LostConsumer(f"{', '.join(lost)} took nothing for {self._lost_seconds:.0f} s")

    async def look(self) -> list[str]:
        """One look; returns who is lost. While no broker answers nothing moves, and nobody is at fault."""
        still = [subscription for subscription in self.subscriptions if subscription.is_still()]
        blameless = bool(still) and not await self._broker_answers()
        for subscription in self.subscriptions:
            moves = blameless or subscription not in still
            subscription.stalled_for = 0.0 if moves else subscription.stalled_for + _LOOK_SECONDS
        return [each.name for each in self.subscriptions if each.stalled_for >= self._lost_seconds]

    async def _broker_answers(self) -> bool:
        client = AIOKafkaClient(bootstrap_servers=self.servers)
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await client.bootstrap()
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await client.close()
        return True

    async def stop(self) -> None:
        """Finish what is in hand, commit it, leave."""
        try:
            async with asyncio.timeout(self._settings.drain_seconds + 5):
                await self.broker.stop()
        except TimeoutError:
            log.error("the broker did not stop in time")

    def stalled(self) -> list[str]:
        """Subscribers that will not move again by themselves; none while they join their groups."""
        if not self._consuming:
            return []
        return [
            each.name
            for each in self.subscriptions
            if each.has_ended() or each.stalled_for >= _STALLED_SECONDS
        ]

    def silent_seconds(self) -> float:
        """Since the broker last answered a fetch of this process, or since it was first asked if it has not
        let anybody in; 0 while nobody can tell."""
        if self._asked_at is not None and not self._consuming:
            return time.monotonic() - self._asked_at
        answered = max((subscription.answered_at_ms() for subscription in self.subscriptions), default=0)
        return max(time.time() - answered / 1000, 0.0) if answered else 0.0

    def observe(self) -> None:
        self._metrics.broker_silent.set(self.silent_seconds())
        for subscription in self.subscriptions:
            lag = subscription.lag()
            self._metrics.lag.labels(subscription.name).set(lag)
            self._metrics.in_hand.labels(subscription.name).set(subscription.busy_since is not None)
            self._metrics.lag_seconds.labels(subscription.name).set(subscription.seconds_behind(lag))

    async def _take(self, subscription: Subscription, records: Sequence[Any]) -> None:
        subscription.busy_since = time.monotonic()
        subscription.idle.clear()
        try:
            await subscription.pipeline(records)
        except (Stopping, InjectedFault):
            raise
        except BaseException:
            log.exception("a batch will be delivered again", subscriber=subscription.name)
            raise
        else:
            ends = {record.partition: record.offset + 1 for record in records}
            for partition, offset in ends.items():
                subscription.finished[TopicPartition(subscription.topic, partition)] = offset
            subscription.last_timestamp_ms = records[-1].timestamp
            subscription.progressed_at = time.monotonic()
        finally:
            subscription.busy_since = None
            subscription.idle.set()


async def _parse(message: Any, original: Any) -> KafkaAckableMessage:
    """FastStream's envelope without its header decoding, which a foreign header can fail."""
    consumer = original.__self__._consumer
    return KafkaAckableMessage(body=b"", headers={}, raw_message=tuple(message), consumer=consumer)


def all_messages(root: type[Message] = Message) -> list[type[Message]]:
    """Every message class that this process has imported."""
    found: list[type[Message]] = []
    for subclass in root.__subclasses__():
        if hasattr(subclass, "wire"):
            found.append(subclass)
        found.extend(all_messages(subclass))
    return found
