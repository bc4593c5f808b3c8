"""Writes what became of sends in groups; what is disputed is tried again alone, and keeps no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from pymongo.errors import PyMongoError

from channel_sms.domain.intent import Intent
from channel_sms.domain.settling import InDoubt, Sent, Settlement
from channel_sms.use_cases.settle_sends import Settling
from servicekit.backoff import backoff
from servicekit.conflicts import Conflict
from servicekit.failpoints import InjectedFault
from servicekit.mongo import is_unavailable

log = structlog.get_logger()

BATCH = 100
_TRIES = 2
"""The second one with intents as they now stand: a receipt may have been faster."""
_DISPUTED_SECONDS = 600.0
"""The transaction of a process that was killed is given up long before."""


class Settle(Protocol):
    """Settles all of them or none. Raises Conflict when they are disputed `tries` times in a row."""

    async def __call__(self, settlings: Sequence[Settling], tries: int) -> int: ...


@dataclass(slots=True)
class _Disputed:
    settling: Settling
    again_at: float
    failures: int = 0
    since: float | None = None
    """When it was first refused by a database that was there."""


class RecordResults:
    def __init__(self, settle: Settle, now: Callable[[], float] = time.monotonic) -> None:
        """now: seconds by a clock that only goes forward."""
        self._settle = settle
        self._now = now
        self.holds: dict[str, str | None] = {}
        """Intents, and their claims, whose result this process is going to record: it has not lost them."""
        self._new: list[Settling] = []
        self._noted = asyncio.Event()
        self._disputed: list[_Disputed] = []
        self._put_aside = asyncio.Event()
        self._moved = asyncio.Event()

    @property
    def left(self) -> int:
        """Results that are not recorded yet."""
        return len(self._new) + len(self._disputed)

    def hold(self, claimed: Sequence[Intent]) -> None:
        self.holds |= {intent.intent_id: intent.claim for intent in claimed}

    def let_go(self, intents: Sequence[Intent]) -> None:
        """Nothing of them is going to be recorded any more, unless they were claimed again."""
        for intent in intents:
            if self.holds.get(intent.intent_id) == intent.claim:
                del self.holds[intent.intent_id]

    def note(self, intent: Intent, settlement: Settlement) -> None:
        self._new.append(Settling(intent, settlement))
        self._noted.set()

    async def all_recorded(self) -> None:
        while self.left:
            self._moved.clear()
            await self._moved.wait()

    async def record_new(self) -> None:
        """For ever: new results, as many at once as have come. Waits with them while the database is away."""
        failures = 0
        while True:
            await self._noted.wait()
            batch = self._new[:BATCH]
            error = await self._refusal(batch) if batch else None
            if error is not None and _is_away(error):
                log.warning("results wait to be recorded", error=repr(error)[:200], results=len(self._new))
                await asyncio.sleep(backoff(failures))
                failures += 1
                continue
            failures = 0
            del self._new[: len(batch)]
            if error is None:
                self.let_go([settling.intent for settling in batch])
            else:
                self._disputed += [_Disputed(settling, self._now()) for settling in batch]
                self._put_aside.set()
            if not self._new:
                self._noted.clear()
            self._moved.set()

    async def record_disputed(self) -> None:
        """For ever: each by itself, at its own time."""
        while True:
            self._put_aside.clear()
            first = min(self._disputed, key=lambda each: each.again_at, default=None)
            if first is None:
                await self._put_aside.wait()
                continue
            if (seconds := first.again_at - self._now()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._put_aside.wait()
                continue
            error = await self._refusal([first.settling])
            if error is None or self._is_final(first, error):
                self._disputed.remove(first)
                self.let_go([first.settling.intent])
                self._moved.set()
            else:
                first.again_at = self._now() + backoff(first.failures)
                first.failures += 1

    async def _refusal(self, batch: Sequence[Settling]) -> Exception | None:
        try:
            await self._settle(batch, _TRIES)
        except Exception as error:
            return error
        return None

    def _is_final(self, disputed: _Disputed, error: Exception) -> bool:
        """Whether it is left in doubt, for the look-up, which finds what was sent.

        What surely was not sent is kept as long as the database may take it: no look-up could prove it.
        """
        intent_id = disputed.settling.intent.intent_id
        if _is_away(error):
            disputed.since = None
            return False
        if disputed.since is None:
            disputed.since = self._now()
        if isinstance(error, PyMongoError | Conflict) and not (
            isinstance(error, Conflict) and error.duplicate
        ):
            proven = not isinstance(disputed.settling.settlement, Sent | InDoubt)
            if proven or self._now() - disputed.since <= _DISPUTED_SECONDS:
                log.warning("a result waits to be recorded", error=repr(error)[:200], intent_id=intent_id)
                return False
        log.error("a result could not be recorded", intent_id=intent_id, exc_info=error)
        return True


def _is_away(error: Exception) -> bool:
    return isinstance(error, InjectedFault) or is_unavailable(error)
