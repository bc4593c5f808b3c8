"""People who were erased, until nothing of them is left here: the note of it comes before their copy goes."""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, IndexModel, UpdateOne

from servicekit.clock import real_now
from servicekit.delivery import Delivery, Tombstone
from servicekit.leases import bucket_of
from servicekit.mongo import Collection, Document, Mongo
from servicekit.projection import Projection
from servicekit.verdict import Outcome

COLLECTION = "erasures"
INDEXES = (IndexModel([("look_real_at", ASCENDING)]),)
LOOKED_FOR = timedelta(minutes=10)
"""What was being worked when the erasure came may be written after the first look."""


@dataclass(frozen=True, slots=True)
class Erasure:
    contact_id: str
    addresses: frozenset[str]
    """The numbers that the contact had when it was erased."""
    told_real_at: datetime


class MongoErasures:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def collection(self) -> Collection:
        return self._mongo[COLLECTION]

    async def announce(self, numbers_of: Mapping[str, Iterable[str]], again: Members[str]) -> None:
        """Contact id -> numbers. Of those that were erased before nothing is in hand: one look is enough. Who
        was announced and is not known as erased yet, because that process was killed, is looked for from now
        on."""
        now = real_now()
        told, over = _told(now, now), _told(now - LOOKED_FOR, now)
        await self.collection.bulk_write(
            [
                UpdateOne(
                    {"_id": contact_id},
                    {
                        "$addToSet": {"addresses": {"$each": sorted(numbers)}},
                        "$setOnInsert": {"b": bucket_of(contact_id.encode())}
                        | (over if contact_id in again else {}),
                        "$set": {} if contact_id in again else told,
                    },
                    upsert=True,
                )
                for contact_id, numbers in numbers_of.items()
            ],
            ordered=False,
        )

    async def remember(self, contact_id: str, addresses: Iterable[str]) -> None:
        """More numbers of theirs; before what they are known from is gone."""
        await self.collection.update_one(
            {"_id": contact_id}, {"$addToSet": {"addresses": {"$each": sorted(addresses)}}}
        )

    async def due(self, real_now: datetime, buckets: Members[int], limit: int) -> list[Erasure]:
        rows = self.collection.find(
            {"look_real_at": {"$lte": real_now}, "b": {"$in": list(buckets)}},
            sort=[("look_real_at", ASCENDING)],
            limit=limit,
        )
        return [Erasure(row["_id"], frozenset(row["addresses"]), row["told_real_at"]) async for row in rows]

    async def count_due(self) -> int:
        due: int = await self.collection.count_documents({"look_real_at": {"$lte": real_now()}})
        return due

    async def look_again(self, erasure: Erasure, at: datetime) -> None:
        """Unless it was announced anew meanwhile."""
        await self.collection.update_one(_as_read(erasure), {"$set": {"look_real_at": at}})

    async def done(self, erasure: Erasure) -> bool:
        """It ends, unless it was announced anew meanwhile. Returns whether it ended."""
        return bool((await self.collection.delete_one(_as_read(erasure))).deleted_count)


def _as_read(erasure: Erasure) -> Document:
    return {"_id": erasure.contact_id, "told_real_at": erasure.told_real_at}


def _told(told: datetime, look: datetime) -> dict[str, datetime]:
    return {"told_real_at": told, "look_real_at": look}


class KnowContacts:
    """Keeps the copy, and notes who was erased before the copy forgets their numbers."""

    def __init__(self, projection: Projection, erasures: MongoErasures) -> None:
        self._projection = projection
        self._erasures = erasures

    async def __call__(self, batch: Sequence[Delivery[Any] | Tombstone]) -> Sequence[Outcome]:
        if erased := {each.key for each in batch if isinstance(each, Tombstone)}:
            numbers = {contact_id: set[str]() for contact_id in erased}
            again = set()
            async for row in self._projection.collection.find({"_id": {"$in": list(erased)}}):
                numbers[row["_id"]].update(row.get("numbers", ()))
                if "erased" in row:
                    again.add(row["_id"])
            for each in batch:
                if not isinstance(each, Tombstone) and each.message.contact_id in erased:
                    kept: Document = self._projection.document(each.message)
                    numbers[each.message.contact_id].update(kept["numbers"])
            await self._erasures.announce(numbers, again)
        return await self._projection(batch)
