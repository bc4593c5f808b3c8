"""Whatever a foreign producer packed: it is read, or it is a dead letter, and nobody else's is lost by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import BrokerResponseError
from aiokafka.record.memory_records import MemoryRecords

from contracts.catalogue import dead_letters_of
from contracts.message import wire_headers
from servicekit.fetching import Failures, ReadableRecords, UnreadableRecord
from servicekit.metrics import Metrics
from servicekit.verdict import Outcome
from tests.batches import NO_CODEC, packed, put
from tests.engines import Engines
from tests.kit import Wire, eventually
from tests.servicekit.conftest import SAID, WordSaid, bus_alone, said

PLACE = TopicPartition("t", 3)
TOPICS = (SAID, dead_letters_of(SAID))


def plain(number: int) -> tuple[bytes, bytes, list[Any]]:
    return (b"k", str(number).encode(), [])


class Reading:
    """What polls give of one partition, one after another."""

    def __init__(self, *batches: tuple[int, bytes]) -> None:
        """batches: each with the offset behind it."""
        self.batches = batches
        self._failures = Failures()
        self.position = 0

    def poll(self) -> Iterator[Any]:
        answer = b"".join(batch for end, batch in self.batches if end > self.position)
        fetched = PartitionRecords(PLACE, MemoryRecords(answer), [], self.position, None, None, True, 0)
        records = ReadableRecords(PLACE, fetched, self._failures)
        yield from records
        self.position = records.next_fetch_offset


def test_what_lies_around_a_broken_batch_is_given_and_each_of_its_records_is_told() -> None:
    broken = packed([plain(2), plain(3)], 2, NO_CODEC)
    reading = Reading((2, packed([plain(0), plain(1)])), (4, broken), (5, packed([plain(4)], 4)))
    polls: list[list[Any]] = []
    while reading.position < 5:
        assert len(polls) < 20, polls
        polls.append(list(reading.poll()))
    given = [record for poll in polls for record in poll]
    assert [record.offset for record in given] == [0, 1, 2, 3, 4]
    assert [isinstance(record, UnreadableRecord) for record in given] == [False, False, True, True, False]
    assert [len(poll) for poll in polls] == [2, 0, 0, 1, 1, 1], "fetched three times before it is given up"
    assert (given[2].topic, given[2].partition, given[2].value) == ("t", 3, None)
    assert "UnsupportedCodec" in given[2].why


def test_what_is_broken_only_once_is_given_as_it_was() -> None:
    whole = packed([plain(0)])
    reading = Reading((1, whole[:-1] + bytes([whole[-1] ^ 1])))
    assert [list(reading.poll()), list(reading.poll())] == [[], []]
    reading.batches = ((1, whole),)
    (record,) = reading.poll()
    assert (record.value, reading.position) == (b"0", 1)


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    async def take(self, batch: Sequence[Any]) -> list[Outcome]:
        self.heard += [(delivery.message.name, delivery.message.number) for delivery in batch]
        return [None] * len(batch)

    def has(self, *wanted: tuple[str, int]) -> Any:
        async def heard() -> bool:
            return set(wanted) <= set(self.heard)

        return heard


def as_record(message: WordSaid) -> tuple[bytes, bytes, list[Any]]:
    headers = wire_headers(message, "test", "2026-01-05T12:00:00Z")
    return (message.key().encode(), message.to_json(), headers)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_of_kafka_is_read(codec: str, engines: Engines, wire: Wire) -> None:
    await wire.create_topics(TOPICS)
    ear = Ear()
    async with bus_alone("ears", engines, wire, Metrics()) as bus:
        bus.subscribe("hear", (WordSaid,), ear.take)
        await bus.start()
        foreign = AIOKafkaProducer(bootstrap_servers=engines.kafka, compression_type=codec)
        await foreign.start()
        key, value, headers = as_record(said("anna", 1, "hello " * 100))
        await foreign.send_and_wait(wire.name(SAID.name), value, key=key, headers=headers)
        await foreign.stop()
        await eventually(ear.has(("anna", 1)), "it to be heard")


async def test_what_nobody_can_unpack_is_a_dead_letter_and_loses_nothing_of_others(
    engines: Engines, wire: Wire
) -> None:
    await wire.create_topics(TOPICS)
    ear = Ear()
    topic = wire.name(SAID.name)
    wanted = [(f"name-{n}", 1) for n in range(200)]
    async with bus_alone("ears", engines, wire, Metrics()) as bus:
        subscriber = bus.subscribe("hear", (WordSaid,), ear.take).subscriber
        join = subscriber.start

        async def start() -> None:
            """As if others were to join after it: it takes what comes while they do."""
            await join()
            await eventually(ear.has(*wanted), "everybody else to be heard")

        subscriber.start = start
        await wire.publish(*(said(*each) for each in wanted[:100]))
        broken = packed([as_record(said("lost", 1)), as_record(said("lost", 2))], codec=NO_CODEC)
        try:
            await put(engines, TopicPartition(topic, 5), broken)
        except BrokerResponseError as refused:
            pytest.skip(f"this broker looks into what it is given: {refused!r}")
        await wire.publish(*(said(*each) for each in wanted[100:]))
        await bus.start()
        await eventually(ear.has(*wanted), "everybody else to be heard")

        async def buried() -> Any:
            return [
                each
                for each in await wire.dead_letters(SAID.name)
                if (each["dlq_reason"], each["dlq_subscriber"]) == ("unreadable", "ears.hear")
            ]

        one, other = await eventually(buried_both(buried), "both to be told")
    assert one["dlq_partition"] == other["dlq_partition"] == "5"
    # Without a key they lie in any partition of the dead letters.
    assert abs(int(other["dlq_offset"]) - int(one["dlq_offset"])) == 1
    assert "UnsupportedCodec" in one["dlq_detail"]
    assert len(ear.heard) == len(set(ear.heard)), "and nobody twice"


def buried_both(buried: Any) -> Any:
    async def both() -> Any:
        found = await buried()
        return found if len(found) == 2 else None

    return both


async def test_what_its_producer_took_back_was_never_said(engines: Engines, wire: Wire) -> None:
    if engines.kind == "embedded":
        pytest.skip("the embedded broker does not tell rightly what was taken back")
    await wire.create_topics(TOPICS)
    ear = Ear()
    async with bus_alone("ears", engines, wire, Metrics()) as bus:
        subscription = bus.subscribe("hear", (WordSaid,), ear.take)
        await bus.start()
        foreign = AIOKafkaProducer(bootstrap_servers=engines.kafka, transactional_id=wire.name("foreign"))
        await foreign.start()
        for number, kept in ((1, False), (2, True)):
            await foreign.begin_transaction()
            key, value, headers = as_record(said("anna", number))
            await foreign.send_and_wait(wire.name(SAID.name), value, key=key, headers=headers)
            await (foreign.commit_transaction() if kept else foreign.abort_transaction())
        await foreign.stop()
        await wire.publish(said("anna", 3))
        await eventually(ear.has(("anna", 2), ("anna", 3)), "what was said for good")

        async def nothing_is_left() -> bool:
            return subscription.lag() == 0

        await eventually(nothing_is_left, "no lag to be left")
    assert ear.heard == [("anna", 2), ("anna", 3)]
