"""What becomes of activities, for the reports: the newest state of each, and the cells it moves, together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from pymongo import ASCENDING, IndexModel, InsertOne, UpdateOne

from servicekit.conflicts import batch_undisputed
from servicekit.delivery import Delivery
from servicekit.failpoints import Failpoint
from servicekit.metrics import Metrics
from servicekit.mongo import Document, Mongo, difference
from servicekit.verdict import Outcome, Unchanged
from stats.adapters.mongo_cells import write_cells
from stats.domain.activities import Told, told
from stats.domain.reports import Cells, count_activity

ACTIVITIES = "activities"
ACTIVITY_INDEXES = (
    IndexModel(
        [("campaign_id", ASCENDING), ("scheduled_at", ASCENDING)],
        name="open",
        partialFilterExpression={"open": True},
    ),
)


class RecordActivities:
    """A batch is one transaction; an older version, or a completion known already, changes nothing."""

    def __init__(self, name: str, mongo: Mongo, instance: str, metrics: Metrics) -> None:
        self._before_commit = Failpoint(f"stats.{name}.before_commit")
        self._mongo = mongo
        self._shard = f"{name}-{crc32(instance.encode()) % 64}"
        self._conflicts = metrics.conflicts.labels(f"stats.{name}")

    async def __call__(self, batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        messages = [delivery.message for delivery in batch]
        return await batch_undisputed(
            lambda: self._attempt(messages), len(batch), self._conflicts, "activities"
        )

    async def _attempt(self, messages: Sequence[Told]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        cells: Cells = {}
        async with self._mongo.transaction() as session:
            ids = {message.activity_id for message in messages}
            found = self._mongo[ACTIVITIES].find({"_id": {"$in": list(ids)}}, session=session)
            before: dict[str, Document] = {row["_id"]: row async for row in found}
            after: dict[str, Document] = {}
            for message in messages:
                id_ = str(message.activity_id)
                known = after.get(id_) or before.get(id_) or {"_id": id_, "version": 0}
                activity = told(known, message)
                outcomes.append(Unchanged() if activity is None else None)
                if activity is not None:
                    after[id_] = activity
            for id_, activity in after.items():
                if id_ in before:
                    count_activity(cells, before[id_], -1)
                count_activity(cells, activity, 1)
            if after:
                await self._mongo[ACTIVITIES].bulk_write(
                    [_write(before.get(id_), activity) for id_, activity in after.items()],
                    ordered=False,
                    session=session,
                )
            await write_cells(self._mongo, cells, self._shard, session)
            self._before_commit()
        return outcomes


def _write(before: Document | None, after: Document) -> InsertOne[Document] | UpdateOne:
    if before is None:
        return InsertOne(after)
    return UpdateOne({"_id": after["_id"]}, difference(before, after))
