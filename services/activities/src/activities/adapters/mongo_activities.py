"""Finding activities: what is due, what is on somebody's list, and how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog
from pydantic import ValidationError
from pymongo import ASCENDING, DESCENDING, IndexModel

from activities.domain.activity import Activity
from contracts.reasons import Objection
from contracts.vocabulary import ActivityState, Mode
from servicekit.metrics import Metrics
from servicekit.mongo import Document, Mongo, given
from servicekit.unit_of_work import Store

log = structlog.get_logger()

_UP, _DOWN = ASCENDING, DESCENDING
_OLDEST_FIRST = [("rank", _DOWN), ("due_at", _UP), ("scheduled_at", _UP)]

# An update that touches one indexed field costs the server the keys of all indexes: few are worth theirs.
INDEXES = (
    IndexModel(
        [("hold", _UP), *_OLDEST_FIRST, ("bucket", _UP)],
        name="due",
        partialFilterExpression={"state": "scheduled"},
    ),
    IndexModel([("state", _UP), ("campaign_id", _UP), ("due_at", _UP)], name="state"),
    IndexModel([("contact_id", _UP), ("due_at", _UP)], name="contact"),
    IndexModel(
        [("batch_id", _UP), ("state", _UP)],
        name="batch",
        partialFilterExpression={"batch_id": {"$type": "string"}},
    ),
    IndexModel(
        [("state", _UP), ("assigned_to", _UP), ("rank", _DOWN), ("due_at", _UP)],
        name="worklist",
        partialFilterExpression={"mode": "manual"},
    ),
)

_ENOUGH = 10_000
SET_ASIDE = "set_aside"
"""The hold of one that cannot be read or decided; taken away by whoever mends what is wrong."""

Order = Literal["due", "urgency"]
_ORDERS: dict[Order, list[tuple[str, int]]] = {
    "due": [("due_at", _UP), ("_id", _UP)],
    "urgency": [("rank", _DOWN), ("due_at", _UP), ("_id", _UP)],
}


@dataclass(frozen=True, slots=True)
class Filters:
    """All of them together."""

    states: Sequence[ActivityState] | None = None
    mode: Mode | None = None
    campaign_id: str | None = None
    subject_id: str | None = None
    contact_id: str | None = None
    batch_id: str | None = None
    owner: str | None = None
    """Whom it is for, or assigned to."""
    due_before: datetime | None = None

    def query(self) -> Document:
        wanted = given(
            mode=self.mode,
            campaign_id=self.campaign_id,
            subject_id=self.subject_id,
            contact_id=self.contact_id,
            batch_id=self.batch_id,
        )
        if self.states:
            wanted["state"] = {"$in": list(self.states)}
        if self.owner is not None:
            wanted["$or"] = [{"owner": self.owner}, {"assigned_to": self.owner}]
        if self.due_before is not None:
            wanted["due_at"] = {"$lt": self.due_before}
        return wanted


class MongoActivities:
    def __init__(self, mongo: Mongo, store: Store[Activity], metrics: Metrics) -> None:
        self._mongo = mongo
        self._store = store
        self._set_aside = metrics.set_aside.labels("activity")

    async def due(
        self, buckets: Iterable[int], now: datetime, limit: int, released: Sequence[str]
    ) -> list[Activity]:
        ready = {"state": "scheduled", "due_at": {"$lte": now}, "bucket": {"$in": sorted(buckets)}}
        found = await self._oldest({"hold": None} | ready, limit)
        if len(found) < limit and released:
            held = await self._store.collection.find_one(
                {"hold": {"$in": list(released)}} | ready, {"hold": True}
            )
            if held is not None:
                found += await self._oldest({"hold": held["hold"]} | ready, limit - len(found))
        return found

    async def to_forget(self, contact_ids: Iterable[str]) -> list[str]:
        wanted = {
            "contact_id": {"$in": list(contact_ids)},
            "$or": [
                {"state": {"$ne": "purged"}},
                # As an earlier release purged it, perhaps.
                {"reason": {"$nin": [None, Objection.CONTACT_ERASED.value]}},
                {"late_outcomes.reason": {"$type": "string"}},
            ],
        }
        return [row["_id"] async for row in self._store.collection.find(wanted, {"_id": True})]

    async def count_due(self, now: datetime) -> int:
        """How many the scheduler could move on, up to a number that says enough."""
        ready = {"hold": None, "state": "scheduled", "due_at": {"$lte": now}}
        count: int = await self._store.collection.count_documents(ready, hint="due", limit=_ENOUGH)
        return count

    async def _oldest(self, wanted: Document, limit: int) -> list[Activity]:
        found = self._store.collection.find(wanted).sort(_OLDEST_FIRST).hint("due").limit(limit)
        return await self._readable(await found.to_list(limit))

    async def _readable(self, rows: Sequence[Document]) -> list[Activity]:
        """One that somebody broke is set aside, so that it does not stop the others."""
        as_found = [(row["_id"], row.get("version")) for row in rows]
        read = self._read(rows)
        for (id_, version), activity in zip(as_found, read, strict=True):
            if activity is None:
                await self.set_aside(id_, version)
        return [activity for activity in read if activity is not None]

    def _read(self, rows: Iterable[Document]) -> list[Activity | None]:
        """None in the place of one that cannot be read."""
        read: list[Activity | None] = []
        for row in rows:
            id_ = row["_id"]
            try:
                read.append(self._store.from_document(row))
            except ValidationError as wrong:
                what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors()[:3])
                log.error("an activity cannot be read", activity_id=id_, what=what)
                read.append(None)
        return read

    async def set_aside(self, activity_id: str, version: object) -> None:
        as_it_was = {"_id": activity_id, "version": version, "state": ActivityState.SCHEDULED.value}
        aside = await self._store.collection.update_one(as_it_was, {"$set": {"hold": SET_ASIDE}})
        self._set_aside.inc(aside.matched_count)

    async def page(
        self, wanted: Document, order: Order, limit: int, after: Sequence[Any] | None
    ) -> list[Activity]:
        """after: what the order sorts by, of the last one before. What cannot be read is left out."""
        keys = _ORDERS[order]
        page: list[Activity] = []
        while (missing := limit - len(page)) > 0:
            query = {"$and": [wanted, _after(keys, after)]} if after else wanted
            rows = await self._store.collection.find(query).sort(keys).limit(missing).to_list(missing)
            after = [rows[-1][key] for key, _ in keys] if rows else None
            page += filter(None, self._read(rows))
            if len(rows) < missing:
                break
        return page

    async def worklist(self, agent: str, limit: int) -> list[Activity]:
        """What an agent should do next: their own and anybody's, the urgent first, then by time."""
        theirs = {"assigned_to": agent, "state": {"$in": ["assigned", "in_progress"]}}
        wanted = {"mode": Mode.MANUAL.value, "$or": [theirs, {"state": "available"}]}
        rows = await self._store.collection.find(wanted).sort(_ORDERS["urgency"]).limit(limit).to_list(limit)
        return list(filter(None, self._read(rows)))

    async def counts(self, campaign_id: str | None, batch_id: str | None) -> dict[str, int]:
        match: Document = {"state": {"$in": [state.value for state in ActivityState]}}
        if campaign_id is not None:
            match["campaign_id"] = campaign_id
        if batch_id is not None:
            match["batch_id"] = batch_id
        rows = await self._mongo.aggregate(
            self._store.name, [{"$match": match}, {"$group": {"_id": "$state", "count": {"$sum": 1}}}]
        )
        found = {row["_id"]: row["count"] for row in rows}
        return {state.value: found.get(state.value, 0) for state in ActivityState}


def _after(keys: Sequence[tuple[str, int]], place: Sequence[Any]) -> Document:
    """Rows behind the one with these values, in this order."""
    values = dict(zip((key for key, _ in keys), place, strict=True))
    steps = []
    for position, (key, direction) in enumerate(keys):
        same = {earlier: values[earlier] for earlier, _ in keys[:position]}
        steps.append(same | {key: {"$gt" if direction == _UP else "$lt": values[key]}})
    return {"$or": steps}
