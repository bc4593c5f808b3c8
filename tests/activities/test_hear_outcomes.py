"""How long a report waits for an activity that is not there, without engines."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError

from activities.domain.outcomes import NotMade
from activities.use_cases.hear_outcomes import HearOutcomes
from servicekit.delivery import Delivery
from servicekit.verdict import GiveUp, Outcome, TryAgain


class Creations:
    def __init__(self) -> None:
        self.ends = {0: 7, 1: 3}
        self.done = {0: 5, 1: 3}
        self.away = False

    async def published(self) -> dict[int, int]:
        if self.away:
            raise KafkaConnectionError
        return dict(self.ends)

    async def handled(self) -> dict[int, int]:
        if self.away:
            raise TimeoutError
        return dict(self.done)


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def nothing_there(batch: Sequence[Delivery[Any]]) -> list[Outcome]:
    return [NotMade("unknown", after=0.15) for _ in batch]


def report(offset: int = 0) -> Delivery[Any]:
    message, record = SimpleNamespace(activity_id="a-1"), SimpleNamespace(partition=3, offset=offset)
    return Delivery(message, {}, record)


async def patience(hear: HearOutcomes, *reports: Delivery[Any]) -> list[bool]:
    outcomes = await hear(reports)
    assert all(isinstance(outcome, TryAgain) for outcome in outcomes)
    return [outcome.patient for outcome in outcomes if isinstance(outcome, TryAgain)]


async def test_it_loses_no_try_until_what_was_published_before_it_is_handled() -> None:
    creations = Creations()
    hear = HearOutcomes(nothing_there, creations)
    assert await patience(hear, report(0)) == [True]
    creations.ends[0] = 900
    creations.done[0] = 6
    assert await patience(hear, report(0), report(1)) == [True, True]
    creations.done[0] = 7
    assert await patience(hear, report(0), report(1)) == [False, True], "the second came later"


async def test_a_later_report_on_the_same_activity_has_a_patience_of_its_own() -> None:
    creations = Creations()
    hear = HearOutcomes(nothing_there, creations)
    creations.done = dict(creations.ends)
    assert await patience(hear, report(0)) == [False]
    creations.ends[0] += 1
    assert await patience(hear, report(1)) == [True]


async def test_it_waits_for_three_quarters_of_a_minute_and_what_comes_after_it_not_again() -> None:
    creations, clock = Creations(), Clock()
    hear = HearOutcomes(nothing_there, creations, clock)
    assert await patience(hear, report(0)) == [True]
    for _ in range(22):
        clock.seconds += 2
        assert await patience(hear, report(0)) == [True]
    clock.seconds += 2
    assert await patience(hear, report(0)) == [False]
    creations.ends[0] += 1
    assert await patience(hear, report(1)) == [False], "they stand where others waited in vain"
    creations.done[0] += 1
    assert await patience(hear, report(2)) == [True], "they move"
    assert await patience(hear, report(0)) == [False], "one of its tries"


async def test_an_outage_is_not_waited_through() -> None:
    creations, clock = Creations(), Clock()
    hear = HearOutcomes(nothing_there, creations, clock)
    assert await patience(hear, report(0)) == [True]
    creations.away = True
    clock.seconds += 60
    assert await patience(hear, report(0), report(1)) == [True, True]
    creations.away = False
    clock.seconds += 60
    assert await patience(hear, report(0), report(1)) == [True, True]
    creations.done = dict(creations.ends)
    assert await patience(hear, report(0), report(1)) == [False, False]


async def test_a_question_that_is_never_answered_ends_after_ten_minutes() -> None:
    creations, clock = Creations(), Clock()
    hear = HearOutcomes(nothing_there, creations, clock)
    creations.away = True
    assert await patience(hear, report(0)) == [True]
    for _ in range(59):
        clock.seconds += 10
        assert await patience(hear, report(0)) == [True]
    clock.seconds += 10
    assert await patience(hear, report(0)) == [False]


async def test_other_outcomes_stay_what_they_are() -> None:
    async def mixed(batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        return [None, GiveUp("wrong_contact"), TryAgain("later", after=2.0)]

    hear = HearOutcomes(mixed, Creations())
    assert await hear([report(), report(), report()]) == [
        None,
        GiveUp("wrong_contact"),
        TryAgain("later", after=2.0),
    ]
