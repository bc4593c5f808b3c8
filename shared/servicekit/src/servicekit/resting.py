"""How a loop rests when there is nothing to do, and how it is made to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol


class Released(Protocol):
    """What a loop gives back when it ends, so that others go on at once: leases."""

    async def release(self) -> None: ...


async def repeat(
    stopping: asyncio.Event,
    step: Callable[[], Awaitable[int]],
    leases: Released,
    idle: float | Callable[[], float],
    *,
    wake: asyncio.Event | None = None,
    batch: int = 1,
) -> None:
    """Take step after step while there is something to do, rest when there is not; then give way.

    idle: seconds, at the most; `wake` ends them early. batch: what a step does at most; after less than that
    there is nothing more.
    """
    while not stopping.is_set():
        if await step() < batch:
            await rest(stopping, idle() if callable(idle) else idle, wake)
    await leases.release()


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


async def end(*tasks: asyncio.Task[None], again_after: float = 1.0) -> None:
    """Cancel, every `again_after` seconds, until they have ended; leave what they ended with to them.

    Once is not enough before Python 3.12: asyncio.wait_for, which PyMongo's client waits with, drops a
    cancellation that arrives together with the result.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_after)
    await asyncio.gather(*tasks, return_exceptions=True)
