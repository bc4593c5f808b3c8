"""Several replicas of each service that come, freeze, die and go."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.line import FaultEngines
from tests.faults.report import Report
from tests.faults.scene import scene


def replicas(report: Report, directory: Path, engines: FaultEngines, namespace: str, faults: int) -> None:
    """Two of each; then a third one comes, others die for longer than their session, and come back."""
    chance = random.Random(report.seed)
    struck = 0
    with scene(
        report,
        directory,
        engines,
        namespace,
        2,
        waves=max(2, faults // 3),
        pace=lambda wave: struck >= faults or wave * faults <= struck * max(2, faults // 3),
    ) as run:
        run.line.start()
        run.began = time.monotonic()
        run.load.start()
        names = sorted({replica.member.name for replica in run.line.services})
        for number in range(faults):
            run.tend(chance.uniform(1.0, 4.0))
            service = names[number % len(names)]
            alive = [r for r in run.line.services if r.member.name == service and r.wanted]
            victim = chance.choice(alive)
            if number < len(names):
                run.note("third replica", run.line.add(service).name)
            elif chance.random() < 0.4:
                run.line.freeze(victim, 15)
                run.note("SIGSTOP", victim.name, 15)
            elif chance.random() < 0.5 and len(alive) > 1 and victim.number > 0:
                victim.wanted = False
                run.line.kill(victim)
                run.note("SIGKILL for good", victim.name)
            else:
                run.line.kill(victim)
                run.note("SIGKILL", victim.name)
            struck += 1
        run.rest()
        run.judge()
