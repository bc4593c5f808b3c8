"""Automated activities per second through all services, with everything on.

Each is created, dispatched, sent (one message out), answered (one reply in), concluded, completed, decided
and counted. Beside it: one bare process that does nothing but the same produces and the same bulk writes
(the records and documents that the line left behind, as often as they were written), with no consumer, no
decision and no transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import IndexModel, InsertOne, MongoClient, UpdateOne

from bench.report import Row, conclude
from bench.whole_line import WholeLine, whole_line
from contracts.catalogue import topics
from servicekit.topics import Topics
from tests.engines import Engines

BARE = "bare"
_CHUNK = 500
_NOT_OF_THE_WORK = {"leases", "outbox", "idempotency_keys"}


@dataclass
class Remains:
    """What a run left behind: every record it published, and every document with how often it was written."""

    records: list[Any] = field(default_factory=list)
    documents: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    indexes: dict[tuple[str, str], list[IndexModel]] = field(default_factory=dict)


def run(line: WholeLine, count: int) -> float:
    """Load everybody and wait until the last one is counted; activities a second."""
    batch_id = line.create_batch()
    settled = {"stats.record-interactions": 2 * count, "stats.record-completions": count}
    before = line.consumed("stats") + line.consumed("workflow")
    wanted = {name: before[name] + more for name, more in settled.items()}
    wanted["workflow.decide-what-follows"] = before["workflow.decide-what-follows"] + count

    def all_counted() -> bool:
        now = line.consumed("stats") + line.consumed("workflow")
        return all(now[name] >= enough for name, enough in wanted.items())

    began = time.perf_counter()
    line.load(batch_id)
    line.wait(all_counted, f"{count} activities to be counted")
    return count / (time.perf_counter() - began)


async def ends(engines: Engines) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=engines.kafka)
    await consumer.start()
    try:
        names = sorted(await consumer.topics())
        ours = {topic.named(channel="sms") for topic in topics()} & set(names)
        partitions = [TopicPartition(name, n) for name in ours for n in range(12)]
        found: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return found
    finally:
        await consumer.stop()


async def published(engines: Engines, since: dict[TopicPartition, int]) -> list[Any]:
    until = await ends(engines)
    consumer = AIOKafkaConsumer(bootstrap_servers=engines.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [p for p in until if until[p] > since.get(p, 0)]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, since.get(partition, 0))
        found: list[Any] = []
        while any([await consumer.position(p) < until[p] for p in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(batch)
        return sorted(found, key=lambda record: int(record.timestamp))
    finally:
        await consumer.stop()


def written(engines: Engines) -> Remains:
    remains = Remains()
    with MongoClient[dict[str, Any]](engines.mongo) as client:
        for database in client.list_database_names():
            if not database.startswith("parley-"):
                continue
            for collection in client[database].list_collection_names():
                if collection in _NOT_OF_THE_WORK:
                    continue
                place = (database.replace("parley-", f"{BARE}-"), collection)
                remains.documents[place] = list(client[database][collection].find({}))
                remains.indexes[place] = [
                    IndexModel(
                        list(index["key"].items()),
                        **{k: v for k, v in index.items() if k not in ("key", "v", "ns")},
                    )
                    for index in client[database][collection].list_indexes()
                    if index["name"] != "_id_"
                ]
    return remains


def writes(remains: Remains) -> Iterator[tuple[tuple[str, str], list[Any]]]:
    """In chunks: each document inserted, then changed as often as its version says."""
    for place, documents in remains.documents.items():
        for start in range(0, len(documents), _CHUNK):
            chunk = documents[start : start + _CHUNK]
            yield place, [InsertOne(document) for document in chunk]
            again: dict[int, list[Any]] = defaultdict(list)
            for document in chunk:
                for version in range(2, min(int(document.get("version") or 1), 20) + 1):
                    again[version].append(UpdateOne({"_id": document["_id"]}, {"$set": {"version": version}}))
            for changes in again.values():
                yield place, changes


async def bare(engines: Engines, remains: Remains, count: int) -> float:
    """The same produces and the same bulk writes, from one process."""
    await Topics(engines.kafka, BARE).create(topics())
    client: Any = AsyncIOMotorClient(engines.mongo, w="majority", journal=True)
    for (database, collection), indexes in remains.indexes.items():
        if indexes:
            await client[database][collection].create_indexes(indexes)
    producer = AIOKafkaProducer(
        bootstrap_servers=engines.kafka,
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=262_144,
    )
    await producer.start()
    bulks = list(writes(remains))
    chunks = [remains.records[start : start + _CHUNK] for start in range(0, len(remains.records), _CHUNK)]

    async def produce() -> None:
        for chunk in chunks:
            sent = [
                await producer.send(
                    f"{BARE}.{record.topic}", value=record.value, key=record.key, headers=list(record.headers)
                )
                for record in chunk
            ]
            await asyncio.gather(*sent)

    async def write() -> None:
        for (database, collection), operations in bulks:
            await client[database][collection].bulk_write(operations, ordered=False)

    began = time.perf_counter()
    await asyncio.gather(produce(), write())
    seconds = time.perf_counter() - began
    await producer.stop()
    for database in {database for database, _ in remains.documents}:
        await client.drop_database(database)
    client.close()
    return count / seconds


def main(count: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as directory, whole_line(Path(directory)) as line:
        line.import_people(count)
        run(line, count)  # what is made once (connections, caches, pages) is not measured
        rates: list[float] = []
        since: dict[TopicPartition, int] = {}
        cpu: dict[str, float] = defaultdict(float)
        for _ in range(runs):
            since = asyncio.run(ends(line.engines))
            before = line.cpu_seconds()
            rates.append(run(line, count))
            for name, used in line.cpu_seconds().items():
                cpu[name] += used - before.get(name, 0.0)
        records = asyncio.run(published(line.engines, since))
        remains = written(line.engines)
        remains.records = records
        share = 1 / (runs + 1)  # the documents are those of all runs, the records those of the last
        for place, documents in remains.documents.items():
            remains.documents[place] = documents[: max(1, round(len(documents) * share))]
        bare_rates = [asyncio.run(bare(line.engines, remains, count)) for _ in range(2)][1:]
        total = sum(cpu.values()) / runs / count * 1000
        shares = {
            name: f"{used / runs / count * 1000:.2f} ms, {100 * used / sum(cpu.values()):.0f} %"
            for name, used in sorted(cpu.items(), key=lambda item: -item[1])
        }
        ours = Row("the line, everything on", "activities/s", tuple(rates))
        limit = Row("one bare process: the same produces and bulk writes", "activities/s", tuple(bare_rates))
        conclude(
            "line",
            [ours, limit],
            ours,
            limit,
            line.engines,
            activities=count,
            messages_an_activity=round(len(records) / count, 1),
            cpu_an_activity=f"{total:.2f} ms",
            **{f"cpu_{name}": said for name, said in shares.items()},
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    main(chosen.count, chosen.runs)
