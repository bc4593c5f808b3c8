"""Rows leave in order, through any number of relays, and none is lost when one of them dies."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st
from pymongo import IndexModel
from structlog.testing import capture_logs

from contracts.catalogue import dead_letters_of
from servicekit.failpoints import FAILPOINTS
from servicekit.leases import BUCKETS, Leases
from servicekit.metrics import Metrics
from servicekit.mongo import Mongo
from servicekit.outbox import INDEXES, Outbox, Relay, RowIds, confirmed_in_order, microseconds_of, parcels
from servicekit.producer import Outgoing, Producer, TooLarge
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from tests.engines import Engines
from tests.kit import Wire, eventually, failed_where_told, running, settled
from tests.servicekit.conftest import HEARD, SAID, WordHeard

TOPICS = (SAID, HEARD, dead_letters_of(SAID), dead_letters_of(HEARD))


def build(settings: ServiceSettings) -> Service:
    service = Service("mouth", settings)
    _ = service.outbox  # whoever asks for it has a relay
    return service


def heard(name: str, number: int) -> WordHeard:
    return WordHeard(name=name, number=number, words=("word",))


messages = st.tuples(st.sampled_from(["t", "u"]), st.sampled_from([b"a", b"b", b"c"]), st.booleans())


@given(st.lists(st.lists(messages, min_size=1, max_size=4), max_size=12))
def test_no_parcel_overtakes_one_that_is_published_again(
    sent: list[list[tuple[str, bytes, bool]]],
) -> None:
    waiting = [
        {"_id": number, "m": [{"t": topic, "k": key} for topic, key, _ in parcel]}
        for number, parcel in enumerate(sent)
    ]
    results = [None if confirmed else ConnectionError() for parcel in sent for *_, confirmed in parcel]
    gone = {parcel["_id"] for parcel in confirmed_in_order(waiting, results)}
    for number, parcel in enumerate(sent):
        lanes = {(topic, key) for topic, key, _ in parcel}
        overtakes = any(
            earlier not in gone and lanes & {(t, k) for t, k, _ in sent[earlier]} for earlier in range(number)
        )
        assert (number in gone) == (all(confirmed for *_, confirmed in parcel) and not overtakes)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200_000)), max_size=300))
def test_parcels_keep_every_row_in_the_order_of_its_bucket(made: list[tuple[int, int]]) -> None:
    rows = [
        {"b": bucket, "t": "t", "k": b"k", "v": bytes(size), "h": [("n", b"%d" % number)]}
        for number, (bucket, size) in enumerate(made)
    ]
    packed = list(parcels(rows))
    for bucket in range(4):
        inside = [row for parcel in packed if parcel["b"] == bucket for row in parcel["m"]]
        assert [row["h"] for row in inside] == [row["h"] for row in rows if row["b"] == bucket]
    assert all(
        len(parcel["m"]) == 1 or sum(len(row["v"]) for row in parcel["m"]) <= 2**18 for parcel in packed
    )


def test_row_ids_grow_and_tell_their_time() -> None:
    ids = RowIds()
    made = [ids.next() for _ in range(1000)]
    assert made == sorted(set(made))
    assert made[-1] < 2**63
    assert microseconds_of(made[0]) > 1_700_000_000_000_000


async def test_two_relays_keep_the_order_of_every_key(engines: Engines, wire: Wire) -> None:
    await wire.create_topics(TOPICS)
    async with AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(
                running(
                    build, ServiceSettings, engines, wire.namespace, instance=f"mouth-{n}", lease_seconds=2
                )
            )
            for n in range(2)
        ]
        for round_ in range(10):
            writer = services[round_ % 2]
            rows = writer.outbox.rows([heard(f"name-{n % 20}", round_ * 100 + n) for n in range(100)])
            await writer.outbox.insert(rows)
            writer.outbox.written.set()
        await wire.expect(WordHeard, 1000)
        await settled(*services)
        # Where a lease ends while the broker has not answered yet, the other relay publishes again.
        first_seen: dict[str, dict[int, None]] = defaultdict(dict)
        for message in await wire.messages(WordHeard):
            first_seen[message.name].setdefault(message.number)
        assert sum(map(len, first_seen.values())) == 1000
        assert all(list(numbers) == sorted(numbers) for numbers in first_seen.values())


async def test_a_failure_between_publishing_and_deleting_repeats_but_never_loses(
    engines: Engines, wire: Wire
) -> None:
    await wire.create_topics(TOPICS)
    try:
        FAILPOINTS.arm(
            "outbox.after_publish=error@1,outbox.before_publish=error@3,outbox.after_delete=error@4"
        )
        async with running(build, ServiceSettings, engines, wire.namespace, outbox_batch=10) as service:
            for start in range(0, 50, 5):
                await service.outbox.insert(
                    service.outbox.rows([heard("anna", n) for n in range(start, start + 5)])
                )
            service.outbox.written.set()
            await settled(service)
            waited = service.metrics.registry.get_sample_value(
                "parley_dependency_waits_total", {"waiting": "relay", "error": "InjectedFault"}
            )
            assert waited
        await failed_where_told()
    finally:
        FAILPOINTS.disarm()
    numbers = [message.number for message in await wire.messages(WordHeard)]
    assert sorted(set(numbers)) == list(range(50))
    assert len(numbers) > 50


@asynccontextmanager
async def database(engines: Engines, namespace: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(engines.mongo, f"{namespace}-leases")
    yield mongo
    await mongo.close()


async def test_replicas_that_start_at_once_make_the_same_collections(
    engines: Engines, namespace: str
) -> None:
    async with database(engines, namespace) as mongo:
        collections: dict[str, tuple[()]] = {f"rows-{number}": () for number in range(20)}
        await asyncio.gather(*(mongo.ensure_indexes(collections) for _ in range(4)))
        assert set(await mongo.database.list_collection_names()) == collections.keys()


async def test_an_index_that_nobody_declares_is_kept_and_told(engines: Engines, namespace: str) -> None:
    async with database(engines, namespace) as mongo:
        old, new = (IndexModel([(name, 1)], name=name) for name in ("old", "new"))
        await mongo.ensure_indexes({"rows": [old]})
        with capture_logs() as told:
            await mongo.ensure_indexes({"rows": [new]})
        assert [(line["collection"], line["indexes"]) for line in told] == [("rows", ["old"])]
        assert {"old", "new"} < (await mongo.database["rows"].index_information()).keys()


async def test_members_share_the_buckets_and_never_hold_one_twice(engines: Engines, namespace: str) -> None:
    async with database(engines, namespace) as mongo:
        members = [Leases(mongo, "job", f"member-{n}", seconds=2) for n in range(3)]

        async def fair() -> bool:
            held = [await member.held() for member in members]
            assert sum(map(len, held)) == len(frozenset().union(*held))
            return sum(map(len, held)) == BUCKETS and max(map(len, held)) <= 6

        await eventually(fair, "a fair share for each")
        await members[0].release()
        others = members[1:]

        async def taken_over() -> bool:
            return sum([len(await member.held()) for member in others]) == BUCKETS

        await eventually(taken_over, "the others to take over")


async def test_what_a_dead_member_held_is_taken_when_its_lease_ends(engines: Engines, namespace: str) -> None:
    async with database(engines, namespace) as mongo:
        dead, alive = Leases(mongo, "job", "dead", seconds=1), Leases(mongo, "job", "alive", seconds=1)
        assert len(await dead.held()) == BUCKETS
        assert await alive.held() == frozenset()

        async def everything() -> bool:
            return len(await alive.held()) == BUCKETS

        await eventually(everything, "the lease to end")
        assert dead.remaining() == 0
        await asyncio.sleep(0)


async def test_a_lease_is_counted_from_before_the_database_was_asked() -> None:
    """A process that was stopped while it asked must not believe longer than the others wait."""
    slow = 0.3

    class Slow:
        async def find_one_and_update(self, *_: object, **__: object) -> dict[str, Any]:
            await asyncio.sleep(slow)
            return {"members": [{"me": "me"}], "buckets": [{"owner": "me"}] * BUCKETS}

    leases = Leases(cast(Mongo, {"leases": Slow()}), "job", "me", seconds=1)
    assert len(await leases.held()) == BUCKETS
    assert 0 < leases.remaining() <= 1 - slow


async def test_who_cannot_reach_the_broker_leaves_the_outbox_to_those_who_can(
    engines: Engines, wire: Wire
) -> None:
    await wire.create_topics(TOPICS)
    settings: dict[str, Any] = {"lease_seconds": 1}
    async with running(build, ServiceSettings, engines, wire.namespace, **settings) as service:
        cut_off = ServiceSettings(namespace=wire.namespace, instance="cut-off", **settings)
        nowhere, metrics = Producer("127.0.0.1:9", "cut-off", patience=1), Metrics()
        stopping = asyncio.Event()
        relay = Relay(service.mongo, service.outbox, nowhere, cut_off, metrics)
        running_ = asyncio.create_task(relay.run(stopping))
        leases = service.mongo["leases"]

        async def both_share() -> bool:
            job = await leases.find_one({"_id": "outbox"})
            return bool(job) and len({bucket["owner"] for bucket in job["buckets"]}) == 2

        await eventually(both_share, "both to have a share")
        await service.outbox.insert(service.outbox.rows([heard(f"name-{n}", n) for n in range(64)]))
        await wire.expect(WordHeard, 64)
        await settled(service)

        async def told() -> bool:
            labels = {"waiting": "relay", "error": "NotPublished"}
            return bool(metrics.registry.get_sample_value("parley_dependency_waits_total", labels))

        await eventually(told, "it to be told that the broker is waited for")
        stopping.set()
        await running_
        await nowhere.close()


async def test_a_producer_hears_of_a_broker_that_answers_again(engines: Engines) -> None:
    producer = Producer("127.0.0.1:9", "test", patience=0)
    assert await producer.reaches_the_broker()
    assert await producer.publish([Outgoing("word-said", b"k", b"v", [])], timeout=2) != [None]
    assert not await producer.reaches_the_broker()
    producer._servers = engines.kafka
    await eventually(producer.reaches_the_broker, "the broker to answer")
    assert await producer.reaches_the_broker(), "it has one more try"
    producer._servers = "127.0.0.1:9"
    await producer.close()
    await producer.publish([Outgoing("word-said", b"k", b"v", [])], timeout=2)
    assert not await producer.reaches_the_broker(), "an answer alone ends no doubt"


async def test_nothing_is_published_once_the_lease_has_ended(engines: Engines, wire: Wire) -> None:
    """It may end while the rows are read; another relay has them then, and their order is its own."""
    await wire.create_topics(TOPICS)

    class Ended:
        stands_aside = False

        async def held(self) -> frozenset[int]:
            return frozenset(range(BUCKETS))

        def remaining(self) -> float:
            return 0.0

    async with running(build, ServiceSettings, engines, wire.namespace) as service:
        elsewhere = Mongo(engines.mongo, f"{wire.namespace}-ended")
        settings = ServiceSettings(namespace=wire.namespace)
        outbox = Outbox(elsewhere, settings, service.clock, "mouth")
        relay = Relay(elsewhere, outbox, service.producer, settings, Metrics())
        relay._leases = cast(Leases, Ended())
        first, second = outbox.rows([heard("anna", 1), heard("anna", 2)])
        # So that the producer has nothing to wait for.
        await service.producer.publish_all([Outgoing(first["t"], first["k"], first["v"], first["h"])])
        await outbox.insert([second])
        assert await relay.publish_once() == 0
        assert [message.number for message in await wire.messages(WordHeard)] == [1]
        assert await elsewhere["outbox"].count_documents({}) == 1
        await elsewhere.close()


async def test_what_commits_late_leaves_before_what_is_written_later(engines: Engines, wire: Wire) -> None:
    await wire.create_topics(TOPICS)
    async with running(build, ServiceSettings, engines, wire.namespace) as service:
        elsewhere = Mongo(engines.mongo, f"{wire.namespace}-late")
        await elsewhere.ensure_indexes({"outbox": INDEXES})
        settings = ServiceSettings(namespace=wire.namespace)
        outbox = Outbox(elsewhere, settings, service.clock, "mouth")
        relay = Relay(elsewhere, outbox, service.producer, settings, Metrics())
        with outbox.writing():
            async with elsewhere.transaction() as session:
                await outbox.insert(outbox.rows([heard("anna", 1)]), session)
                await relay.publish_once()
                # As after a long time: it looks behind this moment only, and not yet from the beginning.
                relay._from, relay._sweep_at = RowIds().next(), math.inf
        await outbox.insert(outbox.rows([heard("anna", 2)]))
        assert await relay.publish_once() == 2
        assert [message.number for message in await wire.messages(WordHeard)] == [1, 2]
        await elsewhere.close()


async def test_what_another_relay_left_leaves_before_what_is_written_later(
    engines: Engines, wire: Wire
) -> None:
    await wire.create_topics(TOPICS)

    class Gains:
        stands_aside = False
        buckets: frozenset[int] = frozenset()

        async def held(self) -> frozenset[int]:
            return self.buckets

        def remaining(self) -> float:
            return 10.0

    async with running(build, ServiceSettings, engines, wire.namespace) as service:
        elsewhere = Mongo(engines.mongo, f"{wire.namespace}-gains")
        settings = ServiceSettings(namespace=wire.namespace)
        outbox = Outbox(elsewhere, settings, service.clock, "mouth")
        relay, leases = Relay(elsewhere, outbox, service.producer, settings, Metrics()), Gains()
        relay._leases = cast(Leases, leases)
        await outbox.insert(outbox.rows([heard("anna", 1)]))
        outbox.begun()
        relay._from, relay._sweep_at = RowIds().next(), math.inf
        await outbox.insert(outbox.rows([heard("anna", 2)]))
        leases.buckets = frozenset(range(BUCKETS))
        assert await relay.publish_once() == 2
        assert [message.number for message in await wire.messages(WordHeard)] == [1, 2]
        await elsewhere.close()


async def test_the_broker_knows_whose_record_it_is_so_that_no_repeat_is_a_second_one(wire: Wire) -> None:
    """The client takes that together with acks=all only, and refuses any other."""
    await wire.create_topics(TOPICS)
    await wire.publish(heard("anna", 1), heard("anna", 2))
    (record, _) = await wire.records(HEARD.name)
    client = AIOKafkaClient(bootstrap_servers=wire.engines.kafka)
    await client.bootstrap()
    try:
        await client.set_topics([record.topic])
        leader = client.cluster.leader_for_partition(TopicPartition(record.topic, record.partition))
        wanted = [(record.topic, [(record.partition, 0, 2**20)])]
        answer = await client.send(leader, FetchRequest(500, 1, 2**20, 0, wanted))
    finally:
        await client.close()
    ((_, ((*_, stored),)),) = answer.topics
    batch = MemoryRecords(stored).next_batch()
    assert batch.producer_id >= 0
    assert batch.base_sequence >= 0


async def test_a_refusal_for_size_is_an_answer_of_whoever_refused(engines: Engines, wire: Wire) -> None:
    topic = wire.name("narrow")
    admin = AIOKafkaAdminClient(bootstrap_servers=engines.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "1000"})])
    await admin.close()
    producer = Producer(engines.kafka, "test", patience=0)
    producer._failing_since = 0.0
    (here,) = await producer.publish([Outgoing(topic, b"k", b"x" * 3_000_000, [])])
    assert isinstance(here, TooLarge)
    assert producer._failing_since == 0.0, "the broker was not asked"
    (there,) = await producer.publish([Outgoing(topic, b"k", random.randbytes(5000), [])])
    assert isinstance(there, MessageSizeTooLargeError)
    assert producer._failing_since is None
    await producer.close()
