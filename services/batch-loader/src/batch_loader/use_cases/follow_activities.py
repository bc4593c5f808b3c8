"""What became of activities: whose slot is taken, what was completed last, which of ours were refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from batch_loader.domain.batch import Batch, refuse
from batch_loader.ports import Audience, OpenActivities
from contracts.activities import ActivityChanged
from contracts.reasons import Skipped
from contracts.vocabulary import ActivityState, BatchId
from servicekit.clock import Clock
from servicekit.conflicts import undisputed
from servicekit.failpoints import Failpoint
from servicekit.unit_of_work import Changes, Committer, Store
from servicekit.verdict import Write

_AFTER_OPEN_ACTIVITIES = Failpoint("batch-loader.after_open_activities")
_AFTER_LAST_COMPLETED = Failpoint("batch-loader.after_last_completed")


class FollowActivities:
    def __init__(
        self,
        store: Store[Batch],
        audience: Audience,
        open_activities: OpenActivities,
        committer: Committer,
        clock: Clock,
        marked_refused: Callable[[str], Write],
    ) -> None:
        self._store = store
        self._audience = audience
        self._open_activities = open_activities
        self._committer = committer
        self._clock = clock
        self._marked_refused = marked_refused

    async def __call__(self, changes: Sequence[ActivityChanged]) -> int:
        """How many were news. Each effect is conditioned by itself, so a repeat completes what was begun."""
        news = await self._open_activities.keep(changes)
        _AFTER_OPEN_ACTIVITIES()
        await self._audience.keep_last_completed(changes)
        _AFTER_LAST_COMPLETED()
        for batch_id, activity_ids in _refused(changes).items():
            await undisputed(partial(self._correct, batch_id, activity_ids), f"batch {batch_id}")
        return news

    async def _correct(self, batch_id: BatchId, activity_ids: Sequence[str]) -> None:
        """Move them from loaded to skipped, each once."""
        batch = await self._store.get(batch_id)
        found = await self._open_activities.not_yet_refused(batch_id, activity_ids)
        if batch is None or not found:
            return
        changes = Changes(also=[self._marked_refused(activity_id) for activity_id in found])
        self._committer.add(changes, self._store, batch, refuse(batch, len(found), self._clock.now()))
        await self._committer.commit(changes)


def _refused(changes: Sequence[ActivityChanged]) -> dict[BatchId, list[str]]:
    refused: dict[BatchId, list[str]] = defaultdict(list)
    for change in changes:
        if change.batch_id and change.state is ActivityState.CANCELLED and change.reason == Skipped.DUPLICATE:
            refused[change.batch_id].append(change.activity_id)
    return refused
