"""How long a report takes over a year of ten million activities and their attempts.

The cells are what the service would have: its own functions count every activity and attempt; only the wire
and the ledger are left out. Reports are asked over REST. The limit beside it: one `$group` in the server over
the raw activities of the same month, as somebody without cells would ask.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import aiohttp

from bench.report import Row, conclude
from contracts.catalogue import topics_of
from servicekit.logs import configure_logs
from servicekit.mongo import Mongo
from servicekit.topics import Topics
from stats.adapters.mongo_cells import AGENT_CELLS, CELLS, write_cells
from stats.composition import Books
from stats.domain.reports import Cells, count_activity, count_attempt
from stats.main import build
from stats.settings import Settings
from stats.use_cases.record_activities import ACTIVITIES
from tests.engines import provide_engines

FIRST = date(2026, 1, 1)
DAYS = 365
MONTH = (date(2026, 6, 1), date(2026, 6, 30))
CAMPAIGNS, AGENTS = 20, 40
DISPOSITIONS = ("sold", "declined", "no-answer", "opted-out", "bad-number")
OPEN = 100_000
NAMESPACE = "bench-reports"
_REPEATS = 15
_AT_ONCE = 1000


@dataclass(frozen=True)
class Asked:
    name: str
    path: str
    parameters: Mapping[str, Any]


def days_of(first: date, last: date, **more: Any) -> dict[str, Any]:
    return {"first": first.isoformat(), "last": last.isoformat(), **more}


YEAR = (FIRST, FIRST + timedelta(days=DAYS - 1))
THE_MONTH = "a month by campaign, Berlin"
QUESTIONS = (
    Asked(
        "a day of a campaign by disposition",
        "activity",
        days_of(MONTH[0], MONTH[0], zone="Europe/Berlin", campaign_id="campaign-3", group_by="disposition"),
    ),
    Asked(THE_MONTH, "activity", days_of(*MONTH, zone="Europe/Berlin", group_by="campaign_id")),
    Asked(
        "a month of a campaign by day, New York",
        "activity",
        days_of(*MONTH, zone="America/New_York", campaign_id="campaign-3", group_by="day"),
    ),
    Asked(
        "hours of a month of a campaign",
        "histograms/hours",
        days_of(*MONTH, zone="Europe/Berlin", campaign_id="campaign-3"),
    ),
    Asked(
        "a year by campaign, Berlin", "activity", days_of(*YEAR, zone="Europe/Berlin", group_by="campaign_id")
    ),
    Asked("a year by day, New York", "activity", days_of(*YEAR, zone="America/New_York", group_by="day")),
    Asked("a month by agent, Berlin", "activity", days_of(*MONTH, zone="Europe/Berlin", group_by="agent")),
    Asked("backlog by campaign", "backlog", {"zone": "Europe/Berlin", "group_by": "campaign_id"}),
)


def activities_of(day: int, count: int, open_: int) -> Iterator[dict[str, Any]]:
    """As stats keeps them. Nine of ten are automated; they are worked between 8 and 20 o'clock UTC."""
    chance = random.Random(day)
    midnight = datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(days=day)
    for number in range(count):
        campaign = chance.randrange(CAMPAIGNS)
        created = midnight + timedelta(seconds=8 * 3600 + chance.randrange(12 * 3600))
        activity: dict[str, Any] = {
            "_id": f"{day:03d}-{number:09d}",
            "version": 5,
            "state": "completed",
            "source": "batch" if chance.random() < 0.8 else "flow",
            "attempt_number": 1 + int(chance.expovariate(1.2)),
            "created_at": created,
            "scheduled_at": created,
            "changed_at": created,
            "campaign_id": f"campaign-{campaign}",
            "subject_id": f"subject-{campaign % 2}",
            "channel": "sms",
            "endpoint_id": f"endpoint-{campaign % 4}",
        }
        if chance.random() < 0.1:
            activity["agent"] = f"agent-{chance.randrange(AGENTS)}"
        if number < open_:
            yield activity | {"state": "dispatched", "open": True}
            continue
        ended = created + timedelta(seconds=min(chance.expovariate(1 / 1800), 40_000))
        picked = {name: activity[name] for name in ("campaign_id", "subject_id", "channel", "endpoint_id")}
        yield activity | {
            "started_at": created + timedelta(seconds=chance.randrange(60)),
            "completed_at": ended,
            "changed_at": ended,
            "disposition": chance.choice(DISPOSITIONS),
            "picked": picked
            | {
                "at": ended,
                "weekday": ended.isoweekday(),
                "hour": ended.hour,
                "human_contact": chance.random() < 0.6,
            },
        }


def attempts_of(activity: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One text out, and one back from most."""
    of = {name: activity[name] for name in ("campaign_id", "subject_id", "channel", "endpoint_id")}
    yield of | {"at": activity["created_at"], "direction": "outgoing"}
    if activity["_id"][-1] not in "01":
        yield of | {"at": activity["created_at"] + timedelta(minutes=7), "direction": "incoming"}


def fill(url: str, database: str, day: int, count: int, open_: int, with_raw: bool) -> None:
    """One day's cells, and its raw activities where they are asked for; in a process of its own."""
    asyncio.run(_fill(url, database, day, count, open_, with_raw))


async def _fill(url: str, database: str, day: int, count: int, open_: int, with_raw: bool) -> None:
    cells: Cells = {}
    raw: list[dict[str, Any]] = []
    kept = Mongo(url, database)
    try:
        for activity in activities_of(day, count, open_):
            count_activity(cells, activity, 1)
            for attempt in attempts_of(activity):
                count_attempt(cells, attempt, 1)
            if with_raw or "open" in activity:
                raw.append(activity)
        await write_cells(kept, cells, "bench")
        for start in range(0, len(raw), _AT_ONCE):
            await kept[ACTIVITIES].insert_many(raw[start : start + _AT_ONCE], ordered=False)
    finally:
        await kept.close()


async def ask(session: aiohttp.ClientSession, base: str, asked: Asked, times: int) -> tuple[float, ...]:
    """Milliseconds of each; the first, which finds nothing in memory, counts too."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        async with session.get(f"{base}/v1/reports/{asked.path}", params=asked.parameters) as answer:
            found = await answer.json()
            assert answer.status == 200, found
            assert found["rows"], asked
        taken.append((time.perf_counter() - began) * 1000)
    return tuple(taken)


async def grouped_raw(mongo: Mongo) -> float:
    """The month from the activities themselves: created, completed and their durations by campaign."""
    first, last = (datetime.combine(day, datetime.min.time(), UTC) for day in MONTH)
    inside = {"$gte": first, "$lt": last + timedelta(days=1)}
    began = time.perf_counter()
    await mongo.aggregate(
        ACTIVITIES,
        [
            {"$match": {"completed_at": inside}},
            {
                "$group": {
                    "_id": "$campaign_id",
                    "completed": {"$sum": 1},
                    "duration_ms": {"$sum": {"$subtract": ["$completed_at", "$started_at"]}},
                }
            },
        ],
    )
    return (time.perf_counter() - began) * 1000


async def main(activities: int) -> None:
    configure_logs("bench", "bench", "json", "error")
    with tempfile.TemporaryDirectory() as directory, provide_engines(Path(directory)) as engines:
        settings = Settings(
            kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, namespace=NAMESPACE, port=0
        )
        database = settings.database("stats")
        mongo = Mongo(engines.mongo, database)
        await mongo.ensure_indexes(Books.indexes)
        began = time.perf_counter()
        with ProcessPoolExecutor(2, get_context("spawn")) as workers:
            month = range((MONTH[0] - FIRST).days, (MONTH[1] - FIRST).days + 1)
            days = [
                workers.submit(
                    fill, engines.mongo, database, day, activities // DAYS, OPEN // DAYS, day in month
                )
                for day in range(DAYS)
            ]
            for day in days:
                day.result()
        filled = time.perf_counter() - began
        sizes = [await mongo.database.command("collStats", each) for each in (CELLS, AGENT_CELLS)]
        await Topics(engines.kafka, NAMESPACE).create(topics_of("stats"))
        service = build(settings)
        rows: list[Row] = []
        async with service.running(), aiohttp.ClientSession() as session:
            for asked in QUESTIONS:
                taken = await ask(session, f"http://127.0.0.1:{service.port}", asked, _REPEATS)
                rows.append(Row(asked.name, "ms", taken))
        raw = Row("the month from raw activities", "ms", tuple([await grouped_raw(mongo) for _ in range(5)]))
        await mongo.database.client.drop_database(database)
        await mongo.close()
    most, by_agent = (f"{size['count']:,} of {size['avgObjSize']:,.0f} bytes" for size in sizes)
    on_disk = sum(size["storageSize"] + size["totalIndexSize"] for size in sizes) >> 20
    notes = {
        "activities": activities,
        "report_cells": f"{most}; of agents {by_agent}; {on_disk} MiB on disk",
        "filled_in": f"{filled:.0f} s",
    }
    ours = next(row for row in rows if row.name == THE_MONTH)
    conclude("reports", [*rows, raw], ours, raw, engines, **notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, default=10_000_000)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.activities))
