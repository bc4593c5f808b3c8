"""A service's own copy of somebody else's state, fed by a compacted topic. Older never overwrites newer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from contracts.message import Message
from servicekit.delivery import Delivery, Tombstone
from servicekit.mongo import DUPLICATE_KEY, Collection, Document, Mongo
from servicekit.verdict import Outcome, Unchanged

ERASED = 2**62
"""The version of an erased aggregate: newer than anything that may still arrive."""


def whole(message: Message) -> Document:
    return message.model_dump()


class Projection:
    """Documents by id, each with the version it was made from.

    document(message) -> what is kept of it; `_id` and `version` are added. A batch handler.
    """

    def __init__(
        self,
        mongo: Mongo,
        collection: str,
        document: Callable[[Any], Document] = whole,
        fresh_for: float = 0.5,
    ) -> None:
        self._mongo = mongo
        self.name = collection
        self.document = document
        self._fresh_for = fresh_for
        self._cached: dict[str, tuple[float, Document | None]] = {}

    @property
    def collection(self) -> Collection:
        return self._mongo[self.name]

    async def __call__(self, batch: Sequence[Delivery[Any] | Tombstone]) -> list[Outcome]:
        newest: dict[str, Document] = {}
        for delivery in batch:
            document = self._kept(delivery)
            standing = newest.get(document["_id"])
            if standing is None or document["version"] > standing["version"]:
                newest[document["_id"]] = document
        written = await self._write(newest.values())
        for id_ in newest:
            self._cached.pop(id_, None)
        stale = len(batch) - written
        outcomes: list[Outcome] = [None] * written
        return outcomes + [Unchanged("stale or repeated")] * stale

    def _kept(self, delivery: Delivery[Any] | Tombstone) -> Document:
        if isinstance(delivery, Tombstone):
            return {"_id": delivery.key, "version": ERASED, "erased": True}
        message = delivery.message
        return self.document(message) | {"_id": message.key(), "version": message.version}

    async def _write(self, documents: Iterable[Document]) -> int:
        operations = [
            ReplaceOne(
                {"_id": document["_id"], "version": {"$lt": document["version"]}}, document, upsert=True
            )
            for document in documents
        ]
        if not operations:
            return 0
        try:
            result = await self.collection.bulk_write(operations, ordered=False)
            return int(result.matched_count + result.upserted_count)
        except BulkWriteError as error:
            # An upsert whose filter missed collides with the newer document that is there: that is the point.
            if any(fault["code"] != DUPLICATE_KEY for fault in error.details["writeErrors"]):
                raise
            return int(error.details["nMatched"] + error.details["nUpserted"])

    async def get(self, ids: Iterable[str | None]) -> Mapping[str, Document]:
        """What is known of these ids, read now. Erased and unknown ones are absent."""
        wanted = {id_ for id_ in ids if id_ is not None}
        if not wanted:
            return {}
        found = self.collection.find({"_id": {"$in": list(wanted)}, "erased": {"$exists": False}})
        return {row["_id"]: row async for row in found}

    async def get_cached(self, ids: Iterable[str | None]) -> Mapping[str, Document]:
        """The same for small, slow-moving state: at most `fresh_for` seconds old."""
        now = time.monotonic()
        wanted = {id_ for id_ in ids if id_ is not None}
        stale = {id_ for id_ in wanted if id_ not in self._cached or self._cached[id_][0] < now}
        if stale:
            found = await self.get(stale)
            for id_ in stale:
                self._cached[id_] = (now + self._fresh_for, found.get(id_))
        known = {id_: self._cached[id_][1] for id_ in wanted}
        return {id_: document for id_, document in known.items() if document is not None}
