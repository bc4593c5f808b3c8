"""Who does which part of a shared job: buckets leased by the database server's time.

Members share the buckets evenly. A lease is renewed at a third of its life; whoever cannot renew
stops in time by its own monotonic clock, which started before the server's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from zlib import crc32

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from servicekit.mongo import Collection, Document, Mongo

BUCKETS = 16
COLLECTION = "leases"
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_UPSERT_RACES = 5


def bucket_of(key: bytes) -> int:
    return crc32(key) % BUCKETS


class Leases:
    """The buckets of one job (`outbox`, `scheduler`, ...) that this instance holds.

    One document a job: who takes part until when, and who has each bucket until when. Every change is one
    update that reads the server's clock and decides inside the write.
    """

    def __init__(
        self,
        mongo: Mongo,
        job: str,
        me: str,
        seconds: float = 10.0,
        able: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """able: whether this instance can do the job at all; while it cannot, others have its share."""
        self._mongo = mongo
        self._job = job
        self._me = me
        self._seconds = seconds
        self._held: frozenset[int] = frozenset()
        self._good_until = 0.0
        self._renew_at = 0.0
        self._renewal = _renewal(me, int(seconds * 1000))
        self._able = able
        self.stands_aside = False
        """Whether it left its share to others when last asked for it."""
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
        self.stands_aside = self._able is not None and not await self._able()
        if self.stands_aside:
            if self._held:
                await self.release()
            return frozenset()
        if time.monotonic() >= self._renew_at:
            await self.renew()
        return self._held if self.remaining() > 0 else frozenset()

    async def renew(self) -> None:
        asked = time.monotonic()
        job = await self._renewed()
        self.members = len(job["members"])
        self._held = frozenset(n for n, bucket in enumerate(job["buckets"]) if bucket["owner"] == self._me)
        self._good_until = asked + self._seconds * 0.9
        waits = len(self._held) < _share(self.members)
        self._renew_at = asked + min(0.5 if waits else self._seconds, self._seconds / 3)

    async def release(self) -> None:
        """Let the others have everything at once: for an orderly stop."""
        self._held, self._good_until, self._renew_at = frozenset(), 0.0, 0.0
        await self._collection.update_one({"_id": self._job}, _leaving(self._me))

    async def _renewed(self) -> Document:
        for _ in range(_UPSERT_RACES):
            try:
                job: Document = await self._collection.find_one_and_update(
                    {"_id": self._job}, self._renewal, upsert=True, return_document=ReturnDocument.AFTER
                )
                return job
            except DuplicateKeyError:
                continue  # another instance made the document at the same moment
        raise ConnectionError(f"the leases of {self._job} could not be made")


def _share(members: int) -> int:
    return -(-BUCKETS // members)


def _renewal(me: str, milliseconds: int) -> list[Document]:
    """Stay a member, keep or take a fair share of what is mine or free, and give back what is over it."""
    until = {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": milliseconds}}
    others = {
        "$filter": {
            "input": {"$ifNull": ["$members", []]},
            "cond": {"$and": [{"$ne": ["$$this.name", me]}, {"$gt": ["$$this.until", "$$NOW"]}]},
        }
    }
    free_bucket = {"owner": None, "until": _LONG_AGO}
    mine = {"$eq": ["$$this.owner", me]}
    free = {"$or": [{"$eq": ["$$this.owner", None]}, {"$lte": ["$$this.until", "$$NOW"]}]}
    kept = {"$and": [mine, {"$lt": ["$$value.kept", "$share"]}]}
    taken = {"$and": [free, {"$not": mine}, {"$lt": ["$$value.taken", {"$subtract": ["$share", "$mine"]}]}]}
    ours = {"owner": me, "until": until}
    after = {
        "$switch": {
            "branches": [
                {"case": {"$or": [kept, taken]}, "then": ours},
                {"case": mine, "then": free_bucket},
            ],
            "default": "$$this",
        }
    }
    return [
        {
            "$set": {
                "members": {"$concatArrays": [others, [{"name": me, "until": until}]]},
                "buckets": {"$ifNull": ["$buckets", [free_bucket] * BUCKETS]},
            }
        },
        {
            "$set": {
                "share": {"$ceil": {"$divide": [BUCKETS, {"$size": "$members"}]}},
                "mine": {"$size": {"$filter": {"input": "$buckets", "cond": mine}}},
            }
        },
        {
            "$set": {
                "buckets": {
                    "$reduce": {
                        "input": "$buckets",
                        "initialValue": {"kept": 0, "taken": 0, "buckets": []},
                        "in": {
                            "kept": {"$add": ["$$value.kept", {"$cond": [kept, 1, 0]}]},
                            "taken": {"$add": ["$$value.taken", {"$cond": [taken, 1, 0]}]},
                            "buckets": {"$concatArrays": ["$$value.buckets", [after]]},
                        },
                    }
                }
            }
        },
        {"$set": {"buckets": "$buckets.buckets"}},
        {"$unset": ["share", "mine"]},
    ]


def _leaving(me: str) -> list[Document]:
    free_bucket = {"owner": None, "until": _LONG_AGO}
    let_go = {"$cond": [{"$eq": ["$$this.owner", me]}, free_bucket, "$$this"]}
    return [
        {
            "$set": {
                "members": {"$filter": {"input": "$members", "cond": {"$ne": ["$$this.name", me]}}},
                "buckets": {"$map": {"input": "$buckets", "as": "this", "in": let_go}},
            }
        }
    ]
