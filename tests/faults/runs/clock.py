"""Business time that leaps."""

from __future__ import annotations

import random
from datetime import timedelta

from tests.faults.load import RATE
from tests.faults.scene import Pace, Stage, scene


def clock(stage: Stage, faults: int) -> None:
    """Business time leaps ahead by up to a day and back by up to six hours, with everything in flight."""
    chance = random.Random(stage.report.seed)
    pace = Pace(faults, waves=max(2, faults // 2))
    with scene(stage, waves=pace.waves, pace=pace) as run:
        run.line.start()
        run.begin()
        run.await_first_wave()
        for _ in range(faults):
            run.tend(chance.uniform(0.5, 3.0))
            hours = chance.choice((-6.0, -1.0, -0.1, 0.5, 3.0, 24.0))
            run.load.clock.set(run.load.clock.now() + timedelta(hours=hours), rate=RATE)
            run.note("clock", f"{hours:+g} h")
            pace.struck += 1
        run.rest()
        run.judge()
