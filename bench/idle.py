"""Processor time and memory of every process of a line at rest.

Beside it: a process with one plain consumer and one database connection. On Apache Kafka it does nothing but
heartbeats; the embedded broker answers an empty fetch at once, and there it asks all the time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.report import Row, conclude
from bench.whole_line import WholeLine, whole_line

_BARE = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer
from motor.motor_asyncio import AsyncIOMotorClient
async def main():
    client = AsyncIOMotorClient(sys.argv[2])
    await client.admin.command("ping")
    consumer = AIOKafkaConsumer("contact-changed", bootstrap_servers=sys.argv[1], group_id="bare",
                                group_instance_id="bare", enable_auto_commit=False)
    await consumer.start()
    print("ready", flush=True)
    while True:
        await consumer.getmany(timeout_ms=60_000)
asyncio.run(main())
"""


def at_rest(line: WholeLine, seconds: float) -> dict[str, float]:
    """Share of one core, in per cent, by process."""
    before, began = line.cpu_seconds(), time.perf_counter()
    time.sleep(seconds)  # nothing happens, and that is what is measured
    passed = time.perf_counter() - began
    return {name: 100 * (used - before[name]) / passed for name, used in line.cpu_seconds().items()}


def bare_consumer(line: WholeLine, seconds: float) -> float:
    """Share of one core, in per cent, of one consumer and one database connection at rest."""
    with subprocess.Popen(
        [sys.executable, "-c", _BARE, line.engines.kafka, line.engines.mongo], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            watched = psutil.Process(process.pid)
            before = sum(watched.cpu_times()[:2])
            time.sleep(seconds)
            return float(100 * (sum(watched.cpu_times()[:2]) - before) / seconds)
        finally:
            process.kill()


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory, whole_line(Path(directory)) as line:
        time.sleep(10)  # what starting left to do
        used = at_rest(line, seconds)
        memory = line.megabytes()
        engines = {"broker", "database"}
        services = {name: share for name, share in used.items() if name not in engines}
        rows = [Row(name, f"% of a core, {memory[name]:.0f} MiB", (share,)) for name, share in used.items()]
        bare = Row("one bare consumer and client", "% of a core", (bare_consumer(line, seconds),))
        mean = Row("a service, on average", "% of a core", (sum(services.values()) / len(services),))
        conclude(
            "idle",
            [*rows, bare, mean],
            mean,
            bare,
            line.engines,
            all_processes=f"{sum(used.values()):.1f} % of a core, {sum(memory.values()):.0f} MiB",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    main(parser.parse_args().seconds)
