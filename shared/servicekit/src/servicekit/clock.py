"""Time as the business sees it. Leases and timeouts never use it: those run on real time."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from contracts.vocabulary import to_millisecond


class Clock(Protocol):
    def now(self) -> datetime:
        """The present, aware, in UTC, to the millisecond."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait until that much business time has passed (or the clock was moved past it)."""
        ...


def real_now() -> datetime:
    """For what runs on the machine's time: how long something may be tried, when it is swept away."""
    return datetime.now(UTC)


class SystemClock:
    def now(self) -> datetime:
        return to_millisecond(real_now())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class DrivenClock:
    """A clock that a test or a demo drives across processes, through one small shared file.

    The file says: at real time `real` (seconds since 1970) it was `shown`, and it runs `rate` times
    as fast. A missing file means real time. Moving it backwards is allowed, and survived.
    """

    look_every = 0.02

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] = (0, 0)
        self._looked = 0.0
        self._real = 0.0
        self._shown = 0.0
        self._rate = 1.0

    def now(self) -> datetime:
        self._look()
        shown = self._shown + (time.time() - self._real) * self._rate
        return to_millisecond(datetime.fromtimestamp(shown, UTC))

    async def sleep(self, seconds: float) -> None:
        until = self.now() + timedelta(seconds=seconds)
        while (left := (until - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 (the clock may be moved)
            await asyncio.sleep(min(left / max(self._rate, 1.0), 0.25))

    def set(self, shown: datetime, rate: float = 1.0) -> None:
        """Move the clock for every process that looks at this file; atomic."""
        body = json.dumps({"real": time.time(), "shown": shown.timestamp(), "rate": rate})
        fresh = self.path.with_suffix(f".{os.getpid()}.new")
        fresh.write_text(body)
        fresh.replace(self.path)
        self._looked = 0.0

    def _look(self) -> None:
        monotonic = time.monotonic()
        if monotonic - self._looked < self.look_every:
            return
        self._looked = monotonic
        try:
            stat = self.path.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._seen:
                told = json.loads(self.path.read_text())
                self._real, self._shown, self._rate = told["real"], told["shown"], told["rate"]
                self._seen = (stat.st_mtime_ns, stat.st_ino)
        except FileNotFoundError:
            self._real, self._shown, self._rate, self._seen = 0.0, 0.0, 1.0, (0, 0)


class StoppedClock:
    """For tests of one process: stands still until told."""

    def __init__(self, at: datetime) -> None:
        self.at = to_millisecond(at)

    def now(self) -> datetime:
        return self.at

    def advance(self, **delta: float) -> None:
        self.at = to_millisecond(self.at + timedelta(**delta))

    async def sleep(self, seconds: float) -> None:
        until = self.at + timedelta(seconds=seconds)
        while self.at < until:  # noqa: ASYNC110 (moved by a plain call)
            await asyncio.sleep(0.01)


def clock_from(path: Path | None) -> Clock:
    return SystemClock() if path is None else DrivenClock(path)
