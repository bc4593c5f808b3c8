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


def report(activity_id: str = "a-1") -> Delivery[Any]:
    return Delivery(SimpleNamespace(activity_id=activity_id), {}, None)


async def patience(hear: HearOutcomes, *reports: Delivery[Any]) -> list[bool]:
    outcomes = await hear(reports)
    assert all(isinstance(outcome, TryAgain) for outcome in outcomes)
    return [outcome.patient for outcome in outcomes if isinstance(outcome, TryAgain)]


async def test_it_loses_no_try_until_what_was_published_before_it_is_handled() -> None:
    creations = Creations()
    hear = HearOutcomes(nothing_there, creations)
    assert await patience(hear, report()) == [True]
    creations.ends[0] = 900
    creations.done[0] = 6
    assert await patience(hear, report(), report("a-2")) == [True, True]
    creations.done[0] = 7
    assert await patience(hear, report(), report("a-2")) == [False, True], (
        "more was published before the second"
    )
    creations.done[0] = 6
    assert await patience(hear, report()) == [False], "one of its tries"


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
