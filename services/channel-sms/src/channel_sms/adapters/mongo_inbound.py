"""What webhooks brought: stored before they are answered, worked afterwards."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection as Members
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError

from channel_sms.domain.inbound import Arrived
from servicekit.failpoints import Failpoint
from servicekit.mongo import DUPLICATE_KEY, Collection, Document, Mongo, rows_behind
from servicekit.verdict import Write

INBOUND = "inbound"
RECEIPTS = "receipts"
INBOUND_INDEXES = (
    IndexModel([("stored_real_at", ASCENDING)], partialFilterExpression={"state": "new"}, name="new"),
    IndexModel([("activity_id", ASCENDING)]),
    IndexModel(
        [("contact_id", ASCENDING)],
        partialFilterExpression={"contact_id": {"$exists": True}},
        name="of_a_contact",
    ),
    IndexModel([("sender", ASCENDING)], name="from"),
    IndexModel([("state", ASCENDING), ("_id", ASCENDING)]),
)
RECEIPT_INDEXES = (IndexModel([("stored_real_at", ASCENDING)]),)


class MongoIntake:
    """Inserts what arrives: everything that waits goes in one write, and each caller learns when it is safe.

    A document with an id that is already there was delivered before; that is as good as stored.
    """

    def __init__(self, mongo: Mongo, collection: str) -> None:
        self._mongo = mongo
        self._name = collection
        self._before_store = Failpoint(f"channel-sms.before_store_{collection}")
        self._after_store = Failpoint(f"channel-sms.after_store_{collection}")
        self._waiting: list[tuple[Document, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self.stored = asyncio.Event()
        self.failed_at = -math.inf
        """Monotonic time at which something could not be stored: whoever brought it comes again."""

    async def store(self, document: Document) -> None:
        """Returns when the document is in the database, by this call or an earlier one."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((document, waiter))
        if self._task is None:
            self._task = asyncio.create_task(self._insert(), name=f"store {self._name}")
        await waiter

    async def _insert(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:500], self._waiting[500:]
                failure: Exception | None = None
                try:
                    self._before_store()
                    await self._insert_many([document for document, _ in batch])
                    self._after_store()
                except Exception as error:
                    failure = error
                    self.failed_at = time.monotonic()
                for _, waiter in batch:
                    if waiter.done():
                        continue
                    if failure is None:
                        waiter.set_result(None)
                    else:
                        waiter.set_exception(failure)
                self.stored.set()
        finally:
            self._task = None

    async def _insert_many(self, documents: Sequence[Document]) -> None:
        try:
            await self._mongo[self._name].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if any(fault["code"] != DUPLICATE_KEY for fault in error.details["writeErrors"]):
                raise


class MongoInbound:
    """Stored messages of people."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def collection(self) -> Collection:
        return self._mongo[INBOUND]

    async def new(self, buckets: Members[int], limit: int) -> list[Arrived]:
        rows = await (
            self.collection.find({"state": "new", "b": {"$in": list(buckets)}})
            .sort("stored_real_at", ASCENDING)
            .limit(limit)
            .to_list(limit)
        )
        return [
            Arrived(row["_id"], row["sender"], row["to"], row["text"], row["received_at"], row.get("trace"))
            for row in rows
        ]

    async def unmatched(self, after: str | None, limit: int) -> list[Document]:
        """What led to nothing: no conversation knows it, or it could not be worked."""
        return await rows_behind(self.collection, after, limit, {"state": "unmatched"})

    async def unworked_from(self, senders: Iterable[str]) -> set[str]:
        """Those of the numbers that wrote something nobody has worked yet."""
        rows = self.collection.find({"state": "new", "sender": {"$in": list(senders)}}, {"sender": 1})
        return {row["sender"] async for row in rows}

    async def of_activity(self, activity_id: str) -> list[Document]:
        return [row async for row in self.collection.find({"activity_id": activity_id})]

    async def senders_of(self, contact_id: str) -> set[str]:
        """The numbers that a contact wrote from."""
        rows = self.collection.find({"contact_id": contact_id}, {"sender": True})
        return {row["sender"] async for row in rows}

    async def forget(self, contact_id: str) -> None:
        """Take words and numbers from what somebody wrote who was erased."""
        await self._blank({"contact_id": contact_id, "sender": {"$ne": ""}})

    async def forget_nobodys(self, addresses: Members[str], before: datetime) -> None:
        """The same for what came from their numbers and led to nobody, up to this real time: a STOP too,
        which is worked whoever wrote it."""
        await self._blank(
            {
                "sender": {"$in": list(addresses)},
                "contact_id": None,
                "state": {"$ne": "new"},
                "stored_real_at": {"$lt": before},
            }
        )

    async def _blank(self, rows: Document) -> None:
        await self.collection.update_many(rows, {"$set": {"sender": "", "text": ""}})

    async def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """By state: all, and those that led to no contact; of what is new nobody knows yet."""
        nobodys = {"$cond": [{"$ifNull": ["$contact_id", None]}, 0, 1]}
        group = {"_id": "$state", "n": {"$sum": 1}, "nobodys": {"$sum": nobodys}}
        rows = await self._mongo.aggregate(INBOUND, [{"$group": group}])
        return (
            {row["_id"]: row["n"] for row in rows},
            {row["_id"]: row["nobodys"] for row in rows if row["nobodys"] and row["_id"] != "new"},
        )


def worked(arrived: Arrived, now: datetime, state: str, **known: Any) -> Write:
    return Write(
        INBOUND,
        {"_id": arrived.inbound_id, "state": "new"},
        {"$set": {"state": state, "worked_at": now, **known}},
    )


def left_to_people(arrived: Arrived, now: datetime, error: Exception) -> Write:
    """It cannot be worked, for reasons of its own."""
    return worked(arrived, now, "unmatched", error=type(error).__name__)


class MongoReceipts:
    """Stored delivery receipts; gone once they are worked."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def collection(self) -> Collection:
        return self._mongo[RECEIPTS]

    async def waiting(self, buckets: Members[int], limit: int, without: Iterable[str] = ()) -> list[Document]:
        wanted: Document = {"b": {"$in": list(buckets)}}
        if left := list(without):
            wanted["_id"] = {"$nin": left}
        rows: list[Document] = await (
            self.collection.find(wanted).sort("stored_real_at", ASCENDING).limit(limit).to_list(limit)
        )
        return rows

    async def forget(self, ids: Iterable[str]) -> None:
        await self.collection.delete_many({"_id": {"$in": list(ids)}})
