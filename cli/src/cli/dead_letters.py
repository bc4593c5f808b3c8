"""Dead letters: read, count, replay, dismiss. What is done with is remembered as the offsets of a group.

A redelivery or a rewind buries a message again. A letter whose origin an earlier one has is the same letter
again: it waits with the first, and is done with as soon as that is. What was replayed and refused once more
has another offset in its topic, so it is a new one.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from cli.exits import Failure, WrongUsage
from cli.found import Parley
from cli.line.chosen_engines import no_broker
from contracts.catalogue import channels_among, topics
from contracts.message import DEAD_LETTER_SUFFIX
from servicekit.delivery import headers_of
from servicekit.fetching import UnreadableRecord, read_whatever_comes
from servicekit.producer import NotPublished, Outgoing, Producer
from servicekit.topics import existing_topics, partitions_of

GROUP = "parley-cli.dead-letters"
_ORIGIN = "dlq_"
_PLACE = ("dlq_topic", "dlq_partition", "dlq_offset", "dlq_subscriber")
_SAME_RECORD = (*_PLACE, "dlq_timestamp")
_LEFT_OUT = "dlq_body_left_out"
_OF_AN_EMPTY_BODY = frozenset({"missing_header", "unknown_type", "invalid_body"})
"""What a reader says of a body of no bytes; of a null one, buried as no bytes too, it says other things."""
"""With the record's time, for a topic that is made anew counts its offsets anew."""

LONGEST_MILLISECONDS = 14
"""Digits of a header that is still a time."""

_SILENCE = 15.0
"""Seconds without a record that is there, until the broker counts as away."""

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
    origin: bytes | None = None
    """Whose record it was, in few bytes; None if its headers do not say. A mended letter keeps it."""
    buried_at: int = 0
    """The broker's time of it, milliseconds since 1970."""

    @property
    def name(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def reason(self) -> str:
        return self.headers.get("dlq_reason", "unknown")

    @property
    def newest_first(self) -> tuple[int, str, int, int]:
        """Its place in a list. Of what failed at one time in one partition the later offset is the newer."""
        told = self.headers.get("dlq_failed_at", "")
        # Other systems bury letters too, and may say nothing that is a time.
        failed_at = int(told) if told.isdecimal() and len(told) <= LONGEST_MILLISECONDS else self.buried_at
        return -failed_at, self.topic, self.partition, -self.offset

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is here to be published: its body was left out, or there is no key either."""
        return not self.value and (self.key is None or _LEFT_OUT in self.headers)

    @property
    def home(self) -> str:
        """The topic it came from."""
        return self.headers.get("dlq_topic") or self.topic.removesuffix(DEAD_LETTER_SUFFIX)

    def original(self) -> Outgoing:
        """As it was before it was buried: an empty body was a null one, unless a reader looked into it."""
        headers = [(n, v.encode()) for n, v in self.headers.items() if not n.startswith(_ORIGIN)]
        was_null = not self.value and self.reason not in _OF_AN_EMPTY_BODY
        return Outgoing(self.home, self.key, None if was_null else self.value, headers)


@dataclass(frozen=True, slots=True)
class Span:
    """Of one partition: where it begins, the first that is not done with by its offset, and its end."""

    start: int
    following: int
    end: int

    @property
    def done(self) -> tuple[int, int] | None:
        end = min(self.following, self.end)
        return (self.start, end) if self.start < end else None

    @property
    def waiting(self) -> tuple[int, int] | None:
        return (self.following, self.end) if self.following < self.end else None

    def without_waiting(self) -> Span:
        return Span(self.start, self.following, min(self.following, self.end))


class DeadLetters:
    """The dead-letter topics of one running Parley."""

    def __init__(self, parley: Parley) -> None:
        self._servers = parley.kafka_bootstrap_servers
        self._prefix = f"{parley.namespace}." if parley.namespace else ""

    def count(self, topic: str | None = None, reason: str | None = None) -> Counter[tuple[str, str, bool]]:
        """(topic, reason, replayed) -> letters; in the memory of one batch and a hundred bytes a letter."""

        async def count() -> Counter[tuple[str, str, bool]]:
            found: Counter[tuple[str, str, bool]] = Counter()
            async with self._consumer() as consumer:
                async for letter in self._read(consumer, await self._spans(consumer, topic)):
                    if reason in (None, letter.reason):
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
                # The broker would be asked again and again for the end of a partition that it has not.
                there = place in await self._places([topic_])
                ends = await self._assign(consumer, [place]) if there else {}
                if not 0 <= offset < ends.get(place, 0):
                    raise Failure(f"There is no dead letter {name}.")
                consumer.seek(place, offset)
                async for letter in self._until(consumer, {place: offset + 1}, replayed=False):
                    return letter
            raise Failure(f"There is no dead letter {name} any more.")

        return self._run(get())

    def listed(self, topic: str | None, limit: int, reason: str | None = None) -> list[Letter]:
        """The newest of those not yet replayed, newest first; in the memory of as many, a batch, and a
        hundred bytes a letter."""

        async def list_() -> list[Letter]:
            found: list[Letter] = []
            async with self._consumer() as consumer:
                async for batch in self._batches(consumer, await self._spans(consumer, topic)):
                    asked = [letter for letter in batch if reason in (None, letter.reason)]
                    found = heapq.nsmallest(limit, [*found, *asked], key=lambda each: each.newest_first)
            return found

        return self._run(list_())

    def replay(self, topic: str | None, replayed: Callable[[Letter], None]) -> int:
        """Publish everything not yet replayed to where it came from; a stop in between repeats at most
        one batch, which readers survive. Empty ones are put away. Returns how many were published.

        replayed: is given each letter, the empty ones too.
        """

        async def replay() -> int:
            count = 0
            producer = Producer(self._servers, "parley-cli")
            try:
                async with self._consumer() as consumer:
                    spans = await self._spans(consumer, topic)
                    async for batch in self._batches(consumer, spans):
                        whole = [letter for letter in batch if not letter.is_empty]
                        await producer.publish_all([letter.original() for letter in whole])
                        await consumer.commit(_after(batch))
                        for letter in batch:
                            replayed(letter)
                        count += len(whole)
                    if passed := {place: span.end for place, span in spans.items() if span.waiting}:
                        await consumer.commit(passed)  # the same letters again, behind the last
            finally:
                await producer.close()
            return count

        return self._run(replay())

    def replay_one(self, letter: Letter) -> bool:
        """Publish one letter, perhaps mended.

        False: an earlier one waits, and it stays in the list until that is done with.
        """
        if letter.is_empty:
            raise Failure(
                f"{letter.name} has no body here to publish: give it one with --edit, or dismiss it."
            )

        async def replay() -> bool:
            producer = Producer(self._servers, "parley-cli")
            try:
                await producer.publish_all([letter.original()])
            finally:
                await producer.close()
            async with self._consumer() as consumer:
                first, done = await self._first(consumer, letter)
                if first is not None and _is_again(letter, first):
                    await consumer.commit(_after([first]))
                    return True
                return done

        return self._run(replay())

    def dismiss(self, letter: Letter) -> None:
        """Put it away as it is; in order, since what is done with is remembered as an offset."""

        async def dismiss() -> None:
            async with self._consumer() as consumer:
                first, done = await self._first(consumer, letter)
                if first is None or done:
                    raise Failure(f"{letter.name} was replayed or dismissed before.")
                if not _is_again(letter, first):
                    raise WrongUsage(f"An earlier letter waits: replay or dismiss {first.name} first.")
                await consumer.commit(_after([first]))

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
            read_whatever_comes(consumer)
            yield consumer
        finally:
            await consumer.stop()

    async def _spans(self, consumer: AIOKafkaConsumer, topic: str | None) -> dict[TopicPartition, Span]:
        """What there is now, in all partitions of the topics."""
        places = await self._places(await self._names(topic))
        ends = await self._assign(consumer, places)
        starts = await consumer.beginning_offsets(places)
        committed = {place: await consumer.committed(place) or 0 for place in places if ends[place]}
        return {
            place: Span(starts[place], max(committed.get(place, 0), starts[place]), ends[place])
            for place in places
        }

    async def _read(
        self, consumer: AIOKafkaConsumer, spans: dict[TopicPartition, Span], seen: set[bytes] | None = None
    ) -> AsyncIterator[Letter]:
        """Each letter once: all that are done with, then those that wait, in order within a partition.

        What is done with comes first, for a record without a key is buried in any partition, each time anew.
        seen: is given the origins of all that were read.
        """
        seen = set() if seen is None else seen
        done = {place: span.done for place, span in spans.items() if span.done}
        waiting = {place: span.waiting for place, span in spans.items() if span.waiting}
        for ways, replayed in ((done, True), (waiting, False)):
            if not ways:
                continue
            consumer.assign(list(ways))
            for place, (start, _) in ways.items():
                consumer.seek(place, start)
            ends = {place: end for place, (_, end) in ways.items()}
            async for letter in self._until(consumer, ends, replayed):
                if letter.origin in seen:
                    continue
                if letter.origin is not None:
                    seen.add(letter.origin)
                yield letter

    async def _batches(
        self, consumer: AIOKafkaConsumer, spans: dict[TopicPartition, Span]
    ) -> AsyncIterator[list[Letter]]:
        """What is not yet replayed, in order within a partition."""
        batch: list[Letter] = []
        async for letter in self._read(consumer, spans):
            if letter.replayed:
                continue
            batch.append(letter)
            if len(batch) >= 500:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _until(
        self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], replayed: bool
    ) -> AsyncIterator[Letter]:
        heard = time.monotonic()
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            found = await consumer.getmany(timeout_ms=200, max_records=500)
            if not found and time.monotonic() - heard > _SILENCE:
                raise KafkaConnectionError(f"The broker told nothing for {_SILENCE:.0f} seconds")
            for place, records in found.items():
                for record in records:
                    if record.offset < ends.get(place, 0):
                        yield _letter(record, replayed)
            if found:  # whatever its reader took for it
                heard = time.monotonic()

    async def _first(self, consumer: AIOKafkaConsumer, letter: Letter) -> tuple[Letter | None, bool]:
        """The oldest that waits in the letter's partition, and whether the letter itself is done with."""
        place = TopicPartition(letter.topic, letter.partition)
        spans = await self._spans(consumer, letter.topic)
        following = spans[place].following
        if letter.offset <= following:  # as almost always: nothing has to be read
            return (letter, False) if letter.offset == following else (None, True)
        spans = {each: span if each == place else span.without_waiting() for each, span in spans.items()}
        done: set[bytes] = set()
        async for each in self._read(consumer, spans, done):
            if not each.replayed:
                before = letter.offset < each.offset
                again = letter.origin in done and not _is_again(letter, each)
                return each, before or again
        return None, True

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

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run(work)
        except (KafkaError, OSError, NotPublished) as error:
            raise no_broker(self._servers) from error


def _after(batch: list[Letter]) -> dict[TopicPartition, int]:
    return {TopicPartition(letter.topic, letter.partition): letter.offset + 1 for letter in batch}


def _letter(record: Any, replayed: bool) -> Letter:
    headers = headers_of(record)
    if isinstance(record, UnreadableRecord):
        headers = {"dlq_reason": "unreadable", "dlq_detail": record.why}
    return Letter(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value or b"",
        headers,
        replayed,
        _origin(headers),
        record.timestamp,
    )


def _origin(headers: dict[str, str]) -> bytes | None:
    if any(name not in headers for name in _PLACE):
        return None
    told = "\0".join(headers.get(name, "") for name in _SAME_RECORD)
    return blake2b(told.encode(), digest_size=16).digest()


def _is_again(letter: Letter, first: Letter) -> bool:
    """Whether it is the first, or the same once more."""
    return letter.offset == first.offset or (letter.origin is not None and letter.origin == first.origin)


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
