"""Several replicas of each service that come, freeze, die and go."""

from __future__ import annotations

import random

from tests.faults.scene import Pace, Stage, scene


def replicas(stage: Stage, faults: int) -> None:
    """Two of each; then a third one comes, others die for longer than their session, and come back."""
    chance = random.Random(stage.report.seed)
    pace = Pace(faults, waves=max(2, faults // 3))
    with scene(stage, replicas=2, waves=pace.waves, pace=pace) as run:
        run.line.start()
        run.begin()
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
            pace.struck += 1
        run.rest()
        run.judge()
