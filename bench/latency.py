"""From a completion to the dispatch of the next activity, at a steady rate.

A person completes an activity over REST; its flow asks for the next one at once; the policy gate lets it go
and it is dispatched. Measured between the broker's times of `activity-completed` and of
`activity-dispatched.sms` for its follow-up. The limit: a message that goes as many hops (completed, created,
dispatched) through bare consumers and producers at the same rate.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import urllib3
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.line import ends, published
from bench.report import Row, conclude
from bench.whole_line import WholeLine, whole_line
from contracts.message import Topic
from servicekit.topics import Topics

_CONNECTIONS = 64
_HOPS = tuple(Topic(f"bench-hop-{number}") for number in range(3))


async def complete_at(line: WholeLine, ids: list[str], rate: float) -> None:
    """Complete them one after another, so many a second, whatever the answers take.

    By plain connections in threads: an httpx client with many at once costs more than what it asks for.
    """
    url = line.api.parley.url("activities")
    pool = urllib3.PoolManager(maxsize=_CONNECTIONS, block=True, timeout=60, retries=False)
    body = orjson.dumps({"disposition": "again", "actor": "ada"})

    def complete(activity_id: str) -> None:
        answer = pool.request(
            "POST",
            f"{url}/v1/activities/{activity_id}/complete",
            body=body,
            headers={"content-type": "application/json"},
        )
        if answer.status >= 400:
            raise RuntimeError(f"{activity_id} was not completed: {answer.status} {answer.data!r}")

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        waiting = []
        for number, activity_id in enumerate(ids):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            waiting.append(loop.run_in_executor(threads, complete, activity_id))
        await asyncio.gather(*waiting)


async def latencies(line: WholeLine, ids: list[str], rate: float) -> list[float]:
    """Milliseconds, one for each completed activity."""
    since = await ends(line.engines)
    await complete_at(line, ids, rate)
    until = time.monotonic() + 120
    while len(found := gaps(await published(line.engines, since), set(ids))) < len(ids):
        if time.monotonic() > until:
            raise RuntimeError(f"{len(found)} of {len(ids)} follow-ups were dispatched within two minutes")
        await asyncio.sleep(1)
    return found


def gaps(records: list[Any], wanted: set[str]) -> list[float]:
    """From each wanted completion to the dispatch of what it led to, by the broker's times."""
    completed: dict[str, int] = {}
    parents: dict[str, str] = {}
    dispatched: dict[str, int] = {}
    for record in records:
        body: dict[str, Any] = orjson.loads(record.value or b"{}")
        match record.topic:
            case "activity-completed" if body["activity_id"] in wanted:
                completed[body["activity_id"]] = record.timestamp
            case "activity-created" if body.get("parent_id") in wanted:
                parents[body["activity_id"]] = body["parent_id"]
            case "activity-dispatched.sms":
                dispatched[body["activity_id"]] = record.timestamp
    return [
        float(dispatched[child] - completed[parent])
        for child, parent in parents.items()
        if child in dispatched and parent in completed
    ]


async def bare_hops(line: WholeLine, count: int, rate: float) -> list[float]:
    """Milliseconds from the first topic's time to the last one's."""
    await Topics(line.engines.kafka).create(_HOPS)
    producer = AIOKafkaProducer(
        bootstrap_servers=line.engines.kafka, acks="all", enable_idempotence=True, linger_ms=2
    )
    await producer.start()
    names = [topic.name for topic in _HOPS]
    found: list[float] = []

    async def forward(source: str, target: str | None) -> None:
        consumer = AIOKafkaConsumer(
            source,
            bootstrap_servers=line.engines.kafka,
            group_id=f"bare-{source}-{rate}",
            group_instance_id=f"bare-{source}-{rate}",
            auto_offset_reset="latest",
        )
        await consumer.start()
        try:
            async for record in consumer:
                if target is not None:
                    await producer.send(target, value=record.value or b"", key=record.key)
                else:
                    found.append(record.timestamp - float(record.value or 0))
        finally:
            await consumer.stop()

    hops = [
        asyncio.create_task(forward(source, target))
        for source, target in zip(names, [*names[1:], None], strict=True)
    ]
    await asyncio.sleep(3)  # joining a group has no event to wait for
    for number in range(count):
        await producer.send(names[0], value=str(time.time() * 1000).encode(), key=str(number).encode())
        await asyncio.sleep(1 / rate)
    for _ in range(100):
        if len(found) >= count:
            break
        await asyncio.sleep(0.1)
    for hop in hops:
        hop.cancel()
    await asyncio.gather(*hops, return_exceptions=True)
    await producer.stop()
    return found


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main(rates: list[float], seconds: float) -> None:
    counts = [int(rate * seconds) for rate in rates]
    with tempfile.TemporaryDirectory() as directory, whole_line(Path(directory)) as line:
        people = sum(counts)
        line.import_people(people)
        line.load(line.create_batch(source="manual", agents=["ada"], agent_profile=None))

        def available() -> bool:
            states = line.api.get("activities", "/v1/activities/counts")["states"]
            return int(states.get("available", 0)) + int(states.get("assigned", 0)) >= people

        line.wait(available, "the manual work")
        ids = [a["activity_id"] for a in line.api.pages("activities", "/v1/activities", limit=people)]
        rows: list[Row] = []
        for rate, count in zip(rates, counts, strict=True):
            mine, ids = ids[:count], ids[count:]
            told = asyncio.run(latencies(line, mine, rate))
            bare = asyncio.run(bare_hops(line, min(count, 500), rate))
            for share in (0.5, 0.99):
                rows.append(Row(f"the line, {rate:g}/s, p{share * 100:g}", "ms", (percentile(told, share),)))
                rows.append(Row(f"bare hops, {rate:g}/s, p{share * 100:g}", "ms", (percentile(bare, share),)))
        conclude("latency", rows, rows[2], rows[3], line.engines, seconds=seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 200])
    parser.add_argument("--seconds", type=float, default=20)
    chosen = parser.parse_args()
    main(chosen.rates, chosen.seconds)
