"""The same counts with Quix Streams, exactly once, in its own state store; run by bench/stats.py.

Usage: stats_quix.py BOOTSTRAP_SERVERS TOPIC COUNT STATE_DIRECTORY, with requirements-bench.lock installed.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from uuid import uuid4

from quixstreams import Application, State  # type: ignore[import-not-found]


def count_one(told: dict[str, Any], state: State) -> None:
    way = "in" if told["direction"] == "incoming" else "out"
    channel = told.get("channel") or told["interaction_type"]
    channels = state.get("channels", {})
    numbers = channels.setdefault(channel, {})
    numbers[way] = numbers.get(way, 0) + 1
    numbers[f"last_{way}"] = max(told["occurred_at"], numbers.get(f"last_{way}", ""))
    state.set("channels", channels)


def main(servers: str, topic: str, count: int, directory: str) -> None:
    app = Application(
        broker_address=servers,
        consumer_group=f"quix-{uuid4().hex[:6]}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=directory,
        commit_interval=1.0,
        loglevel="ERROR",
    )
    began: list[float] = []

    def clocked(told: dict[str, Any], state: State) -> None:
        if not began:
            began.extend((time.perf_counter(), time.process_time()))
        count_one(told, state)

    frame = app.dataframe(app.topic(topic, value_deserializer="json"))
    frame.update(clocked, stateful=True)
    app.run(count=count)
    told = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
