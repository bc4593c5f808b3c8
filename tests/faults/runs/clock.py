"""Business time that leaps."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path

from tests.faults.line import FaultEngines
from tests.faults.load import RATE
from tests.faults.report import Report
from tests.faults.scene import scene


def clock(report: Report, directory: Path, engines: FaultEngines, namespace: str, faults: int) -> None:
    """Business time leaps ahead by up to a day and back by up to six hours, with everything in flight."""
    chance = random.Random(report.seed)
    struck = 0
    waves = max(2, faults // 2)
    with scene(
        report,
        directory,
        engines,
        namespace,
        waves=waves,
        pace=lambda wave: struck >= faults or wave * faults <= struck * waves,
    ) as run:
        run.line.start()
        run.began = time.monotonic()
        run.load.start()
        run.line.wait(lambda: run.load.phase == "wave 0" or not run.load.is_alive(), "the load", 120)
        for _ in range(faults):
            run.tend(chance.uniform(0.5, 3.0))
            hours = chance.choice((-6.0, -1.0, -0.1, 0.5, 3.0, 24.0))
            run.load.clock.set(run.load.clock.now() + timedelta(hours=hours), rate=RATE)
            run.note("clock", f"{hours:+g} h")
            struck += 1
        run.rest()
        run.judge()
