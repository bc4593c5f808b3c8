"""Load, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Callable

from batch_loader.domain.batch import Batch, Move, steer
from batch_loader.ports import Audience
from contracts.vocabulary import BatchState
from servicekit.clock import Clock
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Commands, Store
from servicekit.verdict import Unchanged, Verdict


class SteerBatch:
    def __init__(
        self,
        store: Store[Batch],
        batches: Commands[Batch],
        audience: Audience,
        clock: Clock,
        wake_the_loader: Callable[[], None],
    ) -> None:
        self._store = store
        self._batches = batches
        self._audience = audience
        self._clock = clock
        self._wake_the_loader = wake_the_loader

    async def __call__(self, batch_id: str, move: Move, expected_version: int | None = None) -> Batch:
        """expected_version: the one the caller saw. Raises IllegalMove, NotFound, VersionMoved."""
        now = self._clock.now()
        expected = await self._expected(batch_id) if move == "load" else 0

        def decide(batch: Batch | None) -> Verdict[Batch]:
            if batch is None:
                return Unchanged()
            return steer(batch, move, now, expected)

        batch, _ = await self._batches.change(batch_id, decide, expected=expected_version)
        if batch is None:
            raise NotFound("batch", batch_id)
        self._wake_the_loader()
        return batch

    async def _expected(self, batch_id: str) -> int:
        batch = await self._store.get(batch_id)
        if batch is None or batch.state is not BatchState.DRAFT:
            return 0
        return await self._audience.count(batch.filters, self._clock.now())
