"""Faults between any two effects, a rewind, and several replicas leave the counters exact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaTimeoutError

from contracts.stats import counters_key
from servicekit.clock import SystemClock
from servicekit.failpoints import FAILPOINTS
from servicekit.metrics import Metrics
from servicekit.mongo import Mongo
from servicekit.producer import Outgoing
from servicekit.settings import ServiceSettings
from stats.adapters.mongo_ledger import marks_of
from stats.domain.ledger import contact_key, target_of
from stats.main import build
from stats.settings import Settings
from stats.use_cases.announce_counters import AnnounceCounters
from tests.engines import Engines
from tests.kit import Wire, eventually, failed_where_told, running, settled
from tests.stats.conftest import Line
from tests.stats.samples import THEN, changed, interaction, name

PLACES = (
    "stats.before_transaction",
    "stats.between_ledger_and_counters",
    "stats.before_commit",
    "stats.after_transaction",
    "stats.record-interactions.before_offset_commit",
    "stats.before_announcing",
    "stats.after_announcing",
    "stats.after_unmarking",
)


@pytest.mark.parametrize("place", PLACES)
async def test_a_fault_at_any_boundary_loses_and_doubles_nothing(line: Line, place: str) -> None:
    contact = name()
    FAILPOINTS.arm(f"{place}=error@2")
    try:
        for number in range(3):
            await line.tell(interaction(contact, occurred_at=THEN + timedelta(minutes=number)))
        await failed_where_told()
    finally:
        FAILPOINTS.disarm()
    await line.at_rest()
    assert await line.counts(contact) == (0, 3)
    assert not await line.differences()


class Deaf:
    """A producer whose broker takes nothing until it is told to."""

    def __init__(self) -> None:
        self.hears = False
        self.taken: list[Outgoing] = []

    async def reaches_the_broker(self) -> bool:
        return True

    async def publish(self, messages: Sequence[Outgoing], timeout: float) -> list[Exception | None]:
        if not self.hears:
            return [KafkaTimeoutError() for _ in messages]
        self.taken += messages
        return [None for _ in messages]


async def test_counters_that_could_not_be_announced_stay_to_be_announced(
    engines: Engines, namespace: str
) -> None:
    mongo, producer = Mongo(engines.mongo, f"{namespace}-announcing"), Deaf()
    contact = contact_key(name())
    await mongo["targets"].insert_one({"_id": contact, "version": 1, "channels": {"sms": {"out": 1}}})
    await mongo["changed_targets"].insert_many(marks_of([contact]))
    announcer = AnnounceCounters(
        mongo, cast(Any, producer), SystemClock(), Metrics(), ServiceSettings(), 0.1, lambda: False
    )
    await announcer.announce_all()
    assert await mongo["changed_targets"].count_documents({}) == 1
    producer.hears = True
    await announcer.announce_all()
    assert await mongo["changed_targets"].count_documents({}) == 0
    assert [message.key for message in producer.taken] == [counters_key(*target_of(contact)).encode()]
    await mongo.close()


async def test_a_rewind_of_every_topic_changes_nothing(line: Line) -> None:
    contact = name()
    first = interaction(contact)
    await line.tell(first, changed(first, direction="incoming"), interaction(contact))
    before = await line.everything()
    await line.rewind()
    assert await line.everything() == before


@pytest.mark.kafka_groups
async def test_two_replicas_share_the_partitions_and_count_once(engines: Engines, namespace: str) -> None:
    wire = Wire(engines, namespace)
    contacts = [name() for _ in range(40)]
    told = [interaction(contact) for contact in contacts for _ in range(10)]
    async with running(build, Settings, engines, namespace, instance="one") as one:
        await wire.publish(*told[:200])
        async with running(build, Settings, engines, namespace, instance="two") as two:
            await wire.publish(*told[200:], *told[:50])

            async def all_there() -> bool:
                return bool(await one.mongo["ledger"].count_documents({}) == len(told))

            await eventually(all_there, "all attempts", 60)
            await settled(one, two)
            async for row in one.mongo["targets"].find():
                assert row["channels"]["sms"]["out"] == 10
    await wire.close()
