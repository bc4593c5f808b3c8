"""The ledger, the counters it moves and the report cells, written together.

Whatever gives a target a row also writes that target's counters, and whatever touches an interaction
writes its head: so two transactions that could contradict each other collide, and one is decided again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zlib import crc32

from pymongo import ASCENDING, DESCENDING, DeleteOne, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from contracts.stats import AttemptCounters
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import bucket_of
from servicekit.mongo import Collection, Document, Mongo, Session, difference
from stats.adapters.mongo_cells import write_cells
from stats.domain.counters import COUNT, LAST, Lane, Tally
from stats.domain.ledger import ERASED, Erased, Row, TargetKey, is_contact

LEDGER = "ledger"
TARGETS = "targets"
MARKS = "changed_targets"

LEDGER_INDEXES = (
    IndexModel(
        [("target", ASCENDING), ("channel", ASCENDING), ("direction", ASCENDING), ("at", DESCENDING)],
        name="attempts_of_a_target",
    ),
    IndexModel([("waits", ASCENDING), ("_id", ASCENDING)], name="waiting", sparse=True),
)
# Counting touches no indexed field of a target: that would make the server compute the keys of all of them.
TARGET_INDEXES = (
    *(
        IndexModel(
            [("listed.target_type", ASCENDING), (f"listed.{column}", ASCENDING), ("_id", ASCENDING)],
            name=f"listed_by_{column}",
            partialFilterExpression={"listed.target_type": {"$exists": True}},
        )
        for column in AttemptCounters.model_fields
    ),
    IndexModel([("parent", ASCENDING), ("_id", ASCENDING)], name="children", sparse=True),
)
_NEVER = AttemptCounters().model_dump()
NOBODY = "nobody"
"""What `met` is once a target is gone. Whoever gives a target a row increments it, and a word cannot be:
a condition in the write that leaves its filter a bare `_id`, which the server finds without planning."""
_TYPE_MISMATCH = 14

MARK_INDEXES = (IndexModel([("bucket", ASCENDING), ("_id", ASCENDING)], name="to_announce"),)

Changed = tuple[Sequence[Row], Sequence[Row]]
"""The rows of one interaction before and after."""


@dataclass(slots=True)
class Work:
    """What one transaction writes."""

    changed: list[Changed] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    leaving: TargetKey | None = None
    """A target that is gone and may only lose rows."""

    def change(self, before: Sequence[Row], after: Sequence[Row]) -> None:
        self.changed.append((before, after))
        self.tally.change(before, after)

    def __bool__(self) -> bool:
        return bool(self.changed)


class MongoLedger:
    """Read inside `transaction`; what is read there cannot change before the commit unnoticed."""

    def __init__(self, mongo: Mongo, service: str, instance: str, consumer: int = 0) -> None:
        self._mongo = mongo
        self._before_transaction = Failpoint(f"{service}.before_transaction")
        self._before_commit = Failpoint(f"{service}.before_commit")
        self._after_transaction = Failpoint(f"{service}.after_transaction")
        self._between_ledger_and_counters = Failpoint(f"{service}.between_ledger_and_counters")
        # Replicas and consumers write cells of their own; a report adds them up. Shared ones would collide
        # all the time.
        self._shard = f"attempts-{(crc32(instance.encode()) + consumer) % 64}"

    @property
    def rows(self) -> Collection:
        return self._mongo[LEDGER]

    @property
    def targets(self) -> Collection:
        return self._mongo[TARGETS]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Commits at the end. Raises Conflict, with nothing written, if something moved meanwhile."""
        self._before_transaction()
        try:
            async with self._mongo.transaction() as session:
                yield session
                self._before_commit()
        except BulkWriteError as error:
            if _was_gone(error):
                raise Conflict(str(error)[:200]) from error
            raise
        self._after_transaction()

    async def interactions(self, heads: Iterable[str], session: Session) -> dict[str, list[Row]]:
        """All rows of each interaction that is known, head first."""
        found: dict[str, list[Row]] = {}
        others: list[str] = []
        async for head in self.rows.find({"_id": {"$in": list(heads)}}, session=session):
            found[head["_id"]] = [head]
            others += [f"+{len(target)}/{target}/{head['_id']}" for target in head.get("more", ())]
        if others:
            links = {
                row["_id"]: row async for row in self.rows.find({"_id": {"$in": others}}, session=session)
            }
            for id_, rows in found.items():
                rows += [links[f"+{len(target)}/{target}/{id_}"] for target in rows[0].get("more", ())]
        return found

    async def links_of(self, heads: Iterable[str]) -> dict[str, int]:
        """How many rows each interaction has that is known."""
        found = self.rows.find({"_id": {"$in": list(heads)}}, {"more": 1})
        return {head["_id"]: 1 + len(head.get("more", ())) async for head in found}

    async def gone(
        self, targets: Iterable[TargetKey], session: Session | None = None
    ) -> Mapping[TargetKey, TargetKey | Erased]:
        """Which of these were merged away or erased, and the same of their survivors."""
        gone: dict[TargetKey, TargetKey | Erased] = {}
        asked = set(targets)
        while asked:
            found = self.targets.find(
                {"_id": {"$in": list(asked)}, "gone": {"$exists": True}}, {"gone": 1}, session=session
            )
            fresh = {row["_id"]: row["gone"] async for row in found}
            gone |= fresh
            asked = {target for target in fresh.values() if target != ERASED and target not in gone}
        return gone

    async def write(self, work: Work, session: Session) -> None:
        """Rows first, so that what remains of a lane can be looked up with them in place."""
        await self._write_rows(work.changed, session)
        self._between_ledger_and_counters()
        updates, moved = await self._counter_updates(work, session)
        if updates:
            await self.targets.bulk_write(updates, ordered=False, session=session)
        await self.mark(moved, session)
        await write_cells(self._mongo, work.tally.cells, self._shard, session)

    async def mark(self, targets: Iterable[TargetKey], session: Session) -> None:
        """To be announced: a few rows for all of them, in the transaction that changes them."""
        if rows := marks_of(targets):
            await self._mongo[MARKS].insert_many(rows, ordered=False, session=session)

    async def _write_rows(self, changed: Sequence[Changed], session: Session) -> None:
        fresh: list[Row] = []
        operations: list[Any] = []
        for before, after in changed:
            if not before:
                fresh.extend(after)
                continue
            standing = {row["_id"]: row for row in before}
            for row in after:
                there = standing.pop(row["_id"], None)
                if there is None:
                    fresh.append(row)
                elif there != row:
                    operations.append(UpdateOne({"_id": row["_id"]}, difference(there, row)))
            operations += [DeleteOne({"_id": id_}) for id_ in standing]
        if fresh:
            await self.rows.insert_many(fresh, ordered=False, session=session)
        if operations:
            await self.rows.bulk_write(operations, ordered=False, session=session)

    async def _counter_updates(self, work: Work, session: Session) -> tuple[list[UpdateOne], set[TargetKey]]:
        """The updates, and the targets whose numbers they move."""
        tally, changes = work.tally, _Changes()
        for (target, channel, direction), count in tally.counts.items():
            if count:
                changes.of(target)["$inc"][f"channels.{channel}.{COUNT[direction]}"] = count
        for lane, at in tally.latest.items():
            if lane not in tally.fallen:
                target, channel, direction = lane
                dates = changes.of(target).setdefault("$max", {})
                dates[f"channels.{channel}.{LAST[direction]}"] = at
        for lane in tally.fallen:
            target, channel, direction = lane
            dates = changes.of(target).setdefault("$set", {})
            dates[f"channels.{channel}.{LAST[direction]}"] = await self.last_of(lane, session)
        moved = set(changes.updates)
        for target in tally.met - moved:
            # Nothing to count, but a merge or an erasure of the target must still collide with the new row.
            changes.updates[target] = {"$inc": {"met": 1}, "$setOnInsert": uncounted(target)}
        if work.leaving in moved:
            del changes.updates[work.leaving]["$inc"]["met"]
        updates = [
            UpdateOne({"_id": target}, update, upsert=True) for target, update in changes.updates.items()
        ]
        return updates, moved

    async def last_of(self, lane: Lane, session: Session | None = None) -> datetime | None:
        target, channel, direction = lane
        row = await self.rows.find_one(
            {
                "target": target,
                "channel": channel,
                "direction": direction,
                "deleted": {"$exists": False},
                "waits": {"$exists": False},
            },
            {"at": 1},
            sort=[("at", DESCENDING)],
            session=session,
        )
        return row["at"] if row else None


def uncounted(target: TargetKey) -> Document:
    """What a target has before anything counts for it: a contact is listed as never contacted."""
    if not is_contact(target):
        return {"version": 0}
    return {"version": 0, "listed": {"target_type": "contact", **_NEVER}}


def _was_gone(error: BulkWriteError) -> bool:
    return any(fault.get("code") == _TYPE_MISMATCH for fault in error.details.get("writeErrors", ()))


class _Changes:
    """One update for each target that moves."""

    def __init__(self) -> None:
        self.updates: dict[TargetKey, Document] = {}

    def of(self, target: TargetKey) -> Document:
        update = self.updates.get(target)
        if update is None:
            update = self.updates[target] = {"$inc": {"version": 1, "met": 1}}
        return update


def marks_of(targets: Iterable[TargetKey]) -> list[Document]:
    """One row for each bucket of the announcements that any of them is in."""
    buckets: dict[int, list[TargetKey]] = {}
    for target in targets:
        buckets.setdefault(bucket_of(target.partition("/")[2].encode()), []).append(target)
    return [{"bucket": bucket, "targets": inside} for bucket, inside in buckets.items()]
