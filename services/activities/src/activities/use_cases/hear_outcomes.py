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
_LONGEST_REST = 15.0
"""Between two looks; more is an outage, in which nothing could be created either."""
_PATIENCE = 45.0
"""A creation waits for some twenty seconds, and may be behind another."""
_FORGOTTEN_AFTER = 600.0

Work = Callable[[Sequence[Delivery[Any]]], Awaitable[Sequence[Outcome]]]
Place = tuple[int, int]
"""Partition and offset of a report."""


@dataclass(slots=True)
class _Missed:
    """A report whose activity was not there."""

    since: float
    looked_at: float
    published: Mapping[int, int] | None = None
    """How far creations were published when it was first worked; None while the broker has not said."""
    waited: float = 0.0
    """Seconds in which creations could have been handled."""
    waits: bool = True


class HearOutcomes:
    """A creation can wait, for a subject or behind one that does. Whoever reports on an activity that is not
    there loses no try until every creation was handled that was published before the report was first worked:
    for 45 seconds, outages not counted, and not where creations still stand where others waited in vain.

    now: seconds by a clock that only goes forward.
    """

    def __init__(self, work: Work, creations: Creations, now: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._creations = creations
        self._now = now
        self._missed: dict[Place, _Missed] = {}
        self._stuck_at: dict[int, int] = {}
        """Partition -> how far creations were handled when somebody's patience ended."""

    async def __call__(self, batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        outcomes = list(await self._work(batch))
        early = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, NotMade)}
        if early:
            missed = self._look_at({_place(batch[n]) for n in early})
            await self._wait_or_not([each for each in missed.values() if each.waits])
            for n, outcome in early.items():
                if missed[_place(batch[n])].waits:
                    outcomes[n] = replace(outcome, after=_LOOK_AGAIN, patient=True)
        return outcomes

    def _look_at(self, places: set[Place]) -> dict[Place, _Missed]:
        now = self._now()
        known = self._missed.items()
        self._missed = {place: each for place, each in known if now - each.looked_at < _FORGOTTEN_AFTER}
        return {place: self._missed.setdefault(place, _Missed(now, now)) for place in places}

    async def _wait_or_not(self, waiting: Sequence[_Missed]) -> None:
        """Unless the broker does not say; but for no more than ten minutes."""
        if not waiting:
            return
        now = self._now()
        try:
            if any(each.published is None for each in waiting):
                published = await self._creations.published()
                for each in waiting:
                    each.published = each.published or published
            handled = await self._creations.handled()
        except Exception as error:
            if not is_dependency(error):
                raise
            for each in waiting:
                each.looked_at, each.waits = now, now - each.since < _FORGOTTEN_AFTER
            return
        for each in waiting:
            self._decide(each, handled, now)

    def _decide(self, missed: _Missed, handled: Mapping[int, int], now: float) -> None:
        missed.waited += min(now - missed.looked_at, _LONGEST_REST)
        missed.looked_at = now
        behind = {
            partition: handled.get(partition, 0)
            for partition, end in (missed.published or {}).items()
            if handled.get(partition, 0) < end
        }
        if missed.waited > _PATIENCE:
            self._stuck_at |= behind
        missed.waits = missed.waited <= _PATIENCE and any(
            self._stuck_at.get(partition) != at for partition, at in behind.items()
        )


def _place(report: Delivery[Any]) -> Place:
    return report.record.partition, report.record.offset
