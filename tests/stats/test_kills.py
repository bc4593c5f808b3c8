"""The consumer is killed again and again: counters = ledger = input, and a rewind changes nothing.

`make stats-kills` runs it with fifty kills over 200,000 events.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from contracts.channel_sms import InteractionRecorded
from contracts.stats import ContactStatsChanged
from servicekit.mongo import Mongo
from servicekit.settings import ServiceSettings
from stats.domain.counters import canonical
from stats.main import build
from stats.settings import Settings
from tests.engines import Engines
from tests.kit import Wire, eventually, running, settled
from tests.stats.parts import recount
from tests.stats.samples import THEN, changed

KILLS = int(os.environ.get("PARLEY_TEST_STATS_KILLS", "4"))
EVENTS = int(os.environ.get("PARLEY_TEST_STATS_EVENTS", "4000"))
SEED = int(os.environ.get("PARLEY_TEST_STATS_SEED", "1"))
PATIENCE = 600.0

Numbers = dict[str, dict[str, dict[str, Any]]]


def story(chance: random.Random) -> list[InteractionRecorded]:
    """Interactions of 500 contacts; some change, some are taken back, one in twenty arrives again, later."""
    told: list[InteractionRecorded] = []
    newest: dict[str, InteractionRecorded] = {}
    number = 0
    while len(told) < EVENTS:
        roll = chance.random()
        if told and roll < 0.05:
            told.append(chance.choice(told[-2000:]))
            continue
        if told and roll < 0.12:
            message = another_version(newest[chance.choice(told[-2000:]).interaction_id], chance)
        else:
            number += 1
            message = new(number, chance)
        newest[message.interaction_id] = message
        told.append(message)
    return told


def new(number: int, chance: random.Random) -> InteractionRecorded:
    return InteractionRecorded.model_validate(
        {
            "interaction_id": f"m{number}",
            "interaction_type": chance.choice(("sms", "call")),
            "version": 1,
            "contact_id": f"c{chance.randrange(500)}",
            "direction": chance.choice(("incoming", "outgoing", "unknown")),
            "occurred_at": THEN + timedelta(milliseconds=chance.randrange(10**9)),
            "campaign_id": chance.choice(("k1", "k2")),
        }
    )


def another_version(of: InteractionRecorded, chance: random.Random) -> InteractionRecorded:
    return changed(
        of,
        direction=chance.choice(("incoming", "outgoing")),
        occurred_at=THEN + timedelta(milliseconds=chance.randrange(10**9)),
        deleted=chance.random() < 0.2,
    )


def reference(told: Sequence[InteractionRecorded]) -> Numbers:
    newest: dict[str, InteractionRecorded] = {}
    for m in told:
        if m.interaction_id not in newest or m.version > newest[m.interaction_id].version:
            newest[m.interaction_id] = m
    counters: Numbers = {}
    for m in newest.values():
        if m.direction is not None and m.direction != "unknown" and not m.deleted:
            way = {"incoming": "in", "outgoing": "out"}[m.direction]
            lane = counters.setdefault(f"contact/{m.contact_id}", {}).setdefault(m.interaction_type, {})
            lane[way] = lane.get(way, 0) + 1
            assert m.occurred_at is not None
            lane[f"last_{way}"] = max(m.occurred_at, lane.get(f"last_{way}", m.occurred_at))
    return {target: canonical(channels) for target, channels in counters.items()}


@contextmanager
def process(engines: Engines, namespace: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The service as it is deployed; killed at the end, if it still runs."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    environment = ours | {
        "KAFKA_BOOTSTRAP_SERVERS": engines.kafka,
        "MONGO_URL": engines.mongo,
        "PARLEY_NAMESPACE": namespace,
        "PARLEY_INSTANCE": "victim",
        "PARLEY_PORT": "0",
        "PARLEY_LOG_LEVEL": "warning",
        "PARLEY_STATS_BATCH_SIZE": "200" if EVENTS < 50_000 else "1000",
    }
    with log.open("ab") as out:
        started = subprocess.Popen(
            [sys.executable, "-c", "from stats.main import run; run()"],
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()


async def test_killed_again_and_again_it_counts_everything_once(
    engines: Engines, wire: Wire, namespace: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    told = story(chance)
    for start in range(0, len(told), 5000):
        await wire.publish(*told[start : start + 5000])
    mongo = Mongo(engines.mongo, ServiceSettings(namespace=namespace).database("stats"))
    interactions = len({m.interaction_id for m in told})

    async def kill_at(rows: int) -> None:
        async def there() -> bool:
            if victim.poll() is not None:
                raise AssertionError((tmp_path / "log").read_text()[-3000:])
            return bool(await mongo["ledger"].estimated_document_count() >= rows)

        with process(engines, namespace, tmp_path / "log") as victim:
            await eventually(there, f"{rows} rows", PATIENCE)

    for kill in range(KILLS):
        await kill_at((kill + 1) * interactions // (KILLS + 1) - chance.randrange(interactions // KILLS // 2))
    expected = reference(told)
    async with running(build, Settings, engines, namespace, instance="victim") as service:

        async def all_there() -> bool:
            # The estimate counts what is not committed yet, so that it is only good for waiting.
            return bool(await mongo["ledger"].estimated_document_count() >= interactions)

        async def announced() -> bool:
            return await mongo["changed_targets"].find_one({}) is None

        await eventually(all_there, "everything to be counted", PATIENCE)
        await settled(service, within=PATIENCE)
        await eventually(announced, "everything to be announced", PATIENCE)
        await settled(service, within=PATIENCE)
        before = await everything(mongo)
        assert before[0] == expected
        assert before[1] == expected
        assert before[2] == sum(
            numbers.get(way, 0)
            for of in expected.values()
            for numbers in of.values()
            for way in ("in", "out")
        )
        newest = {m.target_id: m for m in await wire.messages(ContactStatsChanged)}
        for target, channels in expected.items():
            said = newest[target.removeprefix("contact/")]
            counted = sum(numbers.get("in", 0) + numbers.get("out", 0) for numbers in channels.values())
            assert said.total.contact_count == counted, target
        suppressed = service.metrics.suppressed.labels("stats.record-interactions")._value
        already = suppressed.get()
        for subscription in service.bus.subscriptions:
            assert subscription.consumer is not None
            await subscription.consumer.seek_to_beginning()

        async def read_again() -> bool:
            return bool(suppressed.get() >= already + len(told))

        await eventually(read_again, "the rewind to be over", PATIENCE)
        assert await everything(mongo) == before, "a rewind changed something"
    await mongo.close()


async def everything(mongo: Mongo) -> tuple[Numbers, Numbers, int]:
    """Counters, recounted ledger, attempts in the reports."""
    kept = {row["_id"]: canonical(row.get("channels")) async for row in mongo["targets"].find()}
    rows = [row async for row in mongo["ledger"].find()]
    cells = [row async for row in mongo["report_cells"].find()]
    attempts = sum(
        row["day_total"].get("attempts_in", 0) + row["day_total"].get("attempts_out", 0) for row in cells
    )
    counted = {target: canonical(channels) for target, channels in recount(rows).items()}
    return {target: numbers for target, numbers in kept.items() if numbers}, counted, attempts
