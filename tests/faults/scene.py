"""One run at work: a line of processes, its load, and the report of what was done to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.evidence import gather
from tests.faults.judge import judge
from tests.faults.line import FaultEngines, FaultLine
from tests.faults.load import Load
from tests.faults.report import Fault, Report

_AT_REST_SECONDS = 1500.0
_AT_REST_SECONDS_A_CONTACT = 0.3


@dataclass(frozen=True)
class Stage:
    """What a run is given to play on, and the report it fills in."""

    report: Report
    directory: Path
    engines: FaultEngines
    namespace: str


@dataclass
class Pace:
    """Holds each wave of the load back until its share of the faults has struck."""

    faults: int
    waves: int
    struck: int = 0

    def __call__(self, wave: int) -> bool:
        return self.struck >= self.faults or wave * self.faults <= self.struck * self.waves


@dataclass
class Scene:
    """One run at work."""

    line: FaultLine
    load: Load
    report: Report
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Set the load going; what is noted from now on is timed from here."""
        self.began = time.monotonic()
        self.load.start()

    def await_first_wave(self) -> None:
        self.line.wait(
            lambda: self.load.phase == "wave 0" or not self.load.is_alive(), "the first wave of the load", 120
        )

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def note(self, kind: str, victim: str, seconds: float = 0.0, detail: str = "") -> None:
        self.report.faults.append(Fault(round(self.elapsed, 1), kind, victim, seconds, detail))

    def tend(self, seconds: float = 0.0) -> None:
        """Look after the processes for a while, or once."""
        until = time.monotonic() + seconds
        while True:
            self.line.tend()
            if self.load.error is not None:
                raise self.load.error
            if time.monotonic() >= until:
                return
            time.sleep(0.05)

    def rest(self) -> None:
        """Until the load says that nothing moves any more."""
        patience = _AT_REST_SECONDS + _AT_REST_SECONDS_A_CONTACT * self.report.size
        self.line.wait(lambda: not self.load.is_alive(), "the line to come to rest", patience)
        if self.load.error is not None:
            raise self.load.error

    def judge(self) -> None:
        evidence = asyncio.run(
            gather(
                self.line.engines.kafka,
                self.line.engines.mongo,
                self.line.carrier_journal,
                self.line.state.namespace,
                self.load.given.path,
            )
        )
        self.report.findings = judge(evidence)


@contextmanager
def scene(stage: Stage, replicas: int = 1, **load: Any) -> Iterator[Scene]:
    """A line and a load, neither of them started; the processes are drained at the end."""
    report, engines = stage.report, stage.engines
    line = FaultLine(stage.directory, engines, replicas=replicas, namespace=stage.namespace)
    work = Load(line.parley, engines.mongo, stage.directory, size=report.size, seed=report.seed, **load)
    made = Scene(line, work, report)
    try:
        yield made
    except Exception as error:
        work.cancel()
        report.problems.append(f"{type(error).__name__}: {error} (the load was in {work.phase})")
    finally:
        line.stop()
        report.recoveries.extend(line.recoveries)
        report.seconds = round(made.elapsed, 1)
