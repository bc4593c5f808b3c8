"""How a consumer asks the broker, where aiokafka's and FastStream's own ways lose time or records.

This reaches into aiokafka's fetcher; the versions of it are pinned, and `tests/servicekit/test_fetching.py`
would notice another shape.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords

_HELD_SECONDS = 0.1
_SHORTEST_REST = 0.005
_SOON = 0.1
_LONGEST_REST = 0.4
_TRIES = 3


@dataclass
class UnreadableRecord(ConsumerRecord):  # type: ignore[misc]
    """Stands for one that the broker has and nobody can unpack: an unknown codec, a broken checksum.

    Its origin is right, and all the rest of it is empty.
    """

    why: str = ""


def _unreadable(partition: TopicPartition, offset: int, error: Exception) -> UnreadableRecord:
    return UnreadableRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=(),
        why=f"{type(error).__name__}: {error}"[:500],
    )


class Failures:
    """How often the record at some place of each partition could not be unpacked."""

    def __init__(self) -> None:
        self._at: dict[TopicPartition, tuple[int, int]] = {}

    def is_lasting(self, partition: TopicPartition, offset: int) -> bool:
        """One more. What follows a lasting one is packed in with it, and lasts as well."""
        place, tries = self._at.get(partition, (offset, 0))
        tries = tries + 1 if place == offset or (place + 1 == offset and tries >= _TRIES) else 1
        self._at[partition] = (offset, tries)
        return tries >= _TRIES

    def forget(self, partition: TopicPartition) -> None:
        """It was read to its end."""
        self._at.pop(partition, None)


class ReadableRecords:
    """What was fetched of one partition, in the place of aiokafka's own.

    That one raises out of the poll at what it cannot unpack, and with it goes what the same poll has taken of
    other partitions, whose positions have moved: nobody would ever see it. Here what lies before it is given,
    it is fetched again, and when that does not help it is given as an `UnreadableRecord`.
    """

    def __init__(self, partition: TopicPartition, records: PartitionRecords, failures: Failures) -> None:
        self._partition = partition
        self._records = records
        self._failures = failures
        self._behind: int | None = None

    @property
    def next_fetch_offset(self) -> int:
        """Where the next fetch begins: what aiokafka makes the position of the consumer."""
        offset: int = self._records.next_fetch_offset if self._behind is None else self._behind
        return offset

    def __iter__(self) -> Iterator[ConsumerRecord]:
        given = False
        try:
            for record in self._records:
                given = True
                yield record
        except Exception as error:
            offset = self.next_fetch_offset
            if given or not self._failures.is_lasting(self._partition, offset):
                return
            self._behind = offset + 1
            yield _unreadable(self._partition, offset, error)
        else:
            if given:
                self._failures.forget(self._partition)


def read_whatever_comes(consumer: AIOKafkaConsumer) -> None:
    """What this consumer cannot unpack is an `UnreadableRecord` from now on, and loses nothing else."""
    fetcher = consumer._fetcher
    fetch = fetcher._proc_fetch_request
    failures = Failures()

    async def fetch_readably(assignment: Any, node_id: int, request: Any) -> bool:
        found: bool = await fetch(assignment, node_id, request)
        for partition, result in fetcher._records.items():
            records = getattr(result, "_partition_records", None)
            if isinstance(records, PartitionRecords):
                result._partition_records = ReadableRecords(partition, records, failures)
        return found

    fetcher._proc_fetch_request = fetch_readably


def rest_between_empty_fetches(consumer: AIOKafkaConsumer) -> None:
    """A broker that answers an empty fetch at once, instead of holding it until there is something, would
    be asked hundreds of times a second. Apache Kafka holds it, and then nothing rests here. Who has had
    nothing for some seconds rests longer: asking is most of what a quiet line does."""
    fetcher = consumer._fetcher
    fetch = fetcher._proc_fetch_request
    rest = _SHORTEST_REST

    async def fetch_and_rest(assignment: Any, node_id: int, request: Any) -> bool:
        nonlocal rest
        began = time.monotonic()
        found: bool = await fetch(assignment, node_id, request)
        if found or time.monotonic() - began > _HELD_SECONDS:
            rest = _SHORTEST_REST
            return found
        try:
            await asyncio.sleep(rest)
        except asyncio.CancelledError:
            return found
        rest = min(rest * (1.5 if rest < _SOON else 1.1), _LONGEST_REST)
        return found

    fetcher._proc_fetch_request = fetch_and_rest


class Resting(Protocol):
    rests_until: float
    """Monotonic time before which nothing is asked for."""


def poll_until_there_is_something(consumer: AIOKafkaConsumer, whose: Resting) -> None:
    """FastStream sleeps after a poll that found nothing, and what arrives meanwhile waits: it finds nothing
    no more. A stop cancels the poll."""
    poll = consumer.getmany

    async def poll_patiently(*partitions: TopicPartition, **options: Any) -> Any:
        await asyncio.sleep(max(0.0, whose.rests_until - time.monotonic()))
        while not (found := await poll(*partitions, **options)):
            pass
        return found

    consumer.getmany = poll_patiently
