"""The shape of work that is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from servicekit.leases import Leases


async def pause(stopping: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
    """Rest, but not past a stop or a wake-up call."""
    if stopping.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await (wake or stopping).wait()
    except TimeoutError:
        pass
    if wake is not None:
        wake.clear()


async def repeat(
    stopping: asyncio.Event,
    step: Callable[[], Awaitable[int]],
    idle_seconds: float,
    leases: Leases,
    wake: asyncio.Event | None = None,
) -> None:
    """Take step after step while there is something to do, rest when there is not; then give way."""
    while not stopping.is_set():
        if not await step():
            await pause(stopping, idle_seconds, wake)
    await leases.release()
