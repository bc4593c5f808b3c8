"""Recount a ledger of millions of rows: how long it takes, and how much memory.

Rows and counters are built directly in MongoDB, with a hundred targets corrupted; the run must name and mend
exactly those. The limit beside it: one aggregation that groups the same ledger in the server.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.report import Row, conclude
from servicekit.clock import SystemClock
from servicekit.logs import configure_logs
from servicekit.mongo import Mongo
from stats.composition import Books
from stats.domain.counters import COUNT, LAST
from stats.settings import Settings
from stats.use_cases.announce_counters import listed
from stats.use_cases.recalculate import Recalculations, Scope, outcome_of
from tests.engines import provide_engines

DATABASE = "bench-recalculate"
CORRUPTED = 100
_CHUNK = 5000
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Recounted:
    seconds: float
    found: set[str]
    outcome: str
    memory_mb: float


async def build(mongo: Mongo, rows: int, contacts: int) -> set[str]:
    """The ledger, and the counters that follow from it but for the corrupted ones, which are returned."""
    chance = random.Random(1)
    counters: dict[str, dict[str, Any]] = {}
    for start in range(0, rows, _CHUNK):
        documents = []
        for number in range(start, min(start + _CHUNK, rows)):
            target = f"contact/{chance.randrange(contacts):09d}"
            direction = chance.choice(("incoming", "outgoing"))
            at = _START + timedelta(seconds=number)
            documents.append(
                {
                    "_id": f"sms/{number:012d}",
                    "type": "sms",
                    "id": f"{number:012d}",
                    "version": 1,
                    "channel": "sms",
                    "at": at,
                    "campaign_id": f"campaign-{number % 7}",
                    "target": target,
                    "direction": direction,
                }
            )
            numbers = counters.setdefault(target, {})
            numbers[COUNT[direction]] = numbers.get(COUNT[direction], 0) + 1
            numbers[LAST[direction]] = at
        await mongo["ledger"].insert_many(documents, ordered=False)
    wrong = set(chance.sample(sorted(counters), CORRUPTED))
    chunk: list[dict[str, Any]] = []
    for target, numbers in counters.items():
        document = {"_id": target, "version": 1, "channels": {"sms": numbers}}
        document["listed"] = listed(document)
        if target in wrong:
            numbers["in"] = numbers.get("in", 0) + 1
        chunk.append(document)
        if len(chunk) == _CHUNK:
            await mongo["targets"].insert_many(chunk, ordered=False)
            chunk = []
    if chunk:
        await mongo["targets"].insert_many(chunk, ordered=False)
    return wrong


def recount_alone(kafka: str, url: str, dry_run: bool) -> Recounted:
    """In a process of its own, so that its memory is its own."""
    return asyncio.run(recount(kafka, url, dry_run))


async def recount(kafka: str, url: str, dry_run: bool) -> Recounted:
    mongo = Mongo(url, DATABASE)
    settings = Settings(kafka_bootstrap_servers=kafka, mongo_url=url, namespace="bench")
    runs = Recalculations(mongo, SystemClock(), settings)
    stopping = asyncio.Event()
    began = time.perf_counter()
    run_id = f"bench-{dry_run}"
    await runs.start(run_id, Scope(), dry_run, None)
    working = asyncio.create_task(runs.run(stopping))
    while (run := await runs.get(run_id)) is None or run["state"] != "finished":  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    seconds = time.perf_counter() - began
    stopping.set()
    await working
    found = {f"contact/{each['target_id']}" for each in await runs.differences(run_id, "", 1000)}
    await mongo.close()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Recounted(seconds, found, outcome_of(run), most)


async def in_the_server(mongo: Mongo) -> float:
    began = time.perf_counter()
    group = {"_id": ["$target", "$channel", "$direction"], "count": {"$sum": 1}, "last": {"$max": "$at"}}
    pipeline: list[dict[str, Any]] = [{"$group": group}, {"$count": "lanes"}]
    await mongo.aggregate("ledger", pipeline, allowDiskUse=True)
    return time.perf_counter() - began


async def main(rows: int, contacts: int) -> None:
    configure_logs("bench", "bench", "json", "error")
    with tempfile.TemporaryDirectory() as directory, provide_engines(Path(directory)) as engines:
        mongo = Mongo(engines.mongo, DATABASE)
        await mongo.ensure_indexes(Books.indexes)
        wrong = await build(mongo, rows, contacts)
        alone = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
        dry = alone.submit(recount_alone, engines.kafka, engines.mongo, True).result()
        assert (dry.found, dry.outcome) == (wrong, "different"), "a dry run names exactly the corrupted ones"
        mended = alone.submit(recount_alone, engines.kafka, engines.mongo, False).result()
        assert (mended.found, mended.outcome) == (wrong, "written")
        server = await in_the_server(mongo)
        await mongo.database.client.drop_database(DATABASE)
        await mongo.close()
    measured = [
        Row("recalculate, dry run", "rows/s", (rows / dry.seconds,)),
        Row("recalculate and mend", "rows/s", (rows / mended.seconds,)),
        Row("one $group in the server", "rows/s", (rows / server,)),
    ]
    notes = {
        "ledger_rows": rows,
        "contacts": contacts,
        "seconds": f"{dry.seconds:.1f} dry, {mended.seconds:.1f} mending, {server:.1f} the server alone",
        "most_memory_mb": f"{dry.memory_mb:.0f} dry, {mended.memory_mb:.0f} mending",
        "corrupted_found_and_mended": CORRUPTED,
    }
    conclude("recalculate", measured, measured[0], measured[2], engines, **notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--contacts", type=int, default=200_000)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.rows, chosen.contacts))
