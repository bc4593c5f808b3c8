"""Due work moves on exactly once, however many schedulers look at it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pymongo.errors import AutoReconnect
from structlog.testing import capture_logs

from activities.adapters.mongo_activities import INDEXES, MongoActivities
from activities.domain.activity import BUCKETS, Activity, scheduled
from activities.domain.catalog import Catalog, Contact
from activities.use_cases.dispatch_due import DispatchDue, leaves_work
from contracts.campaigns import ContactWindow
from contracts.vocabulary import URGENCY_RANK, Urgency
from servicekit.clock import StoppedClock
from servicekit.leases import Leases
from servicekit.mongo import Mongo
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from servicekit.unit_of_work import Changes, Committer, Store
from tests.activities.builders import NOON, POLICY, campaign, catalog, contact, created, manual
from tests.engines import Engines
from tests.kit import eventually

DUE = 700


class WholeCatalog:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    async def read(self) -> Catalog:
        return self.catalog


class EverybodyInNewYork:
    async def read(self, ids: object) -> dict[str, Contact]:
        return {id_: contact(contact_id=id_) for id_ in list(ids)}  # type: ignore[call-overload]


class EveryBucket(Leases):
    """A replica that believes that it still has what it lost."""

    async def held(self) -> frozenset[int]:
        return frozenset(range(BUCKETS))


class Replica:
    def __init__(self, engines: Engines, namespace: str, name: str, leases: type[Leases] = Leases) -> None:
        settings = ServiceSettings(
            kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, namespace=namespace, instance=name
        )
        self.clock = StoppedClock(NOON)
        self.service = Service("activities", settings, self.clock)
        self.mongo: Mongo = self.service.mongo
        self.store: Store[Activity] = self.service.store(
            "activities", Activity, "activity_id", indexes=INDEXES
        )
        self.catalog = WholeCatalog(catalog())
        self.found = MongoActivities(self.mongo, self.store, self.service.metrics)
        self.dispatch_due = DispatchDue(
            self.store,
            self.service.committer,
            self.found,
            self.catalog,
            EverybodyInNewYork(),
            leases(self.mongo, "scheduler", name, 2),
            self.clock,
            batch=100,
            rest_seconds=0.01,
            committed=self.service.committer.listen(leaves_work),
        )
        self.stopping = asyncio.Event()

    async def wait(self, activities: list[Activity]) -> None:
        await self.mongo.ensure_indexes({"activities": INDEXES, "outbox": (), "slots": (), "leases": ()})
        await self.store.collection.insert_many([self.store.to_document(each) for each in activities])

    async def announced(self, topic: str) -> Counter[str]:
        """How often each activity is in the outbox, which no relay empties here."""
        parcels = await self.mongo["outbox"].find({}).to_list(None)
        rows = [row for parcel in parcels for row in parcel["m"] if row["t"].endswith(topic)]
        return Counter(dict(row["h"])["ce_id"].decode() for row in rows)


@pytest.fixture
async def replicas(engines: Engines, namespace: str) -> AsyncIterator[tuple[Replica, Replica]]:
    pair = Replica(engines, namespace, "a"), Replica(engines, namespace, "b")
    yield pair
    for replica in pair:
        await replica.mongo.close()


@pytest.fixture
async def zombies(engines: Engines, namespace: str) -> AsyncIterator[tuple[Replica, Replica]]:
    pair = Replica(engines, namespace, "a", EveryBucket), Replica(engines, namespace, "b", EveryBucket)
    yield pair
    for replica in pair:
        await replica.mongo.close()


def waiting(number: int, **changes: object) -> Activity:
    return scheduled(created(f"activity-{number}", contact_id=f"contact-{number}", **changes), NOON)


async def all_moved(replica: Replica) -> bool:
    left: int = await replica.store.collection.count_documents({"state": "scheduled"})
    return left == 0


async def race(one: Replica, other: Replica) -> None:
    await one.wait([waiting(number) for number in range(DUE)])
    loops = [asyncio.create_task(each.dispatch_due.run(each.stopping)) for each in (one, other)]
    await eventually(lambda: all_moved(one), "everything to be dispatched")
    for each in (one, other):
        each.stopping.set()
    await asyncio.gather(*loops)
    dispatched = await one.announced("activity-dispatched.sms")
    assert len(dispatched) == DUE
    assert set(dispatched.values()) == {1}
    versions = await one.store.collection.distinct("version")
    assert versions == [2]


async def test_two_schedulers_share_the_work_and_dispatch_each_activity_once(
    replicas: tuple[Replica, Replica],
) -> None:
    await race(*replicas)


async def test_schedulers_that_lost_their_leases_unknowingly_still_dispatch_once(
    zombies: tuple[Replica, Replica],
) -> None:
    await race(*zombies)


async def test_what_somebody_else_changed_meanwhile_does_not_cost_the_others(
    replicas: tuple[Replica, Replica],
) -> None:
    one, _ = replicas
    await one.wait([waiting(number) for number in range(20)])
    due = await one.found.due(range(BUCKETS), NOON, 100, [])
    await one.store.collection.update_one({"_id": "activity-7"}, {"$inc": {"version": 1}})

    class AsItWas(MongoActivities):
        async def due(self, *_: object) -> list[Activity]:
            return due

    one.dispatch_due._due = AsItWas(one.mongo, one.store, one.service.metrics)
    assert await one.dispatch_due.step() == 19
    assert "activity-7:1" not in await one.announced("activity-dispatched.sms")


async def test_the_urgent_come_first_and_then_the_oldest(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    order = (Urgency.LOW, Urgency.VERY_HIGH, Urgency.NORMAL, Urgency.VERY_HIGH, Urgency.HIGH)
    await one.wait(
        [
            waiting(number, urgency=urgency, scheduled_at=NOON - timedelta(minutes=number))
            for number, urgency in enumerate(order)
        ]
    )
    found = await one.found.due(range(BUCKETS), NOON, 100, [])
    assert [each.activity_id[-1] for each in found] == ["3", "1", "4", "2", "0"]
    assert [each.rank for each in found] == sorted((URGENCY_RANK[each] for each in order), reverse=True)


async def test_one_that_cannot_be_read_does_not_stop_the_others(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    await one.wait([waiting(number) for number in range(3)])
    await one.store.collection.update_one({"_id": "activity-1"}, {"$set": {"urgency": "yesterday"}})
    with capture_logs() as told:
        assert [await one.dispatch_due.step() for _ in range(2)] == [2, 0]
    (aside,) = (line for line in told if line["log_level"] == "error")
    assert aside["activity_id"] == "activity-1"
    assert one.service.metrics.set_aside.labels("activity")._value.get() == 1
    assert "urgency" in aside["what"]
    listed = [await one.found.page({"state": {"$exists": True}}, "due", size, None) for size in (1, 2, 9)]
    assert [[each.activity_id[-1] for each in page] for page in listed] == [["0"], ["0", "2"], ["0", "2"]]
    mended = {"$set": {"urgency": "normal"}, "$unset": {"hold": ""}}
    await one.store.collection.update_one({"_id": "activity-1"}, mended)
    assert await one.dispatch_due.step() == 1


async def test_one_that_cannot_be_decided_does_not_stop_the_others(
    replicas: tuple[Replica, Replica],
) -> None:
    one, _ = replicas
    no_hours = POLICY.evolve(
        policy_id="policy-2", window=ContactWindow().model_copy(update={"start": "nine"})
    )
    odd = campaign(campaign_id="campaign-2", policy_id="policy-2")
    one.catalog.catalog = catalog(odd=odd, no_hours=no_hours)
    await one.wait([waiting(0), waiting(1, campaign_id="campaign-2"), waiting(2)])
    with capture_logs() as told:
        assert [await one.dispatch_due.step() for _ in range(2)] == [2, 0]
    (aside,) = (line for line in told if line["log_level"] == "error")
    assert aside["activity_id"] == "activity-1"


async def test_nothing_is_set_aside_because_the_database_is_away(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    await one.wait([waiting(1)])

    class Away(Committer):
        async def commit(self, changes: Changes) -> None:
            raise AutoReconnect("nobody there")

    one.dispatch_due._committer = Away(one.mongo, one.service.outbox, "activities")
    with pytest.raises(AutoReconnect):
        await one.dispatch_due.step()
    assert await one.store.collection.count_documents({"hold": None}) == 1


async def test_what_changed_meanwhile_is_not_set_aside(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    await one.wait([waiting(1)])
    await one.found.set_aside("activity-1", 2)
    assert await one.store.collection.count_documents({"hold": None}) == 1
    await one.store.collection.update_one({"_id": "activity-1"}, {"$set": {"state": "dispatched"}})
    await one.found.set_aside("activity-1", 1)
    assert await one.store.collection.count_documents({"hold": None}) == 1


async def test_nothing_moves_before_its_time(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    later = NOON + timedelta(seconds=1)
    await one.wait([waiting(1, scheduled_at=later), scheduled(manual("m", scheduled_at=later), NOON)])
    assert await one.dispatch_due.step() == 0
    assert await one.found.count_due(one.clock.now()) == 0
    one.clock.advance(seconds=1)
    assert await one.found.count_due(one.clock.now()) == 2
    assert await one.dispatch_due.step() == 2
    assert await one.found.count_due(one.clock.now()) == 0
    assert await all_moved(one)


async def test_what_a_paused_campaign_holds_costs_nothing_until_it_goes_on(
    replicas: tuple[Replica, Replica],
) -> None:
    one, _ = replicas
    one.catalog.catalog = catalog(campaign=campaign(state="paused"))
    await one.wait([waiting(number) for number in range(150)])
    assert [await one.dispatch_due.step() for _ in range(3)] == [100, 50, 0]
    one.clock.advance(hours=1)
    assert await one.dispatch_due.step() == 0
    assert await one.found.count_due(one.clock.now()) == 0, "what is held is not behind"
    one.catalog.catalog = catalog()
    assert [await one.dispatch_due.step() for _ in range(3)] == [100, 50, 0]
    assert len(await one.announced("activity-dispatched.sms")) == 150


async def test_the_scheduler_reads_only_what_is_due_from_its_index(
    replicas: tuple[Replica, Replica],
) -> None:
    one, _ = replicas
    await one.wait([waiting(number, scheduled_at=NOON + timedelta(days=1)) for number in range(300)])
    explained = await (
        one.store.collection.find(
            {"hold": None, "state": "scheduled", "due_at": {"$lte": NOON}, "bucket": {"$in": [0, 1]}}
        )
        .sort([("rank", -1), ("due_at", 1), ("scheduled_at", 1)])
        .hint("due")
        .explain()
    )
    assert explained["executionStats"]["totalKeysExamined"] < 10
    assert "'stage': 'SORT'" not in str(explained["queryPlanner"]["winningPlan"])
