"""Which contact has an open activity of which subject: one document for each activity heard of.

Those that ended are kept for longer than their topic and its dead letters are, so that an old message that
comes again finds a newer version and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from batch_loader.domain.page import slot_of
from contracts.activities import ActivityChanged
from contracts.vocabulary import FINAL_STATES, ActivityState, BatchId
from servicekit.mongo import DUPLICATE_KEY, Collection, Document, Mongo
from servicekit.verdict import Write

COLLECTION = "open_activities"
_KEPT_SECONDS = 45 * 86_400
_UNDER_WAY = frozenset({ActivityState.DISPATCHED, ActivityState.AWAITING_REPLY})
INDEXES = (
    IndexModel([("slot", ASCENDING)], partialFilterExpression={"open": True}),
    IndexModel(
        [("exclusive_slot", ASCENDING)],
        unique=True,
        partialFilterExpression={"exclusive_slot": {"$type": "string"}},
    ),
    IndexModel([("ended_at", ASCENDING)], expireAfterSeconds=_KEPT_SECONDS),
)


class MongoOpenActivities:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def _activities(self) -> Collection:
        return self._mongo[COLLECTION]

    async def taken(self, slots: Sequence[str], but_of: BatchId | None = None) -> frozenset[str]:
        wanted: Document = {"slot": {"$in": list(slots)}, "open": True}
        if but_of is not None:
            wanted["batch_id"] = {"$ne": but_of}
        found = self._activities.find(wanted, {"slot": 1, "_id": 0})
        return frozenset([row["slot"] async for row in found])

    async def keep(self, changes: Iterable[ActivityChanged]) -> int:
        """How many were news."""
        newest: dict[str, ActivityChanged] = {}
        for change in changes:
            standing = newest.get(change.activity_id)
            if standing is None or standing.version < change.version:
                newest[change.activity_id] = change
        if not newest:
            return 0
        try:
            result = await self._activities.bulk_write(
                [_kept(change) for change in newest.values()], ordered=False
            )
            return int(result.modified_count + result.upserted_count)
        except BulkWriteError as error:
            # An upsert whose filter missed collides with the newer version that is there: that is the point.
            if any(fault["code"] != DUPLICATE_KEY for fault in error.details["writeErrors"]):
                raise
            return int(error.details["nModified"] + error.details["nUpserted"])

    async def not_yet_refused(self, batch_id: BatchId, activity_ids: Sequence[str]) -> list[str]:
        found = self._activities.find(
            {"_id": {"$in": list(activity_ids)}, "batch_id": batch_id, "refused": {"$exists": False}},
            {"_id": 1},
        )
        return [row["_id"] async for row in found]


def marked_refused(activity_id: str) -> Write:
    """Holds once for each activity, however often its end is told."""
    return Write(COLLECTION, {"_id": activity_id, "refused": {"$exists": False}}, {"$set": {"refused": True}})


def _kept(change: ActivityChanged) -> UpdateOne:
    ended = change.state in FINAL_STATES
    kept: Document = {
        "version": change.version,
        "batch_id": change.batch_id,
        "slot": slot_of(change.contact_id, change.subject_id),
        "open": not ended,
    }
    if change.state in _UNDER_WAY:
        # Still open, in the same slot: nothing to write unless this is the first that is heard of it.
        return UpdateOne({"_id": change.activity_id}, {"$setOnInsert": kept}, upsert=True)
    update: Document = {"$set": kept}
    if ended:
        update |= {"$unset": {"exclusive_slot": ""}, "$currentDate": {"ended_at": True}}
    return UpdateOne({"_id": change.activity_id, "version": {"$lt": change.version}}, update, upsert=True)
