"""How a loop goes on, rests, and is made to end."""

from __future__ import annotations

import asyncio

from servicekit.resting import end, repeat


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


class Given:
    released = False

    async def release(self) -> None:
        self.released = True


async def test_a_loop_rests_after_less_than_a_batch_is_woken_and_gives_back_what_it_held() -> None:
    stopping, wake, leases = asyncio.Event(), asyncio.Event(), Given()
    work = [2, 2, 1, 2, 0]
    done: list[int] = []

    async def step() -> int:
        done.append(work[len(done)])
        if len(done) == len(work):
            stopping.set()
        return done[-1]

    loop = asyncio.create_task(repeat(stopping, step, leases, lambda: 60.0, wake=wake, batch=2))
    while done != [2, 2, 1]:  # noqa: ASYNC110 (it rests for a minute, and says so to nobody)
        await asyncio.sleep(0)
    wake.set()
    await asyncio.wait_for(loop, 5)
    assert done == work
    assert leases.released
