"""Wait until this service's copies hold what was announced when a load began: who is not in them yet would
be left out, and nobody would know."""

from __future__ import annotations

import asyncio

import structlog

from batch_loader.domain.batch import Batch, go_on, wait
from batch_loader.domain.copies import WaitingFor
from batch_loader.ports import Audience, Copies, NoAnswer, Reading
from contracts.vocabulary import BatchId
from servicekit.backoff import backoff
from servicekit.clock import Clock
from servicekit.unit_of_work import Commands, Store

log = structlog.get_logger()

_FIRST_SECONDS, _MOST_SECONDS = 0.1, 2.0
_UNMENTIONED = 3
"""Looks: what was published a moment ago is read a moment later, and nobody need hear of that."""


class AwaitCopies:
    def __init__(
        self, store: Store[Batch], batches: Commands[Batch], copies: Copies, audience: Audience, clock: Clock
    ) -> None:
        self._store = store
        self._batches = batches
        self._copies = copies
        self._audience = audience
        self._clock = clock

    async def __call__(self, batch_id: BatchId) -> None:
        batch = await self._store.get(batch_id)
        if batch is None:
            return
        told: WaitingFor | None = None
        reading: Reading | None = None
        looks = 0
        while True:
            why: object
            waiting_for: WaitingFor
            try:
                reading = await self._look(batch, reading)
                if not reading.behind:
                    break
                waiting_for, why = next(iter(reading.behind)), dict(reading.behind)
            except NoAnswer as silence:
                waiting_for, why = "kafka", str(silence)
            looks += 1
            if looks >= _UNMENTIONED:
                if waiting_for != told:
                    log.warning("a load waits", batch_id=batch_id, waiting_for=waiting_for, why=why)
                    told = waiting_for
                await self._tell(batch_id, waiting_for)
            await asyncio.sleep(backoff(looks - 1, _FIRST_SECONDS, _MOST_SECONDS))
        if told:
            log.info("a load goes on", batch_id=batch_id)
        if looks or batch.waiting_for:
            await self._go_on(batch)

    async def _look(self, batch: Batch, reading: Reading | None) -> Reading:
        if reading is None:
            return await self._copies.look(batch.copies)
        return await self._copies.look_again(reading)

    async def _tell(self, batch_id: BatchId, waiting_for: WaitingFor) -> None:
        await self._batches.change(batch_id, lambda batch: wait(batch, waiting_for, self._clock.now()))

    async def _go_on(self, batch: Batch) -> None:
        now = self._clock.now()

        async def count(_: Batch | None) -> int:
            return await self._audience.count(batch.filters, batch.loading_since or now)

        await self._batches.change(batch.batch_id, lambda batch, found: go_on(batch, found, now), facts=count)
