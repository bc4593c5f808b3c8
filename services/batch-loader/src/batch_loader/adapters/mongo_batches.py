"""Looking through batches: sorted, paged, by state."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING, DESCENDING, IndexModel

from batch_loader.domain.batch import Batch
from batch_loader.ports import Place
from contracts.vocabulary import BatchId, BatchState
from servicekit.mongo import Document
from servicekit.unit_of_work import Store

INDEXES = (
    IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)]),
    IndexModel([("name", ASCENDING), ("_id", ASCENDING)]),
    IndexModel([("state", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)]),
)


class MongoShelf:
    def __init__(self, batches: Store[Batch]) -> None:
        self._batches = batches

    async def list(
        self, *, state: BatchState | None, sort: str, limit: int, after: Place | None
    ) -> Sequence[Batch]:
        field, way = sort.removeprefix("-"), DESCENDING if sort.startswith("-") else ASCENDING
        found: Document = {} if state is None else {"state": state.value}
        if after is not None:
            found |= _beyond(field, way, after)
        rows = self._batches.collection.find(found).sort([(field, way), ("_id", way)]).limit(limit)
        return [self._batches.from_document(row) async for row in rows]

    async def loading(self) -> Sequence[BatchId]:
        found = self._batches.collection.find({"state": BatchState.LOADING.value}, {"_id": 1})
        return [row["_id"] async for row in found]


def _beyond(field: str, way: int, after: Place) -> Document:
    further = "$gt" if way == ASCENDING else "$lt"
    return {"$or": [{field: {further: after.value}}, {field: after.value, "_id": {further: after.batch_id}}]}
