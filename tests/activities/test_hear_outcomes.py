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
        return dict(self.done)


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
    creations.done[0] = 6
    assert await patience(hear, report(0)) == [False], "one of its tries"


async def test_a_later_report_on_the_same_activity_has_a_patience_of_its_own() -> None:
    creations = Creations()
    hear = HearOutcomes(nothing_there, creations)
    creations.done = dict(creations.ends)
    assert await patience(hear, report(0)) == [False]
    creations.ends[0] += 1
    assert await patience(hear, report(1)) == [True]


async def test_while_the_broker_is_away_nothing_can_come() -> None:
    creations = Creations()
    hear = HearOutcomes(nothing_there, creations)
    creations.away = True
    assert await patience(hear, report()) == [True]
    creations.away, creations.done = False, {0: 7, 1: 3}
    assert await patience(hear, report()) == [False]


async def test_other_outcomes_stay_what_they_are() -> None:
    async def mixed(batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        return [None, GiveUp("wrong_contact"), TryAgain("later", after=2.0)]

    hear = HearOutcomes(mixed, Creations())
    assert await hear([report(), report(), report()]) == [
        None,
        GiveUp("wrong_contact"),
        TryAgain("later", after=2.0),
    ]
