"""Addresses that nothing may be sent to. `stopping`: an opt-out is being recorded; it blocks already."""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Sequence
from datetime import datetime

from pymongo import UpdateOne

from channel_sms.domain.inbound import Arrived
from servicekit.mongo import Collection, Document, Mongo, given, rows_behind
from servicekit.verdict import Write

COLLECTION = "suppressions"
_BLOCKING = {"$in": ["stopping", "active"]}


class MongoSuppressions:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def collection(self) -> Collection:
        return self._mongo[COLLECTION]

    async def listed(self, address: str | None, after: str | None, limit: int) -> list[Document]:
        """Those that opted out, and those that came back."""
        return await rows_behind(self.collection, after, limit, given(_id=address))

    async def among(self, addresses: Members[str]) -> set[str]:
        if not addresses:
            return set()
        rows = self.collection.find({"_id": {"$in": list(addresses)}, "state": _BLOCKING}, {"_id": 1})
        return {row["_id"] async for row in rows}

    async def active_among(self, addresses: Members[str]) -> set[str]:
        rows = self.collection.find({"_id": {"$in": list(addresses)}, "state": "active"}, {"_id": 1})
        return {row["_id"] async for row in rows}

    async def announce(self, addresses: Members[str]) -> None:
        """Block these addresses from now on, ahead of the transaction that records why."""
        stopping = {"$cond": [{"$eq": ["$state", "active"]}, "active", "stopping"]}
        await self.collection.bulk_write(
            [
                UpdateOne({"_id": address}, [{"$set": {"state": stopping}}], upsert=True)
                for address in addresses
            ],
            ordered=False,
        )


def opted_out(arrived: Arrived, contact_ids: Sequence[str]) -> Write:
    return Write(
        COLLECTION,
        {"_id": arrived.sender, "state": "stopping"},
        {
            "$set": {
                "state": "active",
                "since": arrived.received_at,
                "inbound_id": arrived.inbound_id,
                "contact_ids": list(contact_ids),
            }
        },
    )


def stays_stopped(arrived: Arrived) -> Write:
    """An opt-out that was announced and cannot be recorded stands, so that a START can lift it."""
    return Write(
        COLLECTION,
        {"_id": arrived.sender, "state": "stopping"},
        {"$set": {"state": "active", "since": arrived.received_at, "inbound_id": arrived.inbound_id}},
        must_match=False,
    )


def opted_in(arrived: Arrived, now: datetime) -> Write:
    return Write(
        COLLECTION,
        {"_id": arrived.sender, "state": "active"},
        {"$set": {"state": "lifted", "lifted_at": now, "lifted_by": arrived.inbound_id}},
    )
