"""Draft a batch: checked against the catalogue, loading nothing yet."""

from __future__ import annotations

import hashlib
import json
from uuid import uuid4

from batch_loader.domain.batch import Batch, announced
from batch_loader.domain.choices import Catalog, PastSchedule, Wanted, resolve, resolve_filters
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

    async def __call__(
        self, name: str, filters: Filters, wanted: Wanted, key: str | None = None
    ) -> tuple[Batch, bool]:
        """The batch, and whether this call made it. `key`: the same one again is the same batch, whoever was
        killed in between.

        Raises WrongChoice, AnotherBatch.
        """
        now = self._clock.now()
        batch_id = BatchId(stable_id("batch", key) if key else str(uuid4()))
        asked = _digest(name, filters, wanted)

        def decide(standing: Batch | None, catalog: Catalog) -> Verdict[Batch]:
            if standing is not None:
                if standing.asked not in (None, asked):
                    raise AnotherBatch
                return Unchanged("drafted before")
            if has_passed(wanted.schedule, now):
                raise PastSchedule(wanted.schedule)
            batch = Batch(
                batch_id=batch_id,
                name=name,
                filters=resolve_filters(filters, catalog),
                choices=resolve(wanted, catalog),
                asked=asked,
                created_at=now,
                changed_at=now,
            )
            return announced(batch)

        drafted, verdict = await self._batches.change(batch_id, decide, facts=lambda _: self._catalog())
        assert drafted is not None
        return drafted, not isinstance(verdict, Unchanged)


def _digest(name: str, filters: Filters, wanted: Wanted) -> str:
    # Without defaults, so that fields a later version adds do not make another request of a repeat.
    told = [name, *(each.model_dump(mode="json", exclude_defaults=True) for each in (filters, wanted))]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
