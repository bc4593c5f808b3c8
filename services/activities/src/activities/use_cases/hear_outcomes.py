"""What channels report, which may overtake the activity that it is about."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from activities.domain.outcomes import NotMade
from activities.ports import Creations
from servicekit.delivery import Delivery
from servicekit.pipeline import is_dependency
from servicekit.verdict import Outcome

_LOOK_AGAIN = 0.5
_REMEMBERED = 600.0

Work = Callable[[Sequence[Delivery[Any]]], Awaitable[Sequence[Outcome]]]


class HearOutcomes:
    """A creation can wait, for a subject or behind one that does. Whoever reports on an activity that is not
    there waits without losing a try until every creation was handled that was published before."""

    def __init__(self, work: Work, creations: Creations) -> None:
        self._work = work
        self._creations = creations
        self._published: dict[str, tuple[float, Mapping[int, int] | None]] = {}
        """When an activity was first missed, and the creations to wait for; None once they were handled."""

    async def __call__(self, batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        outcomes = list(await self._work(batch))
        early = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, NotMade)}
        if early:
            behind = await self._behind({batch[n].message.activity_id for n in early})
            for n, outcome in early.items():
                if batch[n].message.activity_id in behind:
                    outcomes[n] = replace(outcome, after=_LOOK_AGAIN, patient=True)
        return outcomes

    async def _behind(self, missed: set[str]) -> set[str]:
        now = time.monotonic()
        self._published = {id_: each for id_, each in self._published.items() if now - each[0] < _REMEMBERED}
        try:
            if fresh := missed - self._published.keys():
                published = await self._creations.published()
                self._published |= dict.fromkeys(fresh, (now, published))
            waiting = {id_ for id_ in missed if self._published[id_][1] is not None}
            if not waiting:
                return set()
            handled = await self._creations.handled()
        except Exception as error:
            if not is_dependency(error):
                raise
            return missed
        for id_ in waiting:
            since, ends = self._published[id_]
            if all(handled.get(partition, 0) >= end for partition, end in (ends or {}).items()):
                self._published[id_] = (since, None)
        return {id_ for id_ in waiting if self._published[id_][1] is not None}
