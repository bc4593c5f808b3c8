"""Conversations, with the bucket that decides which replica watches them."""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from channel_sms.domain.conversation import Conversation, ConversationState
from servicekit.leases import bucket_of
from servicekit.mongo import Document, Mongo
from servicekit.unit_of_work import Store

COLLECTION = "conversations"
INDEXES = (
    IndexModel([("their_address", ASCENDING), ("state", ASCENDING)]),
    IndexModel([("contact_id", ASCENDING), ("_id", ASCENDING)]),
    IndexModel(
        [("deadline_at", ASCENDING)], partialFilterExpression={"state": ConversationState.AWAITING_REPLY}
    ),
)
_OPEN = {"$in": [s.value for s in ConversationState if s is not ConversationState.CONCLUDED]}


class Conversations(Store[Conversation]):
    def __init__(self, mongo: Mongo) -> None:
        super().__init__(mongo, COLLECTION, Conversation, "activity_id")

    def to_document(self, state: Conversation) -> Document:
        document = super().to_document(state)
        document["b"] = bucket_of(state.contact_id.encode())
        return document

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

    async def latest_with(self, address: str, our_address: str) -> Conversation | None:
        row = await self.collection.find_one(
            {"their_address": address, "our_address": our_address}, sort=[("opened_at", DESCENDING)]
        )
        return None if row is None else self.from_document(row)

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
