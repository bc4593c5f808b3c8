"""servicekit's whole pipeline against the barest loop that checks as much.

Ours: FastStream's consumer, headers checked, model validated, key checked, metrics, logs and trace context
on, offsets committed. The limit: getmany and validate_json on the same records, offsets committed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer

from bench.report import Row, conclude
from contracts.activities import ActivityCreated
from contracts.catalogue import topics_of
from contracts.message import wire_headers
from contracts.vocabulary import ActivityId, ActivityKind, ContactId, Mode, Source, SubjectId
from servicekit.logs import configure_logs
from servicekit.producer import Outgoing, Producer
from servicekit.service import Service, spare_the_collector
from servicekit.settings import ServiceSettings
from servicekit.topics import Topics
from servicekit.tracing import new_traceparent
from servicekit.verdict import Outcome
from tests.engines import Engines, provide_engines

TOPIC = "activity-created"


def created(number: int, now: datetime) -> ActivityCreated:
    return ActivityCreated(
        activity_id=ActivityId(f"0f8fad5b-d9cb-469f-a165-{number:012d}"),
        contact_id=ContactId(f"7c9e6679-7425-40de-944b-{number % 20_000:012d}"),
        kind=ActivityKind.SMS,
        mode=Mode.AUTOMATED,
        source=Source.BATCH,
        subject_id=SubjectId("2c1b7a52-7d0f-4c55-9d3f-000000000001"),
        channel="sms",
        scheduled_at=now,
        created_at=now,
        created_by="bench",
    )


async def fill(engines: Engines, count: int) -> None:
    await Topics(engines.kafka).create(topics_of("activities"))
    producer = Producer(engines.kafka, "bench")
    now = datetime.now(UTC)
    stamp = now.isoformat()
    for start in range(0, count, 5000):
        messages = [created(number, now) for number in range(start, min(start + 5000, count))]
        await producer.publish_all(
            [
                Outgoing(
                    TOPIC,
                    message.key().encode(),
                    message.to_json(),
                    wire_headers(message, "bench", stamp, new_traceparent()),
                )
                for message in messages
            ]
        )
    await producer.close()


async def bare(engines: Engines, count: int, group: str) -> float:
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=engines.kafka,
        group_id=group,
        group_instance_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    seen = 0
    began = None
    while seen < count:
        batches = await consumer.getmany(timeout_ms=50, max_records=1000)
        began = began or (time.perf_counter() if batches else None)
        for records in batches.values():
            for record in records:
                ActivityCreated.from_json(record.value)
                seen += 1
        await consumer.commit()
    seconds = time.perf_counter() - (began or 0)
    await consumer.stop()
    return count / seconds


async def ours(engines: Engines, count: int, group: str) -> float:
    settings = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka,
        mongo_url=engines.mongo,
        instance=group,
        port=0,
        batch_size=1000,
    )
    service = Service(group, settings)
    done = asyncio.Event()
    seen = 0
    began = 0.0

    async def handle(batch: Sequence[Any]) -> Sequence[Outcome]:
        nonlocal seen, began
        began = began or time.perf_counter()
        seen += len(batch)
        if seen >= count:
            done.set()
        return [None] * len(batch)

    service.subscribe("consume", ActivityCreated, handle)
    async with service.running():
        await done.wait()
        seconds = time.perf_counter() - began
    return count / seconds


async def main(count: int, runs: int) -> None:
    configure_logs("bench", "bench", "json", "info")
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory, provide_engines(Path(directory)) as engines:
        await fill(engines, count)
        pairs = []
        for run in range(runs + 1):
            pair = (await ours(engines, count, f"ours-{run}"), await bare(engines, count, f"bare-{run}"))
            if run:
                pairs.append(pair)
        our_row = Row("servicekit pipeline", "messages/s", tuple(pair[0] for pair in pairs))
        bare_row = Row("bare getmany and validate_json", "messages/s", tuple(pair[1] for pair in pairs))
        conclude("consume", [our_row, bare_row], our_row, bare_row, engines, messages=count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (logs are written, and thrown away)
    spare_the_collector()
    uvloop.run(main(chosen.count, chosen.runs))
