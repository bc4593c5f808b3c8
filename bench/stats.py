"""The attempt ledger against what people write instead, on the same topics in one run.

Ours is the whole service: ledger, counters, report cells, every index, and `contact-stats-changed`. Beside:
(a) the unsafe loop: getmany, one `$inc` a message in bulk, commit; (b) FastStream, one message at a time,
with update_one; (c) Quix Streams with its exactly-once guarantee, the same counts in its state store; (d) the
limit: increments summed per contact, no ledger. Keys are uniform over 20,000 contacts, the same with one
contact that gets a tenth of everything, or 300 contacts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop
from aiokafka import AIOKafkaConsumer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from pymongo import UpdateOne

from bench.report import Row, conclude
from contracts.catalogue import topics_of
from contracts.channel_sms import InteractionRecorded
from contracts.message import wire_headers
from contracts.vocabulary import Direction
from servicekit.bus import Subscription
from servicekit.logs import configure_logs
from servicekit.mongo import Mongo
from servicekit.producer import Outgoing, Producer
from servicekit.service import spare_the_collector
from servicekit.settings import ServiceSettings
from servicekit.topics import Topics
from servicekit.tracing import new_traceparent
from stats.main import build
from stats.settings import Settings
from tests.engines import Engines, provide_engines

TOPIC = "interaction-recorded"
BATCH = 1000
_QUIX = Path(__file__).parent / "stats_quix.py"


@dataclass(frozen=True)
class Shape:
    """How events are spread over contacts."""

    name: str
    contacts: int
    hot: float = 0.0
    """The share of one contact."""

    def contact(self, chance: random.Random) -> str:
        if self.hot and chance.random() < self.hot:
            return "contact-hot"
        return f"7c9e6679-7425-40de-944b-{chance.randrange(self.contacts):012d}"


SHAPES = (Shape("uniform", 20_000), Shape("hot", 20_000, hot=0.1), Shape("300", 300))


@dataclass(frozen=True)
class Stream:
    """The events of one shape, in a topic of their own."""

    engines: Engines
    shape: Shape
    count: int
    namespace: str

    @property
    def topic(self) -> str:
        return ServiceSettings(namespace=self.namespace).prefixed(TOPIC)


@dataclass(frozen=True)
class Taken:
    per_second: float
    cpu_us: float
    """Of this process, an event; the database's own is not in it."""
    announced_per_second: float | None = None


def event(number: int, shape: Shape, chance: random.Random, now: datetime) -> InteractionRecorded:
    return InteractionRecorded.model_validate(
        {
            "interaction_id": f"0f8fad5b-d9cb-469f-a165-{number:012d}",
            "interaction_type": "sms",
            "version": 1,
            "contact_id": shape.contact(chance),
            "direction": chance.choice((Direction.INCOMING, Direction.OUTGOING)),
            "occurred_at": now - timedelta(days=1) + timedelta(milliseconds=number),
            "activity_id": f"3f2504e0-4f89-11d3-9a0c-{number:012d}",
            "campaign_id": f"campaign-{number % 3}",
            "subject_id": "subject-1",
            "endpoint_id": "endpoint-1",
        }
    )


async def fill(stream: Stream) -> None:
    await Topics(stream.engines.kafka, stream.namespace).create(topics_of("stats"))
    producer, topic = Producer(stream.engines.kafka, "bench"), stream.topic
    chance, now = random.Random(stream.shape.name), datetime.now(UTC)
    for start in range(0, stream.count, 5000):
        events = [
            event(number, stream.shape, chance, now)
            for number in range(start, min(start + 5000, stream.count))
        ]
        await producer.publish_all(
            Outgoing(
                topic,
                told.key().encode(),
                told.to_json(),
                wire_headers(told, "bench", now.isoformat(), new_traceparent()),
            )
            for told in events
        )
    await producer.close()


async def ours(stream: Stream) -> Taken:
    """From the first batch to the last counter, with everything else that the service does going on."""
    settings = Settings(
        kafka_bootstrap_servers=stream.engines.kafka,
        mongo_url=stream.engines.mongo,
        namespace=stream.namespace,
        instance=f"bench-{uuid4().hex[:6]}",
        port=0,
    )
    service = build(settings)
    intake = [one for one in service.bus.subscriptions if one.topic == stream.topic]
    async with service.running():
        while all(one.busy_since is None for one in intake):  # noqa: ASYNC110 (the bench must not run inside the handler)
            await asyncio.sleep(0.002)
        began, cpu = time.perf_counter(), time.process_time()
        # By the ledger, because a partition that changed hands when the second consumer joined is in no sum.
        while await service.mongo["ledger"].estimated_document_count() < stream.count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        while await service.mongo["changed_targets"].find_one({}):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        announced = time.perf_counter() - began
        for one in intake:
            await _start_anew(one)
    await _forget(stream.engines, service.mongo.database.name)
    return Taken(stream.count / seconds, cpu / stream.count * 1e6, stream.count / announced)


async def _start_anew(subscription: Subscription) -> None:
    """The next run reads from the beginning; this one reads no more, or its next batch would be committed."""
    consumer = subscription.consumer
    assert consumer is not None
    while not consumer.assignment():  # noqa: ASYNC110 (the second one may just have joined)
        await asyncio.sleep(0.01)
    consumer.pause(*consumer.assignment())
    while subscription.busy_since is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    beginning = dict.fromkeys(consumer.assignment(), 0)
    subscription.finished.update(beginning)
    await consumer.commit(beginning)


async def _forget(engines: Engines, database: str) -> None:
    mongo = Mongo(engines.mongo, database)
    await mongo.database.client.drop_database(database)
    await mongo.close()


def _moves(told: Mapping[str, Any]) -> tuple[str, str, datetime]:
    way = "in" if told["direction"] == "incoming" else "out"
    channel = f"channels.{told.get('channel') or told['interaction_type']}"
    return f"{channel}.{way}", f"{channel}.last_{way}", datetime.fromisoformat(told["occurred_at"])


async def unsafe(stream: Stream) -> Taken:
    def updates(records: list[Any]) -> list[UpdateOne]:
        made = []
        for record in records:
            told = json.loads(record.value)
            count, last, at = _moves(told)
            made.append(
                UpdateOne({"_id": told["contact_id"]}, {"$inc": {count: 1}, "$max": {last: at}}, upsert=True)
            )
        return made

    return await _loop(stream, "unsafe", updates)


async def limit(stream: Stream) -> Taken:
    def updates(records: list[Any]) -> list[UpdateOne]:
        sums: dict[str, dict[str, int]] = {}
        newest: dict[str, dict[str, datetime]] = {}
        for record in records:
            told = json.loads(record.value)
            contact = told["contact_id"]
            count, last, at = _moves(told)
            mine = sums.setdefault(contact, {})
            mine[count] = mine.get(count, 0) + 1
            dates = newest.setdefault(contact, {})
            dates[last] = max(at, dates.get(last, at))
        return [
            UpdateOne({"_id": contact}, {"$inc": by, "$max": newest[contact]}, upsert=True)
            for contact, by in sums.items()
        ]

    return await _loop(stream, "limit", updates)


async def _loop(stream: Stream, name: str, updates: Callable[[list[Any]], list[UpdateOne]]) -> Taken:
    mongo = Mongo(stream.engines.mongo, f"bench-{name}-{uuid4().hex[:6]}")
    consumer = AIOKafkaConsumer(
        stream.topic,
        bootstrap_servers=stream.engines.kafka,
        group_id=mongo.database.name,
        group_instance_id=mongo.database.name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    seen, began, cpu = 0, 0.0, 0.0
    while seen < stream.count:
        batches = await consumer.getmany(timeout_ms=50, max_records=BATCH)
        records = [record for found in batches.values() for record in found]
        if not records:
            continue
        if not began:
            began, cpu = time.perf_counter(), time.process_time()
        await mongo["counters"].bulk_write(updates(records), ordered=False)
        await consumer.commit()
        seen += len(records)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await consumer.stop()
    await mongo.database.client.drop_database(mongo.database.name)
    await mongo.close()
    return Taken(stream.count / seconds, cpu / stream.count * 1e6)


async def one_at_a_time(stream: Stream, count: int) -> Taken:
    mongo = Mongo(stream.engines.mongo, f"bench-single-{uuid4().hex[:6]}")
    broker = KafkaBroker(stream.engines.kafka, logger=None)
    done = asyncio.Event()
    seen, began, cpu = 0, 0.0, 0.0

    @broker.subscriber(  # type: ignore[untyped-decorator]
        stream.topic,
        group_id=mongo.database.name,
        group_instance_id=mongo.database.name,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
    )
    async def count_one(told: dict[str, Any]) -> None:
        nonlocal seen, began, cpu
        if not began:
            began, cpu = time.perf_counter(), time.process_time()
        amount, last, at = _moves(told)
        await mongo["counters"].update_one(
            {"_id": told["contact_id"]}, {"$inc": {amount: 1}, "$max": {last: at}}, upsert=True
        )
        seen += 1
        if seen == count:
            done.set()

    await broker.start()
    await done.wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await broker.stop()
    await mongo.database.client.drop_database(mongo.database.name)
    await mongo.close()
    return Taken(count / seconds, cpu / count * 1e6)


async def quix(stream: Stream, python: str) -> Taken:
    """In a process of its own, with the packages of requirements-bench.lock."""
    with tempfile.TemporaryDirectory() as state:
        done = await asyncio.to_thread(
            subprocess.run,
            [python, str(_QUIX), stream.engines.kafka, stream.topic, str(stream.count), state],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"Quix Streams failed:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Taken(stream.count / told["seconds"], told["cpu_seconds"] / stream.count * 1e6)


Contender = Callable[[], Awaitable[Taken]]


async def main(count: int, runs: int, single: int, python: str | None, shapes: list[str]) -> None:
    configure_logs("bench", "bench", "json", "info")
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory, provide_engines(Path(directory)) as engines:
        rows: dict[tuple[str, str], list[Taken]] = {}
        for shape in SHAPES:
            if shape.name not in shapes:
                continue
            stream = Stream(engines, shape, count, f"bench{uuid4().hex[:6]}-{shape.name}")
            await fill(stream)
            contenders: dict[str, Contender] = {
                "ours": lambda stream=stream: ours(stream),  # type: ignore[misc]
                "(a) unsafe loop": lambda stream=stream: unsafe(stream),  # type: ignore[misc]
                "(d) limit, no ledger": lambda stream=stream: limit(stream),  # type: ignore[misc]
            }
            if single:
                contenders["(b) one at a time"] = lambda stream=stream: one_at_a_time(stream, single)  # type: ignore[misc]
            if python:
                contenders["(c) Quix Streams"] = lambda stream=stream: quix(stream, python)  # type: ignore[misc]
            for run in range(runs):
                for name, contender in contenders.items():
                    taken = await contender()
                    rows.setdefault((shape.name, name), []).append(taken)
                    print(f"{shape.name} {run} {name}: {taken}", flush=True)
        _tell(rows, engines, count)


def _tell(rows: Mapping[tuple[str, str], list[Taken]], engines: Engines, count: int) -> None:
    table = {
        (shape, name): Row(f"{shape}: {name}", "events/s", tuple(taken.per_second for taken in runs))
        for (shape, name), runs in rows.items()
    }
    notes: dict[str, Any] = {"events": count}
    for shape in dict.fromkeys(shape for shape, _ in rows):
        mine = rows[shape, "ours"]
        notes[f"{shape}_ratios"] = ", ".join(
            f"{table[shape, 'ours'].median / row.median:.2f} of {name}"
            for (of, name), row in table.items()
            if of == shape and name != "ours"
        )
        notes[f"{shape}_cpu_us_an_event"] = ", ".join(
            f"{name} {sorted(taken.cpu_us for taken in runs)[len(runs) // 2]:.0f}"
            for (of, name), runs in rows.items()
            if of == shape
        )
        announced = sorted(taken.announced_per_second or 0 for taken in mine)
        notes[f"{shape}_until_announced"] = f"{announced[len(mine) // 2]:.0f} events/s"
    first = next(iter(rows))[0]
    conclude(
        "stats", list(table.values()), table[first, "ours"], table[first, "(a) unsafe loop"], engines, **notes
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--single", type=int, default=2000, help="events for (b); 0 leaves it out")
    parser.add_argument("--quix", help="a Python that has quixstreams; without it (c) is left out")
    parser.add_argument("--shapes", default="uniform,hot,300")
    chosen = parser.parse_args()
    terminal, sys.stderr = sys.stderr, Path(os.devnull).open("w")  # noqa: SIM115 (logs are written, and thrown away)
    spare_the_collector()
    try:
        uvloop.run(main(chosen.count, chosen.runs, chosen.single, chosen.quix, chosen.shapes.split(",")))
    finally:
        sys.stderr = terminal
