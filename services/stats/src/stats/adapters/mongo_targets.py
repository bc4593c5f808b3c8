"""Targets by their numbers, page by page, on indexed columns; and the ledger behind one of them.

Columns follow the counters within a fraction of a second, under load within seconds: they are written when a
change is announced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from servicekit.mongo import Document, Mongo
from stats.adapters.mongo_ledger import LEDGER, TARGETS
from stats.domain.ledger import TargetKey

Column = Literal[
    "contact_count",
    "contact_count_in",
    "contact_count_out",
    "last_contact_at",
    "last_contact_at_in",
    "last_contact_at_out",
]


@dataclass(frozen=True, slots=True)
class Filters:
    """All of them together. A target that was never contacted is not contacted since any time."""

    target_type: str = "contact"
    never_contacted: bool | None = None
    at_least: dict[Column, int] = field(default_factory=dict)
    at_most: dict[Column, int] = field(default_factory=dict)
    contacted_since: datetime | None = None
    not_contacted_since: datetime | None = None

    def query(self) -> Document:
        wanted: list[Document] = [{"listed.target_type": self.target_type}]
        if self.never_contacted is not None:
            wanted.append({"listed.contact_count": 0 if self.never_contacted else {"$gt": 0}})
        wanted += [{f"listed.{column}": {"$gte": value}} for column, value in self.at_least.items()]
        wanted += [{f"listed.{column}": {"$lte": value}} for column, value in self.at_most.items()]
        last = "listed.last_contact_at"
        if self.contacted_since is not None:
            wanted.append({last: {"$gte": self.contacted_since}})
        if self.not_contacted_since is not None:
            wanted.append({"$or": [{last: None}, {last: {"$lt": self.not_contacted_since}}]})
        return {"$and": wanted}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the previous page ended."""

    value: Any
    id: str


class MongoTargets:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def page(
        self, filters: Filters, column: Column, descending: bool, after: Place | None, limit: int
    ) -> list[Document]:
        wanted = filters.query()
        if after is not None:
            wanted["$and"].append(_beyond(f"listed.{column}", descending, after))
        order = -1 if descending else 1
        found = self._mongo[TARGETS].find(wanted).sort([(f"listed.{column}", order), ("_id", order)])
        rows: list[Document] = await found.limit(limit).to_list(limit)
        return rows

    async def ledger(self, target: TargetKey | None, after: str, limit: int) -> list[Document]:
        wanted: Document = {"_id": {"$gt": after}} if after else {}
        if target is not None:
            wanted["target"] = target
        found = self._mongo[LEDGER].find(wanted, {"pending": 0, "letters": 0}).sort("_id", 1)
        rows: list[Document] = await found.limit(limit).to_list(limit)
        return rows


def _beyond(column: str, descending: bool, after: Place) -> Document:
    """Null sorts before every number and time, and no comparison with one finds it."""
    further = "$lt" if descending else "$gt"
    same = {column: after.value, "_id": {further: after.id}}
    if after.value is None:
        return same if descending else {"$or": [same, {column: {"$ne": None}}]}
    ways: list[Document] = [same, {column: {further: after.value}}]
    if descending:
        ways.append({column: None})
    return {"$or": ways}
