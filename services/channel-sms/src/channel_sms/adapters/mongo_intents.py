"""Intents: the write-ahead log of everything that may be sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection as Members
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from pymongo import ASCENDING, IndexModel

from channel_sms.domain.intent import Intent, IntentState, Purpose
from servicekit.clock import real_now
from servicekit.leases import bucket_of
from servicekit.mongo import Collection, Document, Mongo, given, rows_behind
from servicekit.unit_of_work import Changes
from servicekit.verdict import Write

COLLECTION = "intents"
_ENOUGH = 10_000
_BETWEEN_LOOKS = 0.02
_IN_DOUBT = [IntentState.SENDING.value, IntentState.UNKNOWN.value]
INDEXES = (
    # Few are being sent or unknown, so that the order of pending ones serves them too.
    IndexModel(
        [("state", ASCENDING), ("send_at", ASCENDING)],
        partialFilterExpression={"state": {"$in": [IntentState.PENDING, *_IN_DOUBT]}},
        name="open",
    ),
    IndexModel([("to", ASCENDING), ("state", ASCENDING)]),
    IndexModel([("activity_id", ASCENDING)]),
    IndexModel([("contact_id", ASCENDING)]),
    IndexModel(
        [("provider_message_id", ASCENDING)],
        unique=True,
        partialFilterExpression={"provider_message_id": {"$type": "string"}},
    ),
)
_FIELDS = tuple(field.name for field in fields(Intent) if field.name != "intent_id")


def to_document(intent: Intent) -> Document:
    document: Document = {name: getattr(intent, name) for name in _FIELDS}
    document["_id"] = intent.intent_id
    document["b"] = bucket_of(intent.contact_id.encode())
    return {name: value for name, value in document.items() if value is not None}


def from_document(document: Document) -> Intent:
    document["intent_id"] = document.pop("_id")
    document.pop("b", None)
    document["state"] = IntentState(document["state"])
    document["purpose"] = Purpose(document["purpose"])
    return Intent(**document)


def new(intent: Intent, trace: str | None) -> Write:
    """Once, however often it is written."""
    document = to_document(intent)
    if trace is not None:
        document["trace"] = trace
    id_ = document.pop("_id")
    return Write.once(COLLECTION, id_, **document)


def are_added(changes: Changes) -> bool:
    return any(write.collection == COLLECTION and write.upsert for write in changes.also)


def change(intent: Intent, **changes: Any) -> Write:
    """On the condition that it is still as it was read."""
    return Write(
        COLLECTION,
        {"_id": intent.intent_id, "version": intent.version},
        {"$set": {**changes, "version": intent.version + 1}},
    )


def cancelled(intent_id: str) -> Write:
    """Not sent, if it still waits for its time."""
    return Write(
        COLLECTION,
        {"_id": intent_id, "state": IntentState.PENDING},
        {"$set": {"state": IntentState.CANCELLED}, "$inc": {"version": 1}},
        must_match=False,
    )


def _due(now: datetime, campaigns_at_rest: Members[str]) -> Document:
    """What waits for nothing but a sender; a campaign at rest begins no conversation."""
    query: Document = {"state": IntentState.PENDING, "send_at": {"$lte": now}}
    if campaigns_at_rest:
        query["$nor"] = [{"purpose": Purpose.OPENING, "campaign_id": {"$in": list(campaigns_at_rest)}}]
    return query


class MongoIntents:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def collection(self) -> Collection:
        return self._mongo[COLLECTION]

    async def load(self, ids: Iterable[str]) -> dict[str, Intent]:
        rows = self.collection.find({"_id": {"$in": list(ids)}})
        return {row["_id"]: from_document(row) async for row in rows}

    async def listed(
        self, state: IntentState | None, activity_id: str | None, after: str | None, limit: int
    ) -> list[Intent]:
        wanted = given(state=state, activity_id=activity_id)
        return [from_document(row) for row in await rows_behind(self.collection, after, limit, wanted)]

    async def due(
        self,
        now: datetime,
        real_now: datetime,
        buckets: Members[int],
        endpoints_at_rest: Members[str],
        campaigns_at_rest: Members[str],
        limit: int,
    ) -> list[Intent]:
        query = _due(now, campaigns_at_rest) | {
            "b": {"$in": list(buckets)},
            "$or": [{"retry_real_at": None}, {"retry_real_at": {"$lte": real_now}}],
        }
        if endpoints_at_rest:
            query["endpoint_id"] = {"$nin": list(endpoints_at_rest)}
        rows = await self.collection.find(query).sort("send_at", ASCENDING).limit(limit).to_list(limit)
        return [from_document(row) for row in rows]

    async def claim(self, due: Sequence[Intent], now: datetime, real_now: datetime) -> list[Intent]:
        """Mark as being sent; returns only what nobody else took, as it now stands."""
        token = uuid4().hex
        marked: dict[str, Any] = {
            "state": IntentState.SENDING,
            "claim": token,
            "claimed_at": now,
            "claimed_real_at": real_now,
        }
        ids = [intent.intent_id for intent in due]
        # What was never claimed and still waits is as it was read: it need not be read again.
        are_first = all(intent.attempts == 0 for intent in due)
        still: Document = {"state": IntentState.PENDING} | ({"attempts": 0} if are_first else {})
        result = await self.collection.update_many(
            {"_id": {"$in": ids}} | still,
            {
                "$set": marked,
                "$inc": {"attempts": 1, "version": 1},
                "$unset": {"retry_real_at": "", "absent_real_at": "", "unknown_real_at": ""},
            },
        )
        if not result.modified_count:
            return []
        if are_first and result.modified_count == len(ids):
            return [
                replace(intent, **marked, attempts=1, version=intent.version + 1, retry_real_at=None)
                for intent in due
            ]
        rows = await self.collection.find({"_id": {"$in": ids}, "claim": token}).to_list(len(ids))
        return [from_document(row) for row in rows]

    async def none_is_being_sent_to(self, addresses: Members[str], window: timedelta) -> None:
        """Returns when nothing that was claimed before can still be written to a socket.

        window: how long after its claim that is possible, and how long this takes at the most: what is
        claimed from now on is the business of whoever claims it.
        """
        until = time.monotonic() + window.total_seconds()
        while time.monotonic() < until:
            if not await self._being_sent_to(addresses, real_now() - window):
                return
            await asyncio.sleep(_BETWEEN_LOOKS)

    async def _being_sent_to(self, addresses: Members[str], since: datetime) -> int:
        count: int = await self.collection.count_documents(
            {"to": {"$in": list(addresses)}, "state": IntentState.SENDING, "claimed_real_at": {"$gt": since}}
        )
        return count

    async def orphans(
        self, before: datetime, buckets: Members[int], limit: int, held: Iterable[str]
    ) -> list[Intent]:
        """Claimed before that time and not settled; held: ids of those that somebody is going to settle."""
        rows = self.collection.find(
            {
                "state": IntentState.SENDING,
                "claimed_real_at": {"$lt": before},
                "b": {"$in": list(buckets)},
                "_id": {"$nin": list(held)},
            },
            limit=limit,
        )
        return [from_document(row) async for row in rows]

    async def to_look_up(self, real_now: datetime, buckets: Members[int], limit: int) -> list[Intent]:
        rows = self.collection.find(
            {
                "state": IntentState.UNKNOWN,
                "look_real_at": {"$lte": real_now},
                "b": {"$in": list(buckets)},
            },
            sort=[("look_real_at", ASCENDING)],
            limit=limit,
        )
        return [from_document(row) async for row in rows]

    async def count_due(self, now: datetime, campaigns_at_rest: Members[str]) -> int:
        """How many could leave by now, up to a number that says enough."""
        count: int = await self.collection.count_documents(_due(now, campaigns_at_rest), limit=_ENOUGH)
        return count

    async def count_unknown(self) -> int:
        count: int = await self.collection.count_documents({"state": IntentState.UNKNOWN})
        return count

    async def holders_of(self, candidates: Iterable[str]) -> Mapping[str, str]:
        """The intents that have these ids of the provider, by such an id."""
        rows = self.collection.find(
            {"provider_message_id": {"$in": list(candidates)}}, {"provider_message_id": 1}
        )
        return {row["provider_message_id"]: row["_id"] async for row in rows}

    async def others_in_doubt(self, intent: Intent, claimed_since: datetime) -> int:
        """Messages of the same words between the same numbers whose fate is open too, or that were claimed
        since then and of which a person said that they were sent, without the provider's id."""
        vouched_for: Document = {
            "state": IntentState.SENT,
            "provider_message_id": {"$exists": False},
            "claimed_real_at": {"$gte": claimed_since},
        }
        count: int = await self.collection.count_documents(
            {
                "to": intent.to,
                "$or": [{"state": {"$in": _IN_DOUBT}}, vouched_for],
                "sender": intent.sender,
                "text": intent.text,
                "_id": {"$ne": intent.intent_id},
            }
        )
        return count

    async def of_activity(self, activity_id: str) -> list[Intent]:
        rows = self.collection.find({"activity_id": activity_id})
        return [from_document(row) async for row in rows]

    async def forget(self, contact_id: str) -> int:
        """Take words and numbers from what was written to somebody who was erased.

        Returns how many keep them, because nobody knows yet what became of them. One that was told to be
        unknown is not looked for any more, though a receipt may still settle it.
        """
        theirs: Document = {"contact_id": contact_id, "to": {"$ne": ""}}
        await self.collection.update_many(
            {**theirs, "state": IntentState.PENDING},
            {"$set": {"state": IntentState.CANCELLED}, "$inc": {"version": 1}},
        )
        given_up: Document = {"state": IntentState.UNKNOWN, "reported_unknown": True}
        await self.collection.update_many(
            {**theirs, "$or": [{"state": {"$nin": [*_IN_DOUBT, IntentState.PENDING]}}, given_up]},
            {
                "$set": {"to": "", "text": ""},
                "$unset": {"error": "", "look_real_at": ""},
                "$inc": {"version": 1},
            },
        )
        left: int = await self.collection.count_documents(theirs)
        return left

    async def counts(self) -> Mapping[str, int]:
        """Outgoing messages by what became of them: the delivery status if sent, else the intent's state."""
        rows = await self._mongo.aggregate(
            COLLECTION,
            [{"$group": {"_id": {"$ifNull": ["$status", "$state"]}, "n": {"$sum": 1}}}],
        )
        return {row["_id"]: row["n"] for row in rows}


def expiry(real_now: datetime, validity_seconds: float) -> datetime:
    return real_now + timedelta(seconds=validity_seconds)
