"""The shape of work that is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from servicekit.leases import Leases
from servicekit.resting import rest

IDLE_SECONDS = 0.05
IDLE_SECONDS_ALONE = 0.25
"""What its own process stores wakes a loop at once; only another replica's has to be looked for."""


def idle_seconds(leases: Leases) -> float:
    return IDLE_SECONDS_ALONE if leases.members == 1 else IDLE_SECONDS


async def repeat(
    stopping: asyncio.Event,
    step: Callable[[], Awaitable[int]],
    leases: Leases,
    *,
    idle: float | None = None,
    wake: asyncio.Event | None = None,
    batch: int = 1,
) -> None:
    """Take step after step while there is something to do, rest when there is not; then give way.

    idle: seconds, for work that only time brings; without it, `wake` tells of work.
    batch: what a step does at most; after less than that there is nothing more.
    """
    while not stopping.is_set():
        if await step() < batch:
            await rest(stopping, idle or idle_seconds(leases), wake)
    await leases.release()
