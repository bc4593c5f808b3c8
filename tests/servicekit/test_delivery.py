"""What reaches a handler, what does not, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import ANY

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts.catalogue import dead_letters_of
from contracts.message import LARGEST_RECORD
from servicekit.bus import LostConsumer, Revocation, Subscription
from servicekit.conflicts import Conflict
from servicekit.delivery import Delivery, Ignored, Reader, Rejected, Tombstone, event_time
from servicekit.failpoints import FAILPOINTS
from servicekit.metrics import Metrics
from servicekit.pipeline import BatchHandler, Pipeline, by_type
from servicekit.producer import Producer
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from servicekit.verdict import GiveUp, Outcome, TryAgain, Unchanged
from tests.engines import Engines
from tests.kit import Wire, eventually, running, settled
from tests.servicekit.conftest import HEARD, SAID, EarService, WordHeard, WordSaid, bus_alone, said

TOPICS = (SAID, HEARD, dead_letters_of(SAID), dead_letters_of(HEARD))
CE = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_type", b"test.word.said.v1"),
    ("ce_source", b"test"),
]


@pytest.mark.parametrize(
    ("told", "kafka", "time"),
    [
        ("2026-03-01T12:00:00+02:00", 0, "2026-03-01T10:00:00+00:00"),
        ("yesterday", 1000, "1970-01-01T00:00:01+00:00"),
        ("2026-03-01T12:00:00", 1000, "1970-01-01T00:00:01+00:00"),
        ("0001-01-01T00:00:00+14:00", 1000, "1970-01-01T00:00:01+00:00"),
        ("9999-12-31T23:59:59-12:00", 1000, "1970-01-01T00:00:01+00:00"),
        ("", -1, "1970-01-01T00:00:00+00:00"),
        ("", 2**62, "8999-12-31T23:59:59.999000+00:00"),
    ],
)
def test_the_time_of_an_event_is_one_that_a_body_may_have(told: str, kafka: int, time: str) -> None:
    assert event_time(told, SimpleNamespace(timestamp=kafka)) == datetime.fromisoformat(time)


async def test_each_message_has_its_effect_once_however_often_it_comes(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    words = [said(f"name-{n % 7}", n) for n in range(200)]
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        await wire.publish(*words)
        await wire.publish(*words)
        await wire.expect(WordHeard, 200)
        await settled(service)
        heard = await wire.messages(WordHeard)
        assert len(heard) == 200
        assert {ear.version async for ear in _all(ears)} == {28, 29}


async def test_poison_goes_to_the_dead_letters_and_the_good_flows_on(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    good = said("anna", 1).to_json()
    poison: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = {
        "missing_header": (good, b"anna", [("ce_id", None)]),
        "unknown_type": (good, b"anna", [*CE[:2], ("ce_type", b"test.nothing.v1"), CE[3]]),
        "invalid_body": (b'{"name": "anna"', b"anna", [*CE]),
        "null_body": (None, b"anna", [*CE]),
        "wrong_key": (good, b"berta", [*CE]),
        "never": (said("anna", 2, "never").to_json(), b"anna", [*CE]),
        "bug: KeyError": (said("anna", 3, "bug").to_json(), b"anna", [*CE]),
    }
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        for value, key, headers in poison.values():
            await wire.publish_raw("word-said", value, key, [*headers, ("odd", b"\xff\xfe")])
        await wire.publish(said("anna", 9, "good"))
        await wire.expect(WordHeard, 1)
        await settled(service)
        letters = await wire.dead_letters("word-said")
        assert sorted(letter["dlq_reason"] for letter in letters) == sorted(poison)
        assert all(letter["dlq_topic"].endswith("word-said") for letter in letters)
        assert (await wire.messages(WordHeard))[0].words == ("good",)


def test_who_names_an_unknown_type_is_told_the_whole_names_of_the_known_ones() -> None:
    record = SimpleNamespace(value=b"{}", key=b"anna", headers=[*CE[:2], ("ce_type", b"test.word"), CE[3]])
    told = "ce_type 'test.word' is not published here: test.word.heard.v1, test.word.said.v1"
    assert Reader((WordSaid,), (WordSaid, WordHeard))(record) == Rejected(record, "unknown_type", told)


@pytest.mark.parametrize(
    ("type_", "ignored"),
    [("test.word.heard.v1", True), ("test.word.said.v2", True), ("test.word.said.v10", True)]
    + [(f"test.word.said.v{told}", False) for told in ("0", "01", "X", "1.v2", "9" * 5000)],
)
def test_only_what_is_later_than_a_known_type_is_passed_over(type_: str, ignored: bool) -> None:
    record = SimpleNamespace(value=b"{}", key=b"anna", headers=[*CE[:2], ("ce_type", type_.encode()), CE[3]])
    read = Reader((WordSaid,), (WordSaid, WordHeard))(record)
    assert read == (Ignored(record) if ignored else Rejected(record, "unknown_type", ANY))


@pytest.mark.parametrize(("size", "taken"), [(LARGEST_RECORD, True), (LARGEST_RECORD + 1, False)])
def test_compression_makes_no_room_for_a_larger_body(size: int, taken: bool) -> None:
    body = said("anna", 1).to_json()
    record = SimpleNamespace(value=body + b" " * (size - len(body)), key=b"anna", headers=CE)
    read = Reader((WordSaid,), (WordSaid,))(record)
    assert isinstance(read, Delivery) if taken else read == Rejected(record, "too_large", ANY)


async def test_what_is_too_large_for_the_dead_letters_leaves_its_body_and_holds_nothing_back(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    body = b"{" + b" " * (1024 * 1024 - 350)
    async with running(ears.build, ServiceSettings, engines, wire.namespace):
        await wire.publish_raw("word-said", body, b"anna", CE)
        await wire.publish(said("anna", 1))
        await wire.expect(WordHeard, 1)

        async def buried() -> list[dict[str, str]]:
            return await wire.dead_letters("word-said")

        (letter,) = await eventually(buried, "a dead letter")
        assert letter["dlq_reason"] == "invalid_body"
        assert letter["dlq_body_left_out"] == str(len(body))


async def test_what_could_never_be_announced_is_given_up_and_changes_nothing(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        await wire.publish(said("anna", 1, "x" * (1024 * 1024 - 400)), said("anna", 2, "small"))
        (heard,) = await wire.expect(WordHeard, 1)
        await settled(service)
        assert heard.words == ("small",)
        (letter,) = await wire.dead_letters("word-said")
        assert letter["dlq_reason"] == "too_large"


async def test_a_newer_version_of_a_known_type_is_left_alone(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        newer = [*CE[:2], ("ce_type", b"test.word.said.v2"), CE[3]]
        await wire.publish_raw("word-said", b'{"all": "different"}', b"anna", newer)
        await wire.publish(said("anna", 1))
        await wire.expect(WordHeard, 1)
        await settled(service)
        assert await wire.dead_letters("word-said") == []


async def test_what_must_wait_holds_back_its_own_key_only(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        await wire.publish(said("anna", 1, "later"), said("anna", 2), *(said(f"b{n}", 1) for n in range(5)))
        await wire.expect(WordHeard, 5)
        ears.patience["arrived"] = True
        heard = await wire.expect(WordHeard, 7)
        await settled(service)
        assert max(heard, key=lambda h: len(h.words)).words == ("later", "hello")


async def test_what_never_arrives_ends_in_the_dead_letters(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace):
        await wire.publish(said("anna", 1, "later"), said("anna", 2, "good"))
        (heard,) = await wire.expect(WordHeard, 1)
        assert heard.words == ("good",)
        (letter,) = await eventually(lambda: wire.dead_letters("word-said"), "the dead letter")
        assert letter["dlq_reason"] == "tries_exhausted"
        assert letter["dlq_detail"] == "not yet"


async def test_what_waits_long_is_not_given_up_because_others_wait_less() -> None:
    tries: dict[bytes, list[float]] = {}

    async def handler(batch: Sequence[Any]) -> Sequence[Outcome]:
        for delivery in batch:
            tries.setdefault(delivery.record.value, []).append(time.monotonic())
        waits = {b"long": 0.3, b"behind": 0.01, b"short": 0.01}
        return [TryAgain("not yet", after=waits[delivery.record.value]) for delivery in batch]

    letters: list[Any] = []

    class Post:
        async def publish(self, outgoing: Sequence[Any]) -> list[None]:
            letters.extend(outgoing)
            return [None] * len(outgoing)

    def reader(record: Any) -> Delivery[Any]:
        return Delivery(SimpleNamespace(), {}, record)

    pipeline = Pipeline("patience", reader, handler, Post(), Metrics(), asyncio.Event(), tries=3)  # type: ignore[arg-type]
    records = [
        SimpleNamespace(topic="t", partition=0, offset=n, timestamp=0, key=key, value=value, headers=[])
        for n, (key, value) in enumerate([(b"a", b"long"), (b"a", b"behind"), (b"b", b"short")])
    ]
    await pipeline(records)
    assert [letter.value for letter in letters].count(b"long") == 1
    assert len(letters) == 3
    assert tries[b"long"][-1] - tries[b"long"][0] >= 0.7, "0.3 s, and half as long again"
    assert tries[b"short"][-1] - tries[b"short"][0] < 0.3


@pytest.mark.parametrize(
    ("silent", "looks"),
    [
        # Of three tries; each number: for how many seconds the broker has been silent at that look.
        ([0.0, 0.0, 0.0], 3),
        ([10.0, 10.0, 10.0, 0.0, 0.0, 0.0], 6),  # away from the beginning
        ([0.0, 0.0, 10.0, 0.0, 0.0, 0.0], 6),  # away in the middle: the row begins anew
        ([0.0, 0.0, 0.9, 0.0], 4),  # slow to answer once
        ([0.0, 0.0, 0.9, 1.9, 0.0, 0.0, 0.0], 7),  # it had gone just before the last try
        ([0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0], 7),  # it is slow all the time: the row begins anew once
        ([0.0, 9.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0], 8),  # away twice
    ],
)
async def test_no_try_is_counted_while_the_broker_is_away(
    silent: Sequence[float], looks: int, engines: Engines, wire: Wire
) -> None:
    await wire.create_topics(TOPICS)
    looked = 0

    async def handler(batch: Sequence[Any]) -> Sequence[Outcome]:
        nonlocal looked
        looked += 1
        return [TryAgain("not yet", after=0.01)]

    producer, metrics = Producer(engines.kafka, "test"), Metrics()
    pipeline = Pipeline(
        "patience",
        Reader((WordSaid,), (WordSaid,)),
        handler,
        producer,
        metrics,
        asyncio.Event(),
        tries=3,
        broker_silent=lambda: silent[looked - 1],
    )
    topic = wire.name("word-said")
    await pipeline(
        [ConsumerRecord(topic, 0, 0, 0, 0, b"anna", said("anna", 0).to_json(), None, 4, 2, tuple(CE))]
    )
    await producer.close()
    assert looked == looks == len(silent)
    assert metrics.consumed.labels("patience", "dead_letter")._value.get() == 1


async def test_a_database_that_is_away_is_waited_for(engines: Engines, wire: Wire, ears: EarService) -> None:
    await wire.create_topics(TOPICS)
    down = {"left": 3}

    def before() -> None:
        if down["left"]:
            down["left"] -= 1
            raise ConnectionError("the database is away")

    ears.before = before
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        await wire.publish(*(said("anna", n) for n in range(1, 4)))
        await wire.expect(WordHeard, 3)
        await settled(service)
        assert down["left"] == 0
        assert await wire.dead_letters("word-said") == []


async def test_no_subscriber_acknowledges_by_itself(engines: Engines, wire: Wire, ears: EarService) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        for subscription in service.bus.subscriptions:
            consumer = subscription.consumer
            assert consumer is not None
            assert consumer._enable_auto_commit is False
            assert consumer._auto_offset_reset == "earliest"
            assert consumer._group_instance_id


async def test_an_effect_survives_the_failure_between_it_and_its_acknowledgement(
    engines: Engines, wire: Wire, ears: EarService, tmp_path: Path
) -> None:
    await wire.create_topics(TOPICS)
    places = (
        "ears.hear.before_handling",
        "ears.before_commit",
        "ears.after_transaction",
        "ears.hear.before_offset_commit",
    )
    try:
        for place in places:
            # The three words may come as one batch: only the first passage is sure to happen.
            FAILPOINTS.arm(f"{place}=error@1", tmp_path / "passed")
            name = place.replace(".", "-")
            async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
                await wire.publish(*(said(name, n) for n in range(1, 4)))
                await eventually(partial(_words, ears, name), place)
                await settled(service)
            FAILPOINTS.disarm()
    finally:
        FAILPOINTS.disarm()
    failed = [line for line in (tmp_path / "passed").read_text().splitlines() if line.endswith(" error")]
    assert failed == [f"{place} error" for place in places]
    heard = sorted((message.name, message.number) for message in await wire.messages(WordHeard))
    assert heard == sorted((place.replace(".", "-"), n) for place in places for n in range(1, 4))


async def test_whoever_waits_for_a_broker_says_for_which_and_why(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    lost = ServiceSettings(
        kafka_bootstrap_servers="kafka.invalid:9092",
        mongo_url=engines.mongo,
        namespace=wire.namespace,
        instance="test-0",
        port=0,
    )
    service = ears.build(lost)
    async with service.running(), httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as api:

        async def told() -> Any:
            return (await api.get("/readyz")).json().get("waiting_for")

        said = await eventually(told, "the service to say what it waits for")
        assert said.startswith("Kafka at kafka.invalid:9092: ")


async def test_whoever_consumes_waits_no_longer(engines: Engines, wire: Wire, ears: EarService) -> None:
    def waiting(settings: ServiceSettings) -> Service:
        service = ears.build(settings)
        service.bus.waits = "Kafka somewhere"
        return service

    await wire.create_topics(TOPICS)
    async with (
        running(waiting, ServiceSettings, engines, wire.namespace) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as api,
    ):
        assert (await api.get("/readyz")).json() == {"ready": True, "consuming": True}


async def test_a_subscriber_is_stalled_only_while_there_is_a_broker(engines: Engines, wire: Wire) -> None:
    await wire.create_topics(TOPICS)
    taken = 0

    async def take(batch: Sequence[Any]) -> list[Outcome]:
        nonlocal taken
        taken += len(batch)
        return [None] * len(batch)

    metrics = Metrics()
    async with bus_alone("ears", engines, wire, metrics) as bus:
        subscription = bus.subscribe("hear", (WordSaid,), take)
        await bus.start()
        await wire.publish(*(said("anna", n) for n in range(1, 4)))

        async def nothing_is_left() -> bool:
            return taken == 3 and subscription.lag() == 0

        await eventually(nothing_is_left, "its messages to be taken")
        consumer = await _left_behind(subscription)
        assert subscription.lag() == 3
        assert [await bus.look() for _ in range(30)] == [[]] * 30, "it has only just taken something"
        subscription.progressed_at -= 61
        for _ in range(12):
            assert bus.stalled() == []
            assert await bus.look() == []
        assert bus.stalled() == ["ears.hear"]
        bus.servers = "127.0.0.1:1"
        assert await bus.look() == []
        assert bus.stalled() == [], "nobody is at fault while no broker answers"
        bus.servers = engines.kafka
        looks = [await bus.look() for _ in range(24)]
        assert looks == [[]] * 23 + [["ears.hear"]]
        subscription.behind_since -= 61
        subscription.last_timestamp_ms = 0
        bus.observe()
        behind = metrics.lag_seconds.labels("ears.hear")._value.get()
        assert 61 <= behind < 3600, "not the time since 1970, nor since the last message"
        subscription.busy_since = time.monotonic()
        assert not subscription.is_still(), "a batch may take as long as it takes"
        subscription.busy_since = None
        subscription.gather(60)
        assert subscription.rests_until == 0, "nobody gathers while messages wait"
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        assert (subscription.lag(), subscription.is_still()) == (0, False)
        states = consumer._subscription.subscription.assignment
        for partition in consumer.assignment():
            states.state_value(partition).timestamp -= 61_000
        assert subscription.is_still(), "no fetch was answered for a minute"
        listener = consumer._subscription.listener
        await listener.on_partitions_assigned(consumer.assignment())
        assert not subscription.is_still(), "who was just given partitions has had no time to ask"
        consumer.resume(*consumer.assignment())


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ((None, Unchanged()), None),
        ((TryAgain("not yet"), None), TryAgain("not yet")),
        ((None, TryAgain("not yet")), TryAgain("not yet")),
        ((GiveUp("never"), TryAgain("not yet")), GiveUp("never")),
        ((Unchanged("a"), Unchanged("a")), Unchanged("a")),
    ],
)
async def test_a_tombstone_is_done_when_everybody_is_done_with_it(
    answers: tuple[Outcome, Outcome], outcome: Outcome
) -> None:
    def says(answer: Outcome) -> BatchHandler:
        async def handle(batch: Sequence[Any]) -> list[Outcome]:
            return [answer] * len(batch)

        return handle

    route = by_type(dict(zip((WordSaid, WordHeard), map(says, answers), strict=True)))
    record = ConsumerRecord("t", 0, 0, 0, 0, b"anna", None, None, 4, -1, ())
    assert await route([Tombstone("anna", record)]) == [outcome]


async def test_an_unhurried_subscriber_gathers_and_another_does_not(engines: Engines, wire: Wire) -> None:
    await wire.create_topics(TOPICS)
    taken: dict[str, list[float]] = {"ear": [], "eye": []}

    def work(name: str) -> BatchHandler:
        async def take(batch: Sequence[Any]) -> list[Outcome]:
            taken[name].append(time.monotonic())
            return [None] * len(batch)

        return take

    async with bus_alone("test", engines, wire, Metrics(), unhurried_ms=400) as bus:
        gathering = bus.subscribe("ear", (WordSaid,), work("ear"), unhurried=True)
        prompt = bus.subscribe("eye", (WordSaid,), work("eye"))
        await bus.start()
        for number in (1, 2):
            rested = gathering.rests_until
            await wire.publish(said("anna", number))

            async def both(number: int = number) -> bool:
                return min(len(times) for times in taken.values()) >= number

            await eventually(both, "both to take it")
            assert taken["ear"][-1] >= rested
        assert gathering.rests_until > 0
        assert prompt.rests_until == 0


async def _left_behind(subscription: Subscription) -> AIOKafkaConsumer:
    """Its messages lie before it again, and it is not allowed to fetch them."""
    consumer = subscription.consumer
    assert consumer is not None
    consumer.pause(*consumer.assignment())
    await consumer.seek_to_beginning()
    for partition in consumer.assignment():
        await consumer.position(partition)
    return consumer


async def test_a_process_that_has_lost_a_consumer_ends_to_be_started_again(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        await wire.publish(said("anna", 1))
        await wire.expect(WordHeard, 1)
        await settled(service)
        (subscription,) = service.bus.subscriptions
        await _left_behind(subscription)
        subscription.progressed_at -= 61
        subscription.stalled_for = 118
        async with asyncio.timeout(30):
            await service.stopping.wait()
        assert isinstance(service.failure, LostConsumer)
        assert "ears.hear took nothing for 120 s" in str(service.failure)


async def _words(ears: EarService, name: str) -> bool:
    ear = await ears.store.get(name)
    return ear is not None and len(ear.words) == 3


async def _all(ears: EarService):  # type: ignore[no-untyped-def]
    async for row in ears.store.collection.find({}):
        yield ears.store.from_document(row)


async def test_what_somebody_killed_still_holds_is_waited_for_without_counting(engines: Engines) -> None:
    record = ConsumerRecord("t", 0, 0, 0, 0, b"anna", said("anna", 1).to_json(), None, 4, 2, tuple(CE))
    asked = 0

    async def held_for_long(batch: Sequence[Any]) -> list[Outcome]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Conflict("a version moved")
        return [TryAgain("held", after=0.0, patient=True) if asked < 20 else None]

    metrics = Metrics()
    pipeline = Pipeline(
        "test.ear",
        Reader((WordSaid,), (WordSaid,)),
        held_for_long,
        Producer(engines.kafka, "test"),
        metrics,
        asyncio.Event(),
        tries=2,
    )
    await pipeline([record])
    assert asked == 20
    assert metrics.consumed.labels("test.ear", "done")._value.get() == 1
    assert metrics.consumed.labels("test.ear", "dead_letter")._value.get() == 0


async def test_the_good_ones_of_a_batch_come_before_its_dead_letters(engines: Engines, wire: Wire) -> None:
    await wire.create_topics(TOPICS)
    topic = wire.name("word-said")
    records = [
        ConsumerRecord(topic, 0, 0, 0, 0, b"anna", body, None, 4, len(body), tuple(CE))
        for body in (b"{torn", said("anna", 1).to_json())
    ]
    letters_before: list[int] = []

    async def work(batch: Sequence[Any]) -> list[Outcome]:
        letters_before.append(len(await wire.dead_letters("word-said")))
        return [None] * len(batch)

    producer = Producer(engines.kafka, "test")
    pipeline = Pipeline(
        "test.ear", Reader((WordSaid,), (WordSaid,)), work, producer, Metrics(), asyncio.Event()
    )
    await pipeline(records)
    await producer.close()
    assert letters_before == [0]
    assert len(await wire.dead_letters("word-said")) == 1


async def test_where_a_batch_failed_each_key_keeps_its_order() -> None:
    words = [said("anna", 1, "later"), said("anna", 2), said("berta", 1)]
    records = [
        ConsumerRecord("t", 0, n, 0, 0, word.name.encode(), word.to_json(), None, 5, 2, tuple(CE))
        for n, word in enumerate(words)
    ]
    patience, heard = {"later": 1}, []

    async def one_at_a_time(batch: Sequence[Any]) -> list[Outcome]:
        if len(batch) > 1:
            raise KeyError("a bug that one of them meets")
        word = batch[0].message
        if patience.pop(word.word, 0):
            return [TryAgain("not yet", after=0.01)]
        heard.append((word.name, word.number))
        return [None]

    nobody = Producer("kafka.invalid:9092", "test")
    reader = Reader((WordSaid,), (WordSaid,))
    await Pipeline("test.ear", reader, one_at_a_time, nobody, Metrics(), asyncio.Event())(records)
    assert heard == [("berta", 1), ("anna", 1), ("anna", 2)]


async def test_of_what_is_taken_away_exactly_what_is_finished_is_committed() -> None:
    """One more would be lost, and one that stays is committed by its own batch."""
    committed: list[dict[TopicPartition, int]] = []

    class Consumer:
        async def commit(self, offsets: dict[TopicPartition, int]) -> None:
            committed.append(offsets)

    going, staying = TopicPartition("word-said", 0), TopicPartition("word-said", 1)
    subscription = Subscription("ear", "ear", "word-said", (WordSaid,), cast(Pipeline, None))
    subscription.subscriber = SimpleNamespace(consumer=Consumer())
    subscription.finished.update({going: 5, staying: 9})
    revocation = Revocation(subscription, budget=5, metrics=Metrics())
    handing_over = asyncio.create_task(revocation.on_partitions_revoked({going}))
    await asyncio.sleep(0)
    assert not committed, "a batch is in hand"
    subscription.finished[going] = 7
    subscription.idle.set()
    await handing_over
    assert committed == [{going: 7}]
    assert subscription.finished == {}
