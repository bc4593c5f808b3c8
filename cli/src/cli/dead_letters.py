"""Dead letters: read, count, replay, dismiss. What is done with is remembered as the offsets of a group."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from cli.exits import Failure, WrongUsage
from cli.found import Parley
from cli.line.chosen_engines import no_broker
from contracts.catalogue import channels_among, topics
from contracts.message import DEAD_LETTER_SUFFIX
from servicekit.delivery import headers_of
from servicekit.producer import NotPublished, Outgoing, Producer
from servicekit.topics import existing_topics, partitions_of

GROUP = "parley-cli.dead-letters"
_ORIGIN = "dlq_"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter and where it lies."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, str]
    replayed: bool

    @property
    def name(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def reason(self) -> str:
        return self.headers.get("dlq_reason", "unknown")

    @property
    def home(self) -> str:
        """The topic it came from."""
        return self.headers.get("dlq_topic") or self.topic.removesuffix(DEAD_LETTER_SUFFIX)

    def original(self) -> Outgoing:
        """As it was before it was buried; an empty body was a null one."""
        headers = [(n, v.encode()) for n, v in self.headers.items() if not n.startswith(_ORIGIN)]
        return Outgoing(self.home, self.key, self.value or None, headers)


class DeadLetters:
    """The dead-letter topics of one running Parley."""

    def __init__(self, parley: Parley) -> None:
        self._servers = parley.kafka_bootstrap_servers
        self._prefix = f"{parley.namespace}." if parley.namespace else ""

    def count(self, topic: str | None = None) -> Counter[tuple[str, str, bool]]:
        """(topic, reason, replayed) -> letters; in the memory of one batch."""

        async def count() -> Counter[tuple[str, str, bool]]:
            found: Counter[tuple[str, str, bool]] = Counter()
            async with self._consumer() as consumer:
                async for letter in self._read(consumer, await self._names(topic)):
                    found[letter.topic, letter.reason, letter.replayed] += 1
            return found

        return self._run(count())

    def show(self, name: str) -> Letter:
        """The letter called `topic:partition:offset`."""
        topic, partition, offset = _place(name)

        async def get() -> Letter:
            async with self._consumer() as consumer:
                (topic_,) = await self._names(topic)
                place = TopicPartition(topic_, partition)
                ends = await self._assign(consumer, [place]) if partition < 10_000 else {}
                if not 0 <= offset < ends.get(place, 0):
                    raise WrongUsage(f"There is no dead letter {name}.")
                consumer.seek(place, offset)
                async for letter in self._until(consumer, {place: offset + 1}, {}):
                    return letter
            raise WrongUsage(f"There is no dead letter {name} any more.")

        return self._run(get())

    def listed(self, topic: str | None, limit: int) -> list[Letter]:
        """Those not yet replayed, oldest first in each partition."""

        async def list_() -> list[Letter]:
            found: list[Letter] = []
            async with self._consumer() as consumer:
                async for letter in self._read(consumer, await self._names(topic)):
                    if not letter.replayed:
                        found.append(letter)
                    if len(found) >= limit:
                        break
            return found

        return self._run(list_())

    def replay(self, topic: str | None, replayed: Callable[[Letter], None]) -> int:
        """Publish everything not yet replayed to where it came from; a stop in between repeats at most
        one batch, which readers survive."""

        async def replay() -> int:
            count = 0
            producer = Producer(self._servers, "parley-cli")
            try:
                async with self._consumer() as consumer:
                    async for batch in self._batches(consumer, await self._names(topic)):
                        await producer.publish_all([letter.original() for letter in batch])
                        await consumer.commit(_after(batch))
                        for letter in batch:
                            replayed(letter)
                        count += len(batch)
            finally:
                await producer.close()
            return count

        return self._run(replay())

    def replay_one(self, letter: Letter) -> bool:
        """Publish one letter, perhaps mended.

        False: an earlier one waits, and it stays in the list until that is done with.
        """

        async def replay() -> bool:
            producer = Producer(self._servers, "parley-cli")
            try:
                await producer.publish_all([letter.original()])
            finally:
                await producer.close()
            place = TopicPartition(letter.topic, letter.partition)
            async with self._consumer() as consumer:
                await self._assign(consumer, [place])
                following = await self._following(consumer, place)
                if following == letter.offset:
                    await consumer.commit({place: letter.offset + 1})
                return letter.offset <= following

        return self._run(replay())

    def dismiss(self, letter: Letter) -> None:
        """Put it away as it is; in order, since what is done with is remembered as an offset."""

        async def dismiss() -> None:
            place = TopicPartition(letter.topic, letter.partition)
            async with self._consumer() as consumer:
                await self._assign(consumer, [place])
                following = await self._following(consumer, place)
                if letter.offset < following:
                    raise WrongUsage(f"{letter.name} was replayed or dismissed before.")
                if letter.offset > following:
                    next_ = f"{letter.topic}:{letter.partition}:{following}"
                    raise WrongUsage(f"An earlier letter waits: replay or dismiss {next_} first.")
                await consumer.commit({place: letter.offset + 1})

        self._run(dismiss())

    async def _names(self, topic: str | None) -> list[str]:
        """Those of Parley's own topics, and of the channels of others that the broker has."""
        there = await existing_topics(self._servers)
        bare = [name.removeprefix(self._prefix) for name in there if name.startswith(self._prefix)]
        known = [t.name for t in topics(channels_among(bare)) if t.name.endswith(DEAD_LETTER_SUFFIX)]
        if topic is None:
            return [self._prefix + name for name in known]
        asked = topic.removeprefix(self._prefix).removesuffix(DEAD_LETTER_SUFFIX)
        if asked + DEAD_LETTER_SUFFIX not in known:
            raise WrongUsage(f"There is no topic {asked!r}; see: parley topics")
        return [self._prefix + asked + DEAD_LETTER_SUFFIX]

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=self._prefix + GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, names: list[str]) -> AsyncIterator[Letter]:
        """Everything there is now, the replayed too."""
        places = await self._places(names)
        ends = await self._assign(consumer, places)
        committed = {place: await self._next(consumer, place) for place in places if ends[place]}
        await consumer.seek_to_beginning(*places)
        async for letter in self._until(consumer, ends, committed):
            yield letter

    async def _batches(self, consumer: AIOKafkaConsumer, names: list[str]) -> AsyncIterator[list[Letter]]:
        """What is not yet replayed, in order within a partition."""
        places = await self._places(names)
        ends = await self._assign(consumer, places)
        starts = await consumer.beginning_offsets(places)
        for place in places:
            consumer.seek(place, max(await self._next(consumer, place), starts[place]))
        batch: list[Letter] = []
        async for letter in self._until(consumer, ends, {}):
            batch.append(letter)
            if len(batch) >= 500:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _until(
        self,
        consumer: AIOKafkaConsumer,
        ends: dict[TopicPartition, int],
        committed: dict[TopicPartition, int],
    ) -> AsyncIterator[Letter]:
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for place, records in (await consumer.getmany(timeout_ms=200, max_records=500)).items():
                for record in records:
                    if record.offset < ends.get(place, 0):
                        yield _letter(record, record.offset < committed.get(place, 0))

    async def _places(self, names: list[str]) -> list[TopicPartition]:
        places = await partitions_of(self._servers, names)
        if not places:
            raise Failure(
                f"There is no topic {names[0]} in the broker; create it as `parley setup --help` says"
            )
        return places

    async def _assign(
        self, consumer: AIOKafkaConsumer, places: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        consumer.assign(places)
        return dict(await consumer.end_offsets(places))

    async def _following(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
        """The offset of the oldest letter that waits."""
        first: int = (await consumer.beginning_offsets([place]))[place]
        return max(await self._next(consumer, place), first)

    async def _next(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
        return await consumer.committed(place) or 0

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run(work)
        except (KafkaError, OSError, NotPublished) as error:
            raise no_broker(self._servers) from error


def _after(batch: list[Letter]) -> dict[TopicPartition, int]:
    return {TopicPartition(letter.topic, letter.partition): letter.offset + 1 for letter in batch}


def _letter(record: Any, replayed: bool) -> Letter:
    return Letter(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value or b"",
        headers_of(record),
        replayed,
    )


def _place(name: str) -> tuple[str, int, int]:
    topic, _, numbers = name.partition(":")
    partition, _, offset = numbers.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise WrongUsage(f"{name!r} is not TOPIC:PARTITION:OFFSET, as `parley dlq list --letters` shows it.")
    return topic, int(partition), int(offset)


def rows(counts: Counter[tuple[str, str, bool]]) -> Iterator[dict[str, Any]]:
    """One row for each topic and reason."""
    for topic, reason in sorted({(topic, reason) for topic, reason, _ in counts}):
        waiting, done = counts[topic, reason, False], counts[topic, reason, True]
        yield {"topic": topic, "reason": reason, "waiting": waiting, "replayed": done}
