"""Move on what is due: automated work through the gate, manual work to people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from activities.domain.activity import Activity
from activities.domain.catalog import Catalog, Contact
from activities.domain.gate import case_of, judge
from activities.domain.moves import judged, offer
from activities.ports import Catalogs, Contacts, DueActivities
from contracts.vocabulary import ActivityState, Mode
from servicekit.clock import Clock
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.pipeline import is_dependency
from servicekit.resting import repeat
from servicekit.unit_of_work import Changes, Committer, Store
from servicekit.verdict import Become

log = structlog.get_logger()

_DUE_CLAIMED = Failpoint("activities.due_claimed")


def leaves_work(changes: Changes) -> bool:
    """Whether something was committed whose time may have come."""
    return any(
        isinstance(after, Activity) and after.state is ActivityState.SCHEDULED
        for _, _, after in changes.replaced
    )


class DispatchDue:
    """Any number of replicas may run it: leases share the work out, versions make sure."""

    def __init__(
        self,
        store: Store[Activity],
        committer: Committer,
        due: DueActivities,
        catalogs: Catalogs,
        contacts: Contacts,
        leases: Leases,
        clock: Clock,
        batch: int,
        rest_seconds: float,
        committed: asyncio.Event,
    ) -> None:
        self._store = store
        self._committer = committer
        self._due = due
        self._catalogs = catalogs
        self._contacts = contacts
        self._leases = leases
        self._clock = clock
        self._batch = batch
        self._rest_seconds = rest_seconds
        self._committed = committed

    async def run(self, stopping: asyncio.Event) -> None:
        await repeat(stopping, self.step, self._leases, self._rest_seconds, wake=self._committed)

    async def step(self) -> int:
        """One batch. Returns how many activities moved on."""
        buckets = await self._leases.held()
        if not buckets:
            return 0
        now = self._clock.now()
        catalog = await self._catalogs.read()
        due = await self._due.due(buckets, now, self._batch, catalog.holding_nothing(now))
        if not due:
            return 0
        contacts = await self._contacts.read(
            activity.contact_id for activity in due if activity.mode is Mode.AUTOMATED
        )
        _DUE_CLAIMED()
        moved = await self._move_on(due, contacts, catalog, now)
        log.info("due activities moved on", due=len(due), moved=moved)
        return moved

    async def _move_on(
        self, due: Sequence[Activity], contacts: Mapping[str, Contact], catalog: Catalog, now: datetime
    ) -> int:
        """All of it, else each half: what somebody else changed meanwhile is theirs, and one that fails for
        reasons of its own is set aside, so that it does not stop the others."""
        try:
            await self._write(due, [_moved_on(activity, contacts, catalog, now) for activity in due])
            return len(due)
        except Conflict:
            if len(due) == 1:
                return 0
        except Exception as error:
            if is_dependency(error):
                raise
            if len(due) == 1:
                activity_id, version = due[0].activity_id, due[0].version
                log.exception("an activity cannot be moved on and is set aside", activity_id=activity_id)
                await self._due.set_aside(activity_id, version)
                return 0
        half = len(due) // 2
        return await self._move_on(due[:half], contacts, catalog, now) + await self._move_on(
            due[half:], contacts, catalog, now
        )

    async def _write(self, before: Sequence[Activity], verdicts: Sequence[Become[Activity]]) -> None:
        changes = Changes()
        for activity, verdict in zip(before, verdicts, strict=True):
            self._committer.add(changes, self._store, activity, verdict)
        await self._committer.commit(changes)


def _moved_on(
    activity: Activity, contacts: Mapping[str, Contact], catalog: Catalog, now: datetime
) -> Become[Activity]:
    if activity.mode is Mode.MANUAL:
        return offer(activity, now)
    ruling = judge(case_of(activity, contacts.get(activity.contact_id), catalog, now))
    return judged(activity, ruling, now)
