"""Automated activities per second through all services, with everything on.

Each is created, dispatched, sent (one message out), answered (one reply in), concluded, completed, decided
and counted. Beside it: one bare process that does nothing but the same produces and the same bulk writes
(the records that the last run published; every insertion, change and deletion that the database's own log
has of it, but for the rows of outboxes, leases and idempotency keys, 500 of a collection at a time and all
collections at once), with no consumer, no decision and no transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import IndexModel, MongoClient

from bench.oplog import Bulk, Document, Place, bulks, end_of_log, keep_log, written_between
from bench.report import Row, conclude
from bench.whole_line import WholeLine, whole_line
from contracts.catalogue import topics
from servicekit.topics import Topics
from tests.engines import Engines

BARE = "bare"
_CHUNK = 500
_NOT_OF_THE_WORK = {"leases", "outbox", "idempotency_keys"}


@dataclass(frozen=True)
class Work:
    """What a run did: the records it published, its writes, and what was there before of what it changed."""

    records: list[Any]
    bulks: list[Bulk]
    before: dict[Place, list[Document]]
    indexes: dict[Place, list[IndexModel]]

    @property
    def writes(self) -> int:
        return sum(len(bulk.operations) for bulk in self.bulks)


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


def _of_the_work(place: Place) -> bool:
    database, collection = place
    return database.startswith("parley-") and collection not in _NOT_OF_THE_WORK


def _in_bare(place: Place) -> Place:
    return place[0].replace("parley-", f"{BARE}-"), place[1]


class Watched:
    """The databases from now on, until it is asked what was written meanwhile."""

    def __init__(self, engines: Engines) -> None:
        self._url = engines.mongo
        self._before: dict[Place, dict[str, Document]] = {}
        with MongoClient[Document](self._url) as client:
            keep_log(client)
            self._since = self._until = end_of_log(client)
            for place in self._places(client):
                documents = client[place[0]][place[1]].find({})
                self._before[place] = {repr(document["_id"]): document for document in documents}

    def _places(self, client: MongoClient[Document]) -> list[Place]:
        return [
            place
            for database in client.list_database_names()
            for collection in client[database].list_collection_names()
            if _of_the_work(place := (database, collection))
        ]

    def stop(self) -> None:
        """What is written from now on is not asked for."""
        with MongoClient[Document](self._url) as client:
            self._until = end_of_log(client)

    def work(self, records: list[Any]) -> Work:
        with MongoClient[Document](self._url) as client:
            writes = list(written_between(client, self._since, self._until, _of_the_work))
            touched = {(written.place, repr(written.id)) for written in writes}
            before = {
                _in_bare(place): [each for id_, each in documents.items() if (place, id_) in touched]
                for place, documents in self._before.items()
            }
            indexes = {
                _in_bare(place): [
                    IndexModel(
                        list(index["key"].items()),
                        **{k: v for k, v in index.items() if k not in ("key", "v", "ns")},
                    )
                    for index in client[place[0]][place[1]].list_indexes()
                    if index["name"] != "_id_"
                ]
                for place in self._places(client)
            }
            return Work(records, list(bulks(iter(writes), _in_bare)), before, indexes)


async def bare(engines: Engines, work: Work, count: int) -> float:
    """The same produces and the same bulk writes, from one process."""
    await Topics(engines.kafka, BARE).create(topics())
    client: Any = AsyncIOMotorClient(engines.mongo, w="majority", journal=True)
    for (database, collection), indexes in work.indexes.items():
        if indexes:
            await client[database][collection].create_indexes(indexes)
    for (database, collection), documents in work.before.items():
        if documents:
            await client[database][collection].insert_many(documents)
    producer = AIOKafkaProducer(
        bootstrap_servers=engines.kafka,
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=262_144,
    )
    await producer.start()
    chunks = [work.records[start : start + _CHUNK] for start in range(0, len(work.records), _CHUNK)]

    async def produce() -> None:
        for chunk in chunks:
            sent = [
                await producer.send(
                    f"{BARE}.{record.topic}", value=record.value, key=record.key, headers=list(record.headers)
                )
                for record in chunk
            ]
            await asyncio.gather(*sent)

    of_place: dict[Place, list[Bulk]] = defaultdict(list)
    for bulk in work.bulks:
        of_place[bulk.place].append(bulk)

    async def write(place: Place) -> None:
        """Only what is written to one collection has to come in turn."""
        for bulk in of_place[place]:
            await client[place[0]][place[1]].bulk_write(bulk.operations, ordered=bulk.ordered)

    began = time.perf_counter()
    await asyncio.gather(produce(), *map(write, of_place))
    seconds = time.perf_counter() - began
    await producer.stop()
    for database in {database for database, _ in work.indexes}:
        await client.drop_database(database)
    client.close()
    return count / seconds


def main(count: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as directory, whole_line(Path(directory)) as line:
        line.import_people(count)
        run(line, count)  # what is made once (connections, caches, pages) is not measured
        rates: list[float] = []
        starts: list[tuple[dict[TopicPartition, int], Watched]] = []
        cpu: dict[str, float] = defaultdict(float)
        for _ in range(runs):
            starts.append((asyncio.run(ends(line.engines)), Watched(line.engines)))
            before = line.cpu_seconds()
            rates.append(run(line, count))
            starts[-1][1].stop()
            for name, used in line.cpu_seconds().items():
                cpu[name] += used - before.get(name, 0.0)
        since, watched = starts[-1]
        work = watched.work(asyncio.run(published(line.engines, since)))
        bare_rates = [asyncio.run(bare(line.engines, work, count)) for _ in range(2)][1:]
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
            messages_an_activity=round(len(work.records) / count, 1),
            writes_an_activity=round(work.writes / count, 1),
            cpu_an_activity=f"{total:.2f} ms",
            **{f"cpu_{name}": said for name, said in shares.items()},
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    main(chosen.count, chosen.runs)
