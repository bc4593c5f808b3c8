"""Conversations, with the bucket that decides which replica watches them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from collections.abc import Collection as Members
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from channel_sms.domain.conversation import Conversation, ConversationState
from servicekit.leases import bucket_of
from servicekit.mongo import Document, Mongo, given
from servicekit.unit_of_work import Store
from servicekit.verdict import Write

COLLECTION = "conversations"
INDEXES = (
    IndexModel([("their_address", ASCENDING), ("state", ASCENDING)]),
    IndexModel([("contact_id", ASCENDING), ("_id", ASCENDING)]),
    IndexModel(
        [("deadline_at", ASCENDING)], partialFilterExpression={"state": ConversationState.AWAITING_REPLY}
    ),
)
_OPEN = {"$in": [s.value for s in ConversationState if s is not ConversationState.CONCLUDED]}


class MongoConversations(Store[Conversation]):
    def __init__(self, mongo: Mongo) -> None:
        super().__init__(mongo, COLLECTION, Conversation, "activity_id")

    def to_document(self, state: Conversation) -> Document:
        document = super().to_document(state)
        document["b"] = bucket_of(state.contact_id.encode())
        return document

    async def listed(
        self,
        activity_id: str | None,
        contact_id: str | None,
        state: ConversationState | None,
        after: str | None,
        limit: int,
    ) -> list[Conversation]:
        return await self.page(after, limit, given(_id=activity_id, contact_id=contact_id, state=state))

    async def open_with(
        self, addresses: Iterable[str], contact_ids: Iterable[str] = ()
    ) -> list[Conversation]:
        """Open conversations with these numbers or these contacts, latest first."""
        who = [{"their_address": {"$in": list(addresses)}}]
        if contact_ids := list(contact_ids):
            who.append({"contact_id": {"$in": contact_ids}})
        query: dict[str, Any] = {"$or": who} if len(who) > 1 else who[0]
        rows = self.collection.find({**query, "state": _OPEN})
        found = [self.from_document(row) async for row in rows]
        return sorted(found, key=lambda conversation: conversation.opened_at, reverse=True)

    async def of_contact(self, contact_id: str) -> AsyncIterator[Conversation]:
        async for row in self.collection.find({"contact_id": contact_id}):
            yield self.from_document(row)

    async def concluded_among(self, activity_ids: Iterable[str | None]) -> set[str]:
        wanted = {id_ for id_ in activity_ids if id_ is not None}
        if not wanted:
            return set()
        query = {"_id": {"$in": list(wanted)}, "state": ConversationState.CONCLUDED}
        return {row["_id"] async for row in self.collection.find(query, {"_id": 1})}

    async def latest_with(self, pairs: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Conversation]:
        """The latest one of each (their number, ours), open or not."""
        rows = await self._mongo.aggregate(
            COLLECTION,
            [
                {
                    "$match": {
                        "$or": [{"their_address": theirs, "our_address": ours} for theirs, ours in pairs]
                    }
                },
                {"$sort": {"opened_at": DESCENDING}},
                {"$group": {"_id": ["$their_address", "$our_address"], "latest": {"$first": "$$ROOT"}}},
            ],
        )
        found = [self.from_document(row["latest"]) for row in rows]
        return {(latest.their_address, latest.our_address): latest for latest in found}

    async def overdue(self, now: datetime, buckets: Members[int], limit: int) -> Sequence[Conversation]:
        rows = self.collection.find(
            {
                "state": ConversationState.AWAITING_REPLY,
                "deadline_at": {"$lte": now},
                "b": {"$in": list(buckets)},
            },
            sort=[("deadline_at", ASCENDING)],
            limit=limit,
        )
        return [self.from_document(row) async for row in rows]


def awaits_reply(activity_id: str, intent_id: str, until: datetime, now: datetime) -> Write:
    """Its message was sent, if that is still the one it waited for."""
    return Write(
        COLLECTION,
        {"_id": activity_id, "intent_id": intent_id},
        {
            "$set": {
                "state": ConversationState.AWAITING_REPLY,
                "deadline_at": until,
                "intent_id": None,
                "changed_at": now,
            },
            "$inc": {"version": 1},
        },
        must_match=False,
    )
