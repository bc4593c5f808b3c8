"""Deciding again when somebody else was faster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client import Counter

from servicekit.verdict import Outcome, TryAgain

T = TypeVar("T")

TRIES = 30
_FIRST_SECONDS = 0.005
_LONGEST_SECONDS = 0.5


class Conflict(Exception):
    """Somebody else changed what a conditional write was conditioned on; nothing was written."""

    def __init__(self, why: str, duplicate: bool = False) -> None:
        """duplicate: something else has a key that must be unique, and may have it for good."""
        super().__init__(why)
        self.duplicate = duplicate


async def undisputed(decide_and_write: Callable[[], Awaitable[T]], what: str, tries: int = TRIES) -> T:
    """What it returns once nobody was faster. It must read, decide and write anew each time.

    Raises Conflict if others were faster `tries` times in a row: `what` changes too fast.
    """
    duplicate = False
    for attempt in range(tries):
        try:
            return await decide_and_write()
        except Conflict as conflict:
            duplicate = conflict.duplicate
            await yield_to_others(attempt)
    raise Conflict(f"{what} changes faster than it can be decided", duplicate)


async def batch_undisputed(
    attempt: Callable[[], Awaitable[list[Outcome]]], size: int, conflicts: Counter, what: str, tries: int = 10
) -> list[Outcome]:
    """The outcomes of a batch handler that is one transaction, once nobody was faster; if others always were,
    it is tried again later, without limit. conflicts: counts those times."""
    for number in range(tries):
        try:
            return await attempt()
        except Conflict:
            conflicts.inc()
            await yield_to_others(number)
    return [TryAgain(f"{what} change too fast", after=1.0, patient=True)] * size


async def yield_to_others(attempt: int) -> None:
    """Full jitter below a growing limit, so that rivals do not meet again at once."""
    await asyncio.sleep(random.uniform(0, min(_LONGEST_SECONDS, _FIRST_SECONDS * 2**attempt)))
