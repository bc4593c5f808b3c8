"""Every consumer group back to the beginning, twice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pymongo import MongoClient

from tests.faults.line import EmbeddedBrokerSwitch, FaultEngines
from tests.faults.scene import Scene, Stage, scene
from tests.services import SERVICES

_UNCERTAIN = frozenset({"leases", "idempotency_keys", "outbox"})
"""Collections that say nothing about the business, only about who works and what was answered."""


def rewind(stage: Stage) -> None:
    report = stage.report
    with scene(stage, waves=2) as run:
        run.line.start()
        run.begin()
        run.rest()
        run.judge()
        before = known(run)
        for turn in (1, 2):
            run.line.stop_services()
            _forget_members(stage.engines)
            groups = asyncio.run(to_the_beginning(stage.engines, stage.namespace))
            run.note("rewind", f"{groups} consumer groups", detail=f"turn {turn}")
            if groups == 0:
                report.problems.append("there was no consumer group to rewind")
            run.line.start_services()
            run.line.wait(lambda: caught_up(run), "the groups to catch up", 300)
            changed = sorted(place for place, rows in known(run).items() if rows != before.get(place))
            report.problems += [f"rewind {turn} changed {place}" for place in changed]
        run.judge()


def _forget_members(engines: FaultEngines) -> None:
    """The embedded broker ends no session: who stopped stays a member until the broker starts again."""
    broker = engines.switches.get("broker")
    if isinstance(broker, EmbeddedBrokerSwitch):
        broker.down()
        broker.up()


def known(run: Scene) -> dict[str, list[str]]:
    """Everything that the services know."""
    prefix = f"{run.line.state.namespace}-" if run.line.state.namespace else ""
    found: dict[str, list[str]] = {}
    with MongoClient[dict[str, Any]](run.line.engines.mongo) as client:
        for name in SERVICES:
            database = client[f"{prefix}parley-{name}"]
            for collection in sorted(database.list_collection_names()):
                if collection not in _UNCERTAIN:
                    found[f"{name}/{collection}"] = sorted(map(repr, database[collection].find({})))
    return found


async def to_the_beginning(engines: FaultEngines, namespace: str) -> int:
    """Commit the first offset of each partition for every group; the groups must be empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=engines.kafka)
    await admin.start()
    try:
        names = [name for name, _ in await admin.list_consumer_groups()]
        ours = [name for name in names if name.startswith(f"{namespace}.") or not namespace]
        rewound = 0
        for group in ours:
            offsets = await admin.list_consumer_group_offsets(group)
            if offsets:
                await _commit_beginning(engines.kafka, group, list(offsets))
                rewound += 1
        return rewound
    finally:
        await admin.close()


async def _commit_beginning(kafka: str, group: str, partitions: list[TopicPartition]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    consumer.assign(partitions)
    await consumer.start()
    try:
        beginnings = await consumer.beginning_offsets(partitions)
        deadline = time.monotonic() + 60
        while True:
            try:
                await consumer.commit(beginnings)
                return
            except KafkaError:
                # A member that left without a word is counted until its session ends.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1)
    finally:
        await consumer.stop()


def caught_up(run: Scene) -> bool:
    """No lag, nothing in hand and nothing unpublished, five looks in a row."""
    for _ in range(5):
        for replica in run.line.services:
            text = httpx.get(f"http://127.0.0.1:{replica.port}/metrics", timeout=5).text
            for line in text.splitlines():
                name, _, value = line.rpartition(" ")
                waiting = ("parley_lag_messages", "parley_batches_in_hand", "parley_outbox_rows")
                if name.startswith(waiting) and float(value) > 0:
                    return False
        run.tend(0.3)
    return True
