"""Results of sends are recorded together; what is disputed keeps no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from channel_sms.domain.settling import InDoubt, RefusedForGood, Sent, Settlement, Suppressed, Unsent
from channel_sms.use_cases.record_results import RecordResults, Settle
from channel_sms.use_cases.settle_sends import Settling
from servicekit.conflicts import Conflict
from servicekit.resting import end
from tests.channel_sms.test_intents import intent


class Database:
    """Settles what `refuse` lets through, and remembers which ones together."""

    def __init__(self, refuse: Callable[[Sequence[str]], Exception | None] = lambda _: None) -> None:
        self.refuse = refuse
        self.settled: list[list[str]] = []
        self.asked = asyncio.Condition()
        self.times_asked = 0

    async def __call__(self, settlings: Sequence[Settling], tries: int) -> int:
        ids = [settling.intent.intent_id for settling in settlings]
        async with self.asked:
            self.times_asked += 1
            self.asked.notify_all()
        if error := self.refuse(ids):
            raise error
        self.settled.append(ids)
        return len(ids)

    async def is_asked(self, times: int) -> None:
        async with self.asked:
            await self.asked.wait_for(lambda: self.times_asked >= times)


@asynccontextmanager
async def recording(
    settle: Settle, now: Callable[[], float] = time.monotonic
) -> AsyncIterator[RecordResults]:
    results = RecordResults(settle, now)
    tasks = asyncio.create_task(results.record_new()), asyncio.create_task(results.record_disputed())
    try:
        async with asyncio.timeout(30):
            yield results
    finally:
        await end(*tasks)


def note(results: RecordResults, name: str, settlement: Settlement = Sent("SM1")) -> None:  # noqa: B008
    claimed = intent(intent_id=name, claim=f"claim of {name}")
    results.hold([claimed])
    results.note(claimed, settlement)


async def test_what_came_together_is_recorded_together() -> None:
    database = Database()
    async with recording(database) as results:
        for name in "abc":
            note(results, name)
        await results.all_recorded()
    assert database.settled == [["a", "b", "c"]]
    assert not results.holds


async def test_a_new_result_does_not_wait_for_one_that_is_being_tried_again() -> None:
    stuck, free = asyncio.Event(), asyncio.Event()
    settled: list[str] = []

    async def settle(settlings: Sequence[Settling], tries: int) -> int:
        ids = [settling.intent.intent_id for settling in settlings]
        if "bad" in ids and len(ids) > 1:
            raise Conflict("disputed")
        if "bad" in ids:
            stuck.set()
            await free.wait()
        settled.extend(ids)
        return len(ids)

    async with recording(settle) as results:
        note(results, "bad")
        note(results, "good")
        await stuck.wait()
        note(results, "new")
        while "new" not in settled:
            await results._moved.wait()
            results._moved.clear()
        assert "bad" in results.holds
        free.set()
        await results.all_recorded()
    assert sorted(settled) == ["bad", "good", "new"]


async def test_all_wait_together_while_the_database_is_away() -> None:
    away = True
    database = Database(lambda _: AutoReconnect("away") if away else None)
    async with recording(database) as results:
        note(results, "a")
        await database.is_asked(1)
        note(results, "b")
        await database.is_asked(2)
        assert set(results.holds) == {"a", "b"}
        away = False
        await results.all_recorded()
    assert database.settled == [["a", "b"]]


@pytest.mark.parametrize("error", [Conflict("disputed"), OperationFailure("disk full", 14031)])
@pytest.mark.parametrize("settlement", [Unsent("429"), RefusedForGood("21211", "bad"), Suppressed()])
async def test_what_was_surely_not_sent_is_never_left_in_doubt(
    error: Exception, settlement: Settlement
) -> None:
    leapt, refused = 0.0, True

    def later(_: Sequence[str]) -> Exception | None:
        nonlocal leapt
        leapt += 250.0
        return error if refused else None

    database = Database(later)
    async with recording(database, lambda: time.monotonic() + leapt) as results:
        note(results, "a", settlement)
        await database.is_asked(5)
        assert "a" in results.holds
        refused = False
        await results.all_recorded()
    assert database.settled == [["a"]]


@pytest.mark.parametrize("settlement", [Sent("SM1"), InDoubt("reset")])
async def test_what_a_look_up_can_find_is_left_to_it_after_ten_minutes_of_dispute(
    settlement: Settlement,
) -> None:
    """Minutes in which the database was away are not counted: nobody disputed anything."""
    leapt, away = 0.0, True
    asked = 0

    def later(_: Sequence[str]) -> Exception:
        nonlocal leapt
        leapt += 250.0
        return AutoReconnect("away") if away and database.times_asked > 2 else Conflict("disputed")

    database = Database(later)
    async with recording(database, lambda: time.monotonic() + leapt) as results:
        note(results, "a", settlement)
        await database.is_asked(5)
        assert "a" in results.holds
        away, asked = False, database.times_asked
        await results.all_recorded()
    assert database.times_asked - asked == 4  # over 750 s
    assert not results.holds
    assert not database.settled


async def test_what_another_has_for_good_is_left_to_the_look_up_at_once() -> None:
    database = Database(lambda ids: Conflict("its message", duplicate=True) if "a" in ids else None)
    async with recording(database) as results:
        note(results, "a")
        note(results, "b")
        await results.all_recorded()
    assert database.settled == [["b"]]
    assert not results.holds


def test_an_old_result_lets_go_of_nothing_that_was_claimed_again() -> None:
    results = RecordResults(Database())
    older, newer = intent(claim="older"), intent(claim="newer")
    results.hold([older])
    results.hold([newer])
    results.let_go([older])
    assert results.holds == {newer.intent_id: "newer"}
    results.let_go([newer])
    assert not results.holds
