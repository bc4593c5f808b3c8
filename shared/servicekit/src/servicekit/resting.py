"""How a loop rests when there is nothing to do."""

from __future__ import annotations

import asyncio


async def rest(stopping: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
    """Rest, but not past a stop, nor past a call to wake up (which a stop need not make)."""
    if stopping.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await (wake or stopping).wait()
    except TimeoutError:
        pass
    if wake is not None:
        wake.clear()
