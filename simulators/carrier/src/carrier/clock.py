"""The time that people live in: real, or driven by a shared file {real, shown, rate}."""

from __future__ import annotations

import time
from pathlib import Path

import orjson


class Clock:
    """Seconds since 1970 as shown. Never used for the journal's own order or for time-outs."""

    _look_every = 0.02

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._looked = 0.0
        self._stamp: tuple[int, int] = (0, 0)
        self._real = self._shown = 0.0
        self._rate = 1.0

    def now(self) -> float:
        if self._path is not None:
            self._look(self._path)
        return self._shown + (time.time() - self._real) * self._rate

    @property
    def rate(self) -> float:
        return max(self._rate, 1e-6)

    def _look(self, path: Path) -> None:
        if time.monotonic() - self._looked < self._look_every:
            return
        self._looked = time.monotonic()
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._stamp:
                told = orjson.loads(path.read_bytes())
                self._real, self._shown, self._rate = told["real"], told["shown"], told["rate"]
                self._stamp = (stat.st_mtime_ns, stat.st_ino)
        except FileNotFoundError:
            self._real = self._shown = 0.0
            self._rate, self._stamp = 1.0, (0, 0)
