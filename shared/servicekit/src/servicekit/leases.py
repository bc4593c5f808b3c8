"""Who does which part of a shared job: buckets leased by the database server's time.

Members share the buckets evenly. A lease is renewed at a third of its life; whoever cannot renew
stops in time by its own monotonic clock, which started before the server's.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zlib import crc32

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from servicekit.mongo import DUPLICATE_KEY, Collection, Mongo

BUCKETS = 16
COLLECTION = "leases"
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def bucket_of(key: bytes) -> int:
    return crc32(key) % BUCKETS


class Leases:
    """The buckets of one job (`outbox`, `scheduler`, ...) that this instance holds."""

    def __init__(self, mongo: Mongo, job: str, me: str, seconds: float = 10.0) -> None:
        self._mongo = mongo
        self._job = job
        self._me = me
        self._milliseconds = int(seconds * 1000)
        self._seconds = seconds
        self._held: frozenset[int] = frozenset()
        self._good_until = 0.0
        self._renew_at = 0.0
        self._exist = False
        self.members = 1
        """How many instances shared the job when last renewed, this one included."""

    @property
    def _collection(self) -> Collection:
        return self._mongo[COLLECTION]

    def remaining(self) -> float:
        """Seconds for which what is held is surely still held."""
        return max(0.0, self._good_until - time.monotonic())

    async def held(self) -> frozenset[int]:
        """The buckets to work on now; renews when it is time to."""
        if time.monotonic() >= self._renew_at:
            await self.renew()
        return self._held if self.remaining() > 0 else frozenset()

    async def renew(self) -> None:
        asked = time.monotonic()
        share = await self._fair_share()
        mine, free = await self._survey()
        kept = sorted(mine)[:share]
        if len(mine) > share:
            await self._let_go(mine - set(kept))
        wanted = kept + free[: share - len(kept)]
        await self._take(wanted)
        self._held = await self._taken(wanted)
        self._good_until = asked + self._seconds * 0.9
        self._renew_at = asked + (0.5 if len(self._held) < share else self._seconds / 3)

    async def release(self) -> None:
        """Let the others have everything at once: for an orderly stop."""
        held, self._held, self._good_until = self._held, frozenset(), 0.0
        await self._let_go(set(held))
        await self._collection.delete_one({"_id": f"{self._job}/member/{self._me}"})

    async def _fair_share(self) -> int:
        await self._collection.update_one(
            {"_id": f"{self._job}/member/{self._me}"},
            [{"$set": {"job": self._job, "kind": "member", "until": self._server_time_plus_lease()}}],
            upsert=True,
        )
        members: int = await self._collection.count_documents(
            {"job": self._job, "kind": "member", "$expr": {"$gt": ["$until", "$$NOW"]}}
        )
        self.members = max(1, members)
        return -(-BUCKETS // self.members)

    async def _survey(self) -> tuple[set[int], list[int]]:
        """Which buckets are mine, and which are anybody's, by the server's clock."""
        rows = await self._mongo.aggregate(
            COLLECTION,
            [
                {"$match": {"job": self._job, "kind": "bucket"}},
                {"$project": {"bucket": 1, "owner": 1, "lapsed": {"$lte": ["$until", "$$NOW"]}}},
            ],
        )
        mine = {row["bucket"] for row in rows if row["owner"] == self._me}
        others = {row["bucket"] for row in rows if row["owner"] not in (None, self._me) and not row["lapsed"]}
        return mine, [bucket for bucket in range(BUCKETS) if bucket not in mine and bucket not in others]

    async def _take(self, buckets: list[int]) -> None:
        """Renew what is mine and take what is free; the condition is in the write."""
        if not buckets:
            return
        await self._make_sure_they_exist()
        claims = [
            UpdateOne(
                {
                    "_id": self._id(bucket),
                    "$or": [
                        {"owner": {"$in": [self._me, None]}},
                        {"$expr": {"$lte": ["$until", "$$NOW"]}},
                    ],
                },
                [{"$set": {"owner": self._me, "until": self._server_time_plus_lease()}}],
            )
            for bucket in buckets
        ]
        await self._collection.bulk_write(claims, ordered=False)

    async def _make_sure_they_exist(self) -> None:
        if self._exist:
            return
        rows = [
            {
                "_id": self._id(b),
                "job": self._job,
                "kind": "bucket",
                "bucket": b,
                "owner": None,
                "until": _LONG_AGO,
            }
            for b in range(BUCKETS)
        ]
        try:
            await self._collection.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            if any(fault["code"] != DUPLICATE_KEY for fault in error.details["writeErrors"]):
                raise
        self._exist = True

    async def _taken(self, buckets: list[int]) -> frozenset[int]:
        owned = self._collection.find({"_id": {"$in": [self._id(b) for b in buckets]}, "owner": self._me})
        return frozenset([row["bucket"] async for row in owned])

    async def _let_go(self, buckets: set[int]) -> None:
        await self._collection.update_many(
            {"_id": {"$in": [self._id(bucket) for bucket in buckets]}, "owner": self._me},
            {"$set": {"owner": None, "until": _LONG_AGO}},
        )

    def _id(self, bucket: int) -> str:
        return f"{self._job}/{bucket}"

    def _server_time_plus_lease(self) -> dict[str, object]:
        return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": self._milliseconds}}
