"""Every failpoint once."""

from __future__ import annotations

import time

from tests.faults.line import Replica
from tests.faults.scene import Stage, scene


def sweep(stage: Stage, patience: float) -> None:
    """Arm every failpoint that has not killed its service yet; whichever is reached first does."""
    report = stage.report
    left: dict[str, set[str]] = {}

    def unfinished(wave: int) -> bool:
        return wave == 0 or (any(left.values()) and time.monotonic() < deadline)

    deadline = time.monotonic() + patience
    each = max(6, report.size // 10)
    with scene(stage, waves=max(1, report.size // each), stirred=True, more=unfinished) as run:

        def died(replica: Replica, code: int) -> None:
            killed_at = [line.split()[0] for line in replica.journal_lines() if line.endswith(" kill")]
            done = report.failpoints.setdefault(replica.member.name, [])
            for name in killed_at[len(done) :]:
                done.append(name)
                run.note("kill at failpoint", replica.name, detail=name)
            left[replica.member.name] = left.get(replica.member.name, set()) - set(done)
            replica.arm = sorted(left[replica.member.name])
            if code != -9:
                report.problems.append(f"{replica.name} ended with code {code}")

        run.line.start()
        for replica in run.line.services:
            lines = replica.journal_lines()
            left[replica.member.name] = {line.split()[0] for line in lines if line.endswith(" declared")}
            replica.arm = sorted(left[replica.member.name])
        run.line.stop_services()
        run.line.start_services()
        run.line.recoveries.clear()
        run.line.on_death = died
        run.begin()
        run.rest()
        report.not_reached = sorted(f"{service}: {name}" for service, names in left.items() for name in names)
        run.judge()
