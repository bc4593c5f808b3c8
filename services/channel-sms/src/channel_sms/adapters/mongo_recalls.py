"""Activities that were recalled: a dispatch of theirs that comes late begins nothing."""

from __future__ import annotations

from collections.abc import Collection as Members
from datetime import datetime

from pymongo import ASCENDING, IndexModel

from servicekit.mongo import Mongo
from servicekit.verdict import Write

COLLECTION = "recalls"
_KEPT_SECONDS = 45 * 86_400
"""Longer than the topic and its dead letters are."""
INDEXES = (IndexModel([("stored_real_at", ASCENDING)], expireAfterSeconds=_KEPT_SECONDS),)


class MongoRecalls:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def among(self, activity_ids: Members[str]) -> set[str]:
        if not activity_ids:
            return set()
        rows = self._mongo[COLLECTION].find({"_id": {"$in": list(activity_ids)}}, {"_id": 1})
        return {row["_id"] async for row in rows}


def recall(activity_id: str, real_now: datetime) -> Write:
    """Once, however often it is told."""
    return Write.once(COLLECTION, activity_id, stored_real_at=real_now)
