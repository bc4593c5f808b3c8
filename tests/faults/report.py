"""What a run saw, as a table to read and JSON to keep."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.judge import Finding
from tests.faults.judge import report as recount
from tests.faults.line import Recovery


@dataclass(frozen=True)
class Fault:
    """One thing that was done to the line. `at`: seconds since the load began."""

    at: float
    kind: str
    victim: str
    seconds: float = 0.0
    detail: str = ""


@dataclass
class Report:
    """Everything about one run; `ok` only if nothing is missing and every promise was kept."""

    run: str
    seed: int
    size: int
    engines: str
    asked: dict[str, object] = field(default_factory=dict)
    """What else the run was given; without it the same seed does not do the same again."""
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    failpoints: dict[str, list[str]] = field(default_factory=dict)
    """Per service, those at which it was killed."""
    not_reached: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        kept = bool(self.findings) and all(finding.kept for finding in self.findings)
        return kept and not self.not_reached and not self.problems

    @property
    def replay(self) -> str:
        asked = {"seed": self.seed, "size": self.size, **self.asked}
        options = " ".join(f"--{name} {told}" for name, told in asked.items())
        return f"make faults RUN={self.run} ARGS='{options}'"

    def write(self, path: Path) -> None:
        told: dict[str, Any] = asdict(self) | {
            "ok": self.ok,
            "replay": self.replay,
            "recovery": _spread([recovery.seconds for recovery in self.recoveries]),
        }
        path.write_text(json.dumps(told, indent=1) + "\n")

    def __str__(self) -> str:
        lines = [f"{self.run}: seed {self.seed}, size {self.size}, {self.engines}, {self.seconds:.0f} s"]
        lines += [f"  {fault}" for fault in map(_line, self.faults)]
        for service, names in sorted(self.failpoints.items()):
            lines.append(f"  {service}: killed at {len(names)} failpoints")
            lines += [f"    {name}" for name in names]
        lines += [f"  NOT REACHED {name}" for name in self.not_reached]
        by_kind: dict[str, list[float]] = {}
        for recovery in self.recoveries:
            by_kind.setdefault(recovery.what, []).append(recovery.seconds)
        lines += [f"  recovery of {what}: {_words(seconds)}" for what, seconds in sorted(by_kind.items())]
        lines.append(f"  recovery of all: {_words([recovery.seconds for recovery in self.recoveries])}")
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  PROBLEM {problem}" for problem in self.problems]
        lines.append(recount(self.findings))
        lines.append(f"{'kept' if self.ok else 'BROKEN'}; the same again: {self.replay}")
        return "\n".join(lines)


def _line(fault: Fault) -> str:
    lasting = f" for {fault.seconds:.0f} s" if fault.seconds else ""
    return f"{fault.at:7.1f} s  {fault.kind:18} {fault.victim}{lasting} {fault.detail}".rstrip()


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {"count": len(seconds), "median": statistics.median(seconds), "worst": max(seconds)}


def _words(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"{len(seconds)} times, median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s"
