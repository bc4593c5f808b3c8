"""Two relays in two processes empty one outbox; every key stays in order.

The limit: one process that reads the rows, sends them and deletes them, with no lease, no bucket and no
care for what happens if it dies.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.consume import created
from bench.report import Row, conclude
from contracts.catalogue import topics_of
from servicekit.mongo import Mongo
from servicekit.outbox import COLLECTION, INDEXES
from servicekit.service import Service, spare_the_collector
from servicekit.settings import ServiceSettings
from servicekit.topics import Topics
from tests.engines import Engines, provide_engines

TOPIC = "activity-created"


def settings(engines: Engines, instance: str) -> ServiceSettings:
    return ServiceSettings(
        kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, instance=instance, port=0
    )


async def fill(service: Service, count: int) -> None:
    now = datetime.now(UTC)
    for start in range(0, count, 5000):
        messages = [created(number, now) for number in range(start, min(start + 5000, count))]
        for transaction in range(0, len(messages), 100):
            await service.outbox.insert(service.outbox.rows(messages[transaction : transaction + 100]))


def relay(kafka: str, mongo: str, instance: str, go: Any, stop: Any) -> None:
    async def run() -> None:
        service = Service(
            "bench",
            ServiceSettings(kafka_bootstrap_servers=kafka, mongo_url=mongo, instance=instance, port=0),
        )
        _ = service.outbox  # whoever asks for it has a relay
        await asyncio.to_thread(go.wait)
        async with service.running():
            await asyncio.to_thread(stop.wait)

    asyncio.run(run())


async def emptied(mongo: Mongo) -> None:
    while await mongo[COLLECTION].find_one({}) is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def ours(engines: Engines, count: int) -> float:
    service = Service("bench", settings(engines, "writer"))
    await fill(service, count)
    spawn = multiprocessing.get_context("spawn")
    go, stop = spawn.Event(), spawn.Event()
    relays = [
        spawn.Process(target=relay, args=(engines.kafka, engines.mongo, f"relay-{n}", go, stop))
        for n in range(2)
    ]
    for process in relays:
        process.start()
    go.set()
    parcels = await service.mongo[COLLECTION].count_documents({})
    while await service.mongo[COLLECTION].count_documents({}) == parcels:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    began = time.perf_counter()
    await emptied(service.mongo)
    seconds = time.perf_counter() - began
    stop.set()
    for process in relays:
        process.join(30)
    await service.mongo.close()
    return count / seconds


async def bare(engines: Engines, count: int) -> float:
    service = Service("bench", settings(engines, "writer"))
    await fill(service, count)
    producer = AIOKafkaProducer(
        bootstrap_servers=engines.kafka,
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=262_144,
    )
    await producer.start()
    outbox = service.mongo[COLLECTION]
    began = time.perf_counter()
    while parcels := await outbox.find({}).sort("_id", 1).limit(150).to_list(150):
        sent = [
            await producer.send(row["t"], value=row["v"], key=row["k"], headers=[tuple(h) for h in row["h"]])
            for parcel in parcels
            for row in parcel["m"]
        ]
        await asyncio.gather(*sent)
        await outbox.delete_many({"_id": {"$in": [parcel["_id"] for parcel in parcels]}})
    seconds = time.perf_counter() - began
    await producer.stop()
    await service.mongo.close()
    return count / seconds


async def disorder(engines: Engines) -> int:
    """How many records of a key come after a later one, over everything in the topic (runs repeat)."""
    consumer = AIOKafkaConsumer(bootstrap_servers=engines.kafka, auto_offset_reset="earliest")
    await consumer.start()
    partitions = [TopicPartition(TOPIC, number) for number in range(12)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    last: dict[bytes, bytes] = defaultdict(bytes)
    wrong = 0
    while any([await consumer.position(p) < ends[p] for p in partitions]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                id_ = dict(record.headers)["ce_id"]
                first_of_a_run = id_.endswith(record.key[-5:]) and int(id_[-12:]) < 20_000
                wrong += id_ < last[record.key] and not first_of_a_run
                last[record.key] = id_
    await consumer.stop()
    return wrong


async def main(count: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as directory, provide_engines(Path(directory)) as engines:
        await Topics(engines.kafka).create(topics_of("activities"))
        mongo = Mongo(engines.mongo, settings(engines, "x").database("bench"))
        await mongo.ensure_indexes({COLLECTION: INDEXES})
        await mongo.close()
        pairs = [(await ours(engines, count), await bare(engines, count)) for _ in range(runs)]
        our_row = Row("two relays, leased buckets", "rows/s", tuple(pair[0] for pair in pairs))
        bare_row = Row("one careless loop", "rows/s", tuple(pair[1] for pair in pairs))
        wrong = await disorder(engines)
        conclude(
            "outbox", [our_row, bare_row], our_row, bare_row, engines, outbox_rows=count, out_of_order=wrong
        )
        if wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    spare_the_collector()
    uvloop.run(main(chosen.count, chosen.runs))
