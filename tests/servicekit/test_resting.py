"""How a loop is made to end."""

from __future__ import annotations

import asyncio

from servicekit.resting import end


async def test_what_drops_a_cancellation_is_cancelled_again() -> None:
    started = asyncio.Event()
    cancelled = 0

    async def deaf() -> None:
        nonlocal cancelled
        while cancelled < 3:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    task = asyncio.create_task(deaf())
    await started.wait()
    await end(task, again_after=0.01)
    assert (task.done(), cancelled) == (True, 3)


async def test_what_has_failed_or_ended_is_left_with_how_it_ended() -> None:
    async def failing() -> None:
        raise LookupError("of its own")

    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    await end(task)
    assert isinstance(task.exception(), LookupError)
