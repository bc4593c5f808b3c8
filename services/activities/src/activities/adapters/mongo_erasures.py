"""People who were erased, for a while: what was in hand then was decided by the copy of before, and may be
written after the first look."""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Iterable
from datetime import datetime, timedelta

from pymongo import ASCENDING, IndexModel, UpdateOne

from activities.ports import Erasure
from servicekit.clock import real_now
from servicekit.leases import bucket_of
from servicekit.mongo import Collection, Mongo

COLLECTION = "erasures"
INDEXES = (IndexModel([("look_real_at", ASCENDING)]),)
_LOOKED_FOR = timedelta(minutes=10)
_FIRST, _LAST = timedelta(seconds=1), timedelta(minutes=1)


class MongoErasures:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def collection(self) -> Collection:
        return self._mongo[COLLECTION]

    async def announce(self, contact_ids: Iterable[str], again: Members[str]) -> None:
        """Of those that were erased before nothing is in hand: one look is enough. Who was announced and is
        not known as erased yet, because that process was killed, is looked for from now on."""
        now = real_now()
        await self.collection.bulk_write(
            [
                UpdateOne(
                    {"_id": contact_id},
                    {
                        "$setOnInsert": {"b": bucket_of(contact_id.encode())}
                        | (_told(now - _LOOKED_FOR, now) if contact_id in again else {}),
                        "$set": {} if contact_id in again else _told(now, now),
                    },
                    upsert=True,
                )
                for contact_id in contact_ids
            ],
            ordered=False,
        )

    async def due(self, now: datetime, buckets: Members[int], limit: int) -> list[Erasure]:
        rows = self.collection.find(
            {"look_real_at": {"$lte": now}, "b": {"$in": list(buckets)}},
            sort=[("look_real_at", ASCENDING)],
            limit=limit,
        )
        return [Erasure(row["_id"], row["told_real_at"]) async for row in rows]

    async def count_due(self) -> int:
        due: int = await self.collection.count_documents({"look_real_at": {"$lte": real_now()}})
        return due

    async def look_again_or_end(self, erasure: Erasure, left: bool, now: datetime) -> None:
        since = now - erasure.told_real_at
        # Not one that was announced anew meanwhile.
        read = {"_id": erasure.contact_id, "told_real_at": erasure.told_real_at}
        if left or since < _LOOKED_FOR:
            again = now + min(max(_FIRST, since / 2), _LAST)
            await self.collection.update_one(read, {"$set": {"look_real_at": again}})
        else:
            await self.collection.delete_one(read)


def _told(told: datetime, look: datetime) -> dict[str, datetime]:
    return {"told_real_at": told, "look_real_at": look}
