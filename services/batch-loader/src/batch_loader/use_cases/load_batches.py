"""Load what is to be loaded, a page at a time.

A page is one transaction: activities, reservations, counts and checkpoint, conditioned on the batch's
version. So a kill resumes at the checkpoint, a pause makes the page in hand fail, and two replicas that
both believe to hold a lease cannot both write.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from batch_loader.domain.batch import Batch, fail
from batch_loader.domain.page import Page, Reservation, load_page, slot_of
from batch_loader.ports import Audience, OpenActivities, Shelf
from batch_loader.use_cases.await_copies import AwaitCopies
from contracts.vocabulary import BatchId, BatchState
from servicekit.clock import Clock
from servicekit.conflicts import Conflict
from servicekit.leases import Leases, bucket_of
from servicekit.pipeline import is_dependency
from servicekit.resting import end, repeat
from servicekit.unit_of_work import Changes, Commands, Committer, Store

log = structlog.get_logger()

_IDLE_SECONDS = 0.25
_FAILURES_IN_A_ROW = 5
_SMOOTHING = 0.3


@dataclass(slots=True)
class Pace:
    """How a batch goes in this process; nothing depends on it but the page size and the shown rate."""

    size: int
    began: float
    per_second: float = 0.0
    failures: int = 0
    copies: asyncio.Task[None] | None = None
    """Ends when nobody who belongs to the batch is missing in them."""

    @property
    def waits(self) -> bool:
        return self.copies is not None and not self.copies.done()

    def lap(self, contacts: int) -> float:
        """The rate if the page in hand ends now."""
        now = contacts / max(time.monotonic() - self.began, 0.001)
        return now if not self.per_second else self.per_second + _SMOOTHING * (now - self.per_second)


class LoadBatches:
    def __init__(
        self,
        store: Store[Batch],
        shelf: Shelf,
        audience: Audience,
        open_activities: OpenActivities,
        await_copies: AwaitCopies,
        reservations: Store[Reservation],
        committer: Committer,
        leases: Leases,
        clock: Clock,
        stopping: asyncio.Event,
        page_size: int,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._audience = audience
        self._open_activities = open_activities
        self._await_copies = await_copies
        self._reservations = reservations
        self._committer = committer
        self._commands = Commands(committer, store)
        self._leases = leases
        self._clock = clock
        self._stopping = stopping
        self._page_size = page_size
        self._paces: dict[BatchId, Pace] = {}
        self._work = asyncio.Event()

    def wake(self) -> None:
        self._work.set()

    async def run(self) -> None:
        try:
            await repeat(self._stopping, self.step, self._leases, _IDLE_SECONDS, wake=self._work)
        finally:
            await self._forget([id_ for id_, pace in self._paces.items() if pace.waits])

    async def step(self) -> int:
        """One page of every batch that is this process's to load, unless it waits; how many went on."""
        buckets = await self._leases.held()
        mine = [id_ for id_ in await self._shelf.loading() if bucket_of(id_.encode()) in buckets]
        await self._forget(self._paces.keys() - mine)
        went = 0
        for batch_id in mine:
            if self._stopping.is_set():
                break
            pace = self._paces.setdefault(batch_id, Pace(self._page_size, time.monotonic()))
            if pace.copies is None:
                pace.copies = asyncio.create_task(self._until_copies(batch_id, pace))
            elif not pace.waits:
                await self._work_on(batch_id, pace.copies, pace)
                went += 1
        return went

    async def _until_copies(self, batch_id: BatchId, pace: Pace) -> None:
        """Beside the loop: other batches go on meanwhile, however long Kafka takes to answer."""
        try:
            await self._await_copies(batch_id)
        finally:
            pace.began = time.monotonic()
            self.wake()

    async def _forget(self, batch_ids: Iterable[BatchId]) -> None:
        """Whoever loads these next asks for the copies anew."""
        asked = [self._paces.pop(id_).copies for id_ in list(batch_ids)]
        await end(*(task for task in asked if task is not None))

    async def _work_on(self, batch_id: BatchId, copies: asyncio.Task[None], pace: Pace) -> None:
        try:
            if copies.exception() is not None:
                pace.copies = None
            await copies
            await self._load_page(batch_id, pace)
        except Conflict:
            # Somebody steered the batch, or took a slot: again from fresh state, with less at stake.
            pace.size = max(1, pace.size // 4)
            await asyncio.sleep(random.uniform(0, 0.02))
        except Exception as error:
            if is_dependency(error):
                raise
            await self._count_failure(batch_id, pace, error)
        else:
            pace.size = min(self._page_size, pace.size * 4)
            pace.failures = 0

    async def _load_page(self, batch_id: BatchId, pace: Pace) -> None:
        batch = await self._store.get(batch_id)
        if batch is None or batch.state is not BatchState.LOADING:
            return
        page = await self._decide(batch, pace)
        await self._committer.commit(
            Changes(
                replaced=[
                    (self._store, batch, page.batch),
                    *((self._reservations, None, reservation) for reservation in page.reservations),
                ],
                rows=self._committer.outbox.rows(page.messages),
            )
        )
        pace.per_second, pace.began = page.batch.per_second, time.monotonic()
        if page.batch.state is BatchState.LOADED:
            log.info("batch loaded", batch_id=batch_id, loaded=page.batch.loaded, skipped=page.batch.skipped)

    async def _decide(self, batch: Batch, pace: Pace) -> Page:
        now = self._clock.now()
        size = pace.size if batch.room is None else min(pace.size, batch.room)
        candidates = await self._audience.page(
            batch.filters, batch.loading_since or now, batch.checkpoint, size
        )
        taken: frozenset[str] = frozenset()
        if batch.choices.exclusive and candidates:
            subject = batch.choices.subject_id
            taken = await self._open_activities.taken([slot_of(c.contact_id, subject) for c in candidates])
        return load_page(
            batch,
            candidates,
            taken,
            more=len(candidates) == size,
            per_second=pace.lap(len(candidates)),
            now=now,
        )

    async def _count_failure(self, batch_id: BatchId, pace: Pace, error: Exception) -> None:
        log.error("a page failed", batch_id=batch_id, exc_info=error)
        pace.failures += 1
        if pace.failures < _FAILURES_IN_A_ROW:
            await asyncio.sleep(0.05 * 2**pace.failures)
            return
        why = f"Loading failed {pace.failures} times in a row with {type(error).__name__}; see the log."
        await self._commands.change(batch_id, lambda batch: fail(batch, why, self._clock.now()))
