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
_PATIENCE = 30.0
"""A creation waits for some twenty. A backlog of more is no reason to let everybody's reports wait."""
_REMEMBERED = 600.0

Work = Callable[[Sequence[Delivery[Any]]], Awaitable[Sequence[Outcome]]]
Place = tuple[int, int]
"""Partition and offset of a report."""


@dataclass(slots=True)
class _Missed:
    """A report whose activity was not there."""

    since: float
    published: Mapping[int, int]
    """How far creations were published then."""
    waits: bool = True


class HearOutcomes:
    """A creation can wait, for a subject or behind one that does. Whoever reports on an activity that is not
    there waits without losing a try until every creation was handled that was published before; for half a
    minute at most."""

    def __init__(self, work: Work, creations: Creations) -> None:
        self._work = work
        self._creations = creations
        self._missed: dict[Place, _Missed] = {}

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
        now = time.monotonic()
        self._missed = {place: each for place, each in self._missed.items() if now - each.since < _REMEMBERED}
        try:
            if fresh := places - self._missed.keys():
                published = await self._creations.published()
                self._missed |= {place: _Missed(now, published) for place in fresh}
            waiting = {place: self._missed[place] for place in places if self._missed[place].waits}
            if not waiting:
                return set()
            handled = await self._creations.handled()
        except Exception as error:
            if not is_dependency(error):
                raise
            return places
        for each in waiting.values():
            behind = any(handled.get(partition, 0) < end for partition, end in each.published.items())
            each.waits = behind and now - each.since < _PATIENCE
        return {place for place, each in waiting.items() if each.waits}


def _place(report: Delivery[Any]) -> Place:
    return report.record.partition, report.record.offset
