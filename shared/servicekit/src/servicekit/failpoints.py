"""Named places between two effects where a test may kill or delay the process. Off in production.

`PARLEY_FAILPOINTS` is a list of `name=action[@hit]`, comma separated: `outbox.sent=kill@3` kills this
process with SIGKILL when it passes `outbox.sent` for the third time; `stop` sends SIGSTOP;
`error` raises. `PARLEY_FAILPOINT_JOURNAL` names a file to which lines are appended: `NAME declared` for
each one the process has, `NAME reached` the first time, and `NAME kill` (or another action) before it acts.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

Action = Literal["kill", "stop", "error"]


class InjectedFault(ConnectionError):
    """What the action `error` raises: looks like a dependency that went away."""


class UnknownFailpointAction(ValueError):
    def __init__(self, spec: str) -> None:
        super().__init__(f"failpoint {spec!r}: expected name=kill|stop|error, optionally with @hit")


class UnknownFailpoint(ValueError):
    def __init__(self, names: list[str]) -> None:
        super().__init__(f"this process has no failpoint {', '.join(names)}")


@dataclass(slots=True)
class _Armed:
    action: Action
    hit: int


class Failpoints:
    """The switchboard of one process."""

    def __init__(self) -> None:
        self.declared: set[str] = set()
        self._armed: dict[str, _Armed] = {}
        self._hits: Counter[str] = Counter()
        self._journal: Path | None = None
        self.on = False

    def arm(self, specs: str, journal: Path | None = None) -> None:
        for spec in filter(None, (part.strip() for part in specs.split(","))):
            name, _, rest = spec.partition("=")
            action, _, hit = rest.partition("@")
            if action not in ("kill", "stop", "error") or (hit and not hit.isdecimal()):
                raise UnknownFailpointAction(spec)
            self._armed[name] = _Armed(cast(Action, action), int(hit or 1))
        self._journal = journal
        self.on = bool(self._armed) or journal is not None

    def waiting(self) -> list[str]:
        """Armed ones that have not acted yet: at the end of a test, what it did not put to the test."""
        return sorted(name for name, armed in self._armed.items() if self._hits[name] < armed.hit)

    def disarm(self) -> None:
        self._armed.clear()
        self._hits.clear()
        self._journal = None
        self.on = False

    def announce(self) -> None:
        """Write down which there are. Raises UnknownFailpoint if one is armed that does not exist."""
        if unknown := sorted(self._armed.keys() - self.declared):
            raise UnknownFailpoint(unknown)
        for name in sorted(self.declared):
            self._note(f"{name} declared")

    def reach(self, name: str) -> None:
        self._hits[name] += 1
        if self._hits[name] == 1:
            self._note(f"{name} reached")
        armed = self._armed.get(name)
        if armed is None or self._hits[name] != armed.hit:
            return
        self._note(f"{name} {armed.action}")
        match armed.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "error":
                raise InjectedFault(f"failpoint {name}")

    def _note(self, line: str) -> None:
        if self._journal is not None:
            with self._journal.open("a") as journal:
                journal.write(f"{line}\n")


FAILPOINTS = Failpoints()


class Failpoint:
    """A boundary between two effects: declared once where it stands, reached by calling it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        FAILPOINTS.declared.add(name)

    def __call__(self) -> None:
        if FAILPOINTS.on:
            FAILPOINTS.reach(self.name)
