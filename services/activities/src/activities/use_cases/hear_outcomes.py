"""What channels report, which may overtake the activity that it is about."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from activities.domain.outcomes import NotMade
from activities.ports import Creations
from servicekit.delivery import Delivery
from servicekit.pipeline import is_dependency
from servicekit.verdict import Outcome

_LOOK_AGAIN = 1.0
_LONGEST_REST = 3.0
"""Between two looks; more is an outage, in which nothing could be created either."""
_PATIENCE = 45.0
"""A creation waits for some twenty, and may be behind another. A backlog of minutes is no reason to let
everybody's reports wait."""
_REMEMBERED = 600.0

Work = Callable[[Sequence[Delivery[Any]]], Awaitable[Sequence[Outcome]]]
Place = tuple[int, int]
"""Partition and offset of a report."""


@dataclass(slots=True)
class _Missed:
    """A report whose activity was not there."""

    since: float
    looked_at: float
    published: Mapping[int, int]
    """How far creations were published then."""
    waited: float = 0.0
    """Seconds in which creations could have been handled."""


class HearOutcomes:
    """A creation can wait, for a subject or behind one that does. Whoever reports on an activity that is not
    there loses no try until every creation was handled that was published before the report was first worked;
    but for no longer than 45 seconds in which creations could be handled, and never for what was waited for
    in vain already.

    now: seconds by a clock that only goes forward.
    """

    def __init__(self, work: Work, creations: Creations, now: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._creations = creations
        self._now = now
        self._missed: dict[Place, _Missed] = {}
        self._in_vain: dict[int, int] = {}
        """Partition -> how far creations were published when patience ended."""

    async def __call__(self, batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        outcomes = list(await self._work(batch))
        early = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, NotMade)}
        if early:
            waiting = await self._waiting({_place(batch[n]) for n in early})
            for n, outcome in early.items():
                if _place(batch[n]) in waiting:
                    outcomes[n] = replace(outcome, after=_LOOK_AGAIN, patient=True)
        return outcomes

    async def _waiting(self, places: set[Place]) -> set[Place]:
        now = self._now()
        self._missed = {place: each for place, each in self._missed.items() if now - each.since < _REMEMBERED}
        try:
            if fresh := places - self._missed.keys():
                published = await self._creations.published()
                self._missed |= {place: _Missed(now, now, published) for place in fresh}
            handled = await self._creations.handled()
        except Exception as error:
            if not is_dependency(error):
                raise
            return places
        return {place for place in places if self._waits(self._missed[place], handled, now)}

    def _waits(self, missed: _Missed, handled: Mapping[int, int], now: float) -> bool:
        missed.waited += min(now - missed.looked_at, _LONGEST_REST)
        missed.looked_at = now
        behind = {
            partition: end
            for partition, end in missed.published.items()
            if handled.get(partition, 0) < end > self._in_vain.get(partition, 0)
        }
        if behind and missed.waited > _PATIENCE:
            self._in_vain |= behind
        return bool(behind) and missed.waited <= _PATIENCE


def _place(report: Delivery[Any]) -> Place:
    return report.record.partition, report.record.offset
