"""Load, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from batch_loader.domain.batch import Batch, Move, steer
from batch_loader.domain.choices import Catalog, StoppedCampaign
from batch_loader.ports import Audience, CatalogReader
from contracts.vocabulary import BatchState
from servicekit.clock import Clock
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Commands
from servicekit.verdict import Unchanged, Verdict

_MAKES_WORK: frozenset[Move] = frozenset({"load", "resume"})


class SteerBatch:
    def __init__(
        self,
        batches: Commands[Batch],
        audience: Audience,
        catalog: CatalogReader,
        clock: Clock,
        wake_the_loader: Callable[[], None],
    ) -> None:
        self._batches = batches
        self._audience = audience
        self._catalog = catalog
        self._clock = clock
        self._wake_the_loader = wake_the_loader

    async def __call__(self, batch_id: str, move: Move, expected_version: int | None = None) -> Batch:
        """expected_version: the one the caller saw. Raises IllegalMove, StoppedCampaign, NotFound,
        VersionMoved."""
        now = self._clock.now()

        async def facts(batch: Batch | None) -> tuple[int, Catalog]:
            return (
                await self._expected(batch, now) if move == "load" else 0,
                await self._catalog() if move in _MAKES_WORK else Catalog(),
            )

        def decide(batch: Batch | None, known: tuple[int, Catalog]) -> Verdict[Batch]:
            if batch is None:
                return Unchanged()
            expected, catalog = known
            verdict = steer(batch, move, now, expected)
            stopped = catalog.stopped(batch.choices.campaign_id)
            if stopped and not isinstance(verdict, Unchanged):
                raise StoppedCampaign(stopped)
            return verdict

        batch, _ = await self._batches.change(batch_id, decide, facts=facts, expected=expected_version)
        if batch is None:
            raise NotFound("batch", batch_id)
        self._wake_the_loader()
        return batch

    async def _expected(self, batch: Batch | None, now: datetime) -> int:
        if batch is None or batch.state is not BatchState.DRAFT:
            return 0
        return await self._audience.count(batch.filters, now)
