"""Looking through batches: sorted, paged, by state."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from batch_loader.domain.batch import Batch
from batch_loader.ports import BadCursor, ListedBatches
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
        self, *, state: BatchState | None, sort: str, limit: int, cursor: str | None
    ) -> ListedBatches:
        field, way = sort.removeprefix("-"), DESCENDING if sort.startswith("-") else ASCENDING
        found: Document = {} if state is None else {"state": state.value}
        if cursor is not None:
            found |= _beyond(field, way, *_opened(cursor, field))
        rows = await (
            self._batches.collection.find(found)
            .sort([(field, way), ("_id", way)])
            .limit(limit + 1)
            .to_list(limit + 1)
        )
        batches = [self._batches.from_document(row) for row in rows[:limit]]
        return ListedBatches(batches, _cursor(batches[-1], field) if len(rows) > limit else None)

    async def loading(self) -> Sequence[BatchId]:
        found = self._batches.collection.find({"state": BatchState.LOADING.value}, {"_id": 1})
        return [row["_id"] async for row in found]


def _beyond(field: str, way: int, value: Any, id_: str) -> Document:
    further = "$gt" if way == ASCENDING else "$lt"
    return {"$or": [{field: {further: value}}, {field: value, "_id": {further: id_}}]}


def _cursor(last: Batch, field: str) -> str:
    value = last.created_at.isoformat() if field == "created_at" else last.name
    return base64.urlsafe_b64encode(json.dumps([field, value, last.batch_id]).encode()).decode()


def _opened(cursor: str, field: str) -> tuple[Any, str]:
    try:
        made_for, value, id_ = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if made_for != field or not isinstance(value, str) or not isinstance(id_, str):
            raise BadCursor
        return (datetime.fromisoformat(value) if field == "created_at" else value), id_
    except (binascii.Error, UnicodeError, ValueError, TypeError):
        raise BadCursor from None
