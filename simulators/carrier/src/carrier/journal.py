"""An append-only file of JSON lines. `written` returns only after fsync; many waiters share one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Entry = dict[str, Any]


class Journal:
    """What was asked, received and said, in the order in which it became durable."""

    def __init__(self, path: Path, gather_seconds: float = 0.002) -> None:
        self.path = path
        self._gather = gather_seconds
        self._lines: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._file = -1

    def open(self) -> Iterator[Entry]:
        """Read what is there, cut off a line that a crash tore, then append."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield orjson.loads(line)
        os.truncate(self.path, whole)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self._task = asyncio.create_task(self._write(), name="journal")

    def note(self, entry: Entry) -> None:
        """Written with the next group; nobody waits for it."""
        self._lines.append(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self._wanted.set()

    async def written(self, entry: Entry) -> None:
        """Returns when the entry, and everything noted before it, is on disk."""
        self.note(entry)
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    async def close(self) -> None:
        self._closing = True
        self._wanted.set()
        if self._task is not None:
            await self._task
            os.close(self._file)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._lines):
            await self._wanted.wait()
            if not self._closing:
                await asyncio.sleep(self._gather)
            self._wanted.clear()
            lines, self._lines = self._lines, []
            waiting, self._waiting = self._waiting, []
            if lines:
                await loop.run_in_executor(None, self._sync, b"".join(lines))
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def _sync(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file) if hasattr(os, "fdatasync") else os.fsync(self._file)
