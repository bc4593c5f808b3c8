"""How much memory a tree of processes took at most."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

import psutil

_LOOK_EVERY = 2.0


class PeakMemory:
    """Watches this process and everything below it while the block runs; shared pages count once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        root = psutil.Process(os.getpid())
        while not self._ended.wait(_LOOK_EVERY):
            self.bytes = max(self.bytes, sum(map(_taken, [root, *root.children(recursive=True)])))


def _taken(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
