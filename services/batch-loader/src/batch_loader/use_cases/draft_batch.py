"""Draft a batch: checked against the catalogue, loading nothing yet."""

from __future__ import annotations

from uuid import uuid4

from batch_loader.domain.batch import Batch, announced
from batch_loader.domain.choices import Choices, PastSchedule, Wanted, resolve, resolve_filters
from batch_loader.domain.filters import Filters
from batch_loader.domain.schedule import has_passed
from batch_loader.ports import CatalogReader
from contracts.message import stable_id
from contracts.vocabulary import BatchId
from servicekit.clock import Clock
from servicekit.unit_of_work import Commands
from servicekit.verdict import Unchanged, Verdict


class AnotherBatch(Exception):
    """The key was given to a batch before, and this one is another."""


class DraftBatch:
    def __init__(self, batches: Commands[Batch], catalog: CatalogReader, clock: Clock) -> None:
        self._batches = batches
        self._catalog = catalog
        self._clock = clock

    async def __call__(self, name: str, filters: Filters, wanted: Wanted, key: str | None = None) -> Batch:
        """`key`: the same one again is the same batch, whoever was killed in between.

        Raises WrongChoice, AnotherBatch.
        """
        catalog = await self._catalog()
        now = self._clock.now()
        if has_passed(wanted.schedule, now):
            raise PastSchedule(wanted.schedule)
        batch = Batch(
            batch_id=BatchId(stable_id("batch", key) if key else str(uuid4())),
            name=name,
            filters=resolve_filters(filters, catalog),
            choices=resolve(wanted, catalog),
            created_at=now,
            changed_at=now,
        )

        def decide(standing: Batch | None) -> Verdict[Batch]:
            if standing is None:
                return announced(batch)
            if _asked(standing) != _asked(batch):
                raise AnotherBatch
            return Unchanged("drafted before")

        drafted, _ = await self._batches.change(batch.batch_id, decide)
        assert drafted is not None
        return drafted


def _asked(batch: Batch) -> tuple[str, Filters, Choices]:
    return batch.name, batch.filters, batch.choices
