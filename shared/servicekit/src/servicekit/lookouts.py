"""What is looked for again and again for a while after it was announced, because it may have been in hand
then, decided by what was known before, and be written after the first look."""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, IndexModel, UpdateOne

from servicekit.clock import real_now
from servicekit.leases import bucket_of
from servicekit.mongo import Collection, Document

INDEXES = (IndexModel([("look_real_at", ASCENDING)]),)
_LOOKED_FOR = timedelta(minutes=10)
_FIRST, _LAST = timedelta(seconds=1), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Lookout:
    id: str
    told_real_at: datetime
    document: Document
    """As it is kept, with what the caller added."""


class Lookouts:
    """One document for each id: since when it is looked for, and when to look next."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def announce(self, told: Mapping[str, Mapping[str, Any]], again: Members[str]) -> None:
        """Id -> further update operators. For those of `again` nothing is in hand any more: one look is
        enough. Who was announced and is none of them, because that process was killed, is looked for from
        now on."""
        now = real_now()
        await self._collection.bulk_write(
            [
                UpdateOne(
                    {"_id": id_},
                    {
                        **more,
                        "$setOnInsert": {"b": bucket_of(id_.encode())}
                        | (_told(now - _LOOKED_FOR, now) if id_ in again else {}),
                        "$set": {} if id_ in again else _told(now, now),
                    },
                    upsert=True,
                )
                for id_, more in told.items()
            ],
            ordered=False,
        )

    async def note(self, id_: str, update: Mapping[str, Any]) -> None:
        """More to keep with one that is looked for."""
        await self._collection.update_one({"_id": id_}, update)

    async def due(self, now: datetime, buckets: Members[int], limit: int) -> list[Lookout]:
        rows = self._collection.find(
            {"look_real_at": {"$lte": now}, "b": {"$in": list(buckets)}},
            sort=[("look_real_at", ASCENDING)],
            limit=limit,
        )
        return [Lookout(row["_id"], row["told_real_at"], row) async for row in rows]

    async def count_due(self) -> int:
        due: int = await self._collection.count_documents({"look_real_at": {"$lte": real_now()}})
        return due

    async def look_again_or_end(self, lookout: Lookout, left: bool, now: datetime) -> bool:
        """left: something may still be there. Returns whether it ended; not if it was announced anew."""
        since = now - lookout.told_real_at
        read = {"_id": lookout.id, "told_real_at": lookout.told_real_at}
        if left or since < _LOOKED_FOR:
            again = now + min(max(_FIRST, since / 2), _LAST)
            await self._collection.update_one(read, {"$set": {"look_real_at": again}})
            return False
        return bool((await self._collection.delete_one(read)).deleted_count)


def _told(told: datetime, look: datetime) -> dict[str, datetime]:
    return {"told_real_at": told, "look_real_at": look}
