"""Recount targets from the ledger, compare, and write what differs; beside live traffic.

Whatever moves a counter also moves the version of its target. So a recount that began at a version and is
written on condition of that version is exact, without holding anything: if the target moved meanwhile, it
is done again. Progress is kept with every page, and a killed run goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from contracts.vocabulary import Time
from servicekit.clock import Clock
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases, bucket_of
from servicekit.mongo import Document, Mongo
from servicekit.resting import rest
from servicekit.settings import ServiceSettings
from stats.adapters.mongo_ledger import LEDGER, MARKS, TARGETS, marks_of
from stats.domain.counters import Recount, canonical
from stats.domain.ledger import Row, TargetKey, target_key, target_of
from stats.use_cases.announce_counters import is_erased, listed

log = structlog.get_logger()

_AFTER_RECALCULATION_PAGE = Failpoint("stats.after_recalculation_page")
_BEFORE_MENDING = Failpoint("stats.before_mending")

RUNS = "recalculations"
DIFFERENCES = "recalculation_differences"
DIFFERENCE_INDEXES = (IndexModel([("run", ASCENDING), ("_id", ASCENDING)]),)

_IDLE_SECONDS = 0.5
_PAGE = 200
_MOST_WITHOUT_COUNTERS = 5
_TRIES = 20

Running = Literal["running", "paused", "finished", "cancelled"]


class Scope(BaseModel):
    """Which targets; without anything, all of them."""

    model_config = ConfigDict(extra="forbid")

    target_type: str | None = Field(default=None, max_length=64)
    target_id: str | None = Field(default=None, max_length=200)
    contacted_from: Time | None = None
    """Only targets with an attempt at or after this time."""
    contacted_to: Time | None = None
    """Only targets with an attempt before this time."""

    @property
    def fault(self) -> str | None:
        """What of it cannot be meant; everything would be recounted instead, or nothing."""
        if self.target_id is not None and self.target_type is None:
            return "A target_id needs a target_type."
        if self.contacted_from and self.contacted_to and self.contacted_from >= self.contacted_to:
            return "contacted_from is not before contacted_to."
        return None

    @property
    def is_filtered(self) -> bool:
        return self.contacted_from is not None or self.contacted_to is not None

    def includes(self, row: Row) -> bool:
        return (self.contacted_from is None or row["at"] >= self.contacted_from) and (
            self.contacted_to is None or row["at"] < self.contacted_to
        )


@dataclass(frozen=True, slots=True)
class Difference:
    target: TargetKey
    kept: dict[str, Any]
    counted: dict[str, Any]
    columns_only: bool = False
    """The numbers are right, but the columns of lists are not."""


class Recalculations:
    """The runs: asked for by anybody, carried out by whichever replica holds the lease."""

    def __init__(self, mongo: Mongo, clock: Clock, settings: ServiceSettings) -> None:
        self._mongo = mongo
        self._clock = clock
        self._leases = Leases(mongo, "recalculate", settings.instance, settings.lease_seconds)
        self._asked = asyncio.Event()
        self._rests: dict[str, float] = {}

    async def start(self, run_id: str, scope: Scope, dry_run: bool, targets_per_second: float | None) -> bool:
        """False if there is such a run already."""
        now = self._clock.now()
        try:
            await self._mongo[RUNS].insert_one(
                {
                    "_id": run_id,
                    "scope": scope.model_dump(exclude_none=True),
                    "dry_run": dry_run,
                    "targets_per_second": targets_per_second,
                    "state": "running",
                    "after": "",
                    "looked_at": 0,
                    "done_again": 0,
                    "expected": await self._expected(scope),
                    "started_at": now,
                    "changed_at": now,
                }
            )
        except DuplicateKeyError:
            return False
        self._asked.set()
        return True

    async def move(self, run_id: str, to: Running, of: Sequence[Running]) -> bool:
        """Pause, resume or cancel; False if the run is in no state for it."""
        result = await self._mongo[RUNS].update_one(
            {"_id": run_id, "state": {"$in": list(of)}},
            {"$set": {"state": to, "changed_at": self._clock.now()}},
        )
        self._asked.set()
        return bool(result.matched_count)

    async def get(self, run_id: str) -> Document | None:
        run: Document | None = await self._mongo[RUNS].find_one({"_id": run_id})
        return None if run is None else await self._with_differences(run)

    async def newest(self, limit: int) -> list[Document]:
        found = self._mongo[RUNS].find().sort("started_at", -1).limit(limit)
        return [await self._with_differences(run) async for run in found]

    async def _with_differences(self, run: Document) -> Document:
        count = self._mongo[DIFFERENCES].count_documents
        run["different"] = await count({"run": run["_id"]})
        run["written"] = await count({"run": run["_id"], "written": True})
        return run

    async def differences(self, run_id: str, after: str, limit: int) -> list[Document]:
        found = self._mongo[DIFFERENCES].find({"run": run_id, "_id": {"$gt": after}}).sort("_id", ASCENDING)
        rows: list[Document] = await found.limit(limit).to_list(limit)
        return rows

    async def run(self, stopping: asyncio.Event) -> None:
        """The background task."""
        while not stopping.is_set():
            buckets = await self._leases.held()
            rests: dict[str, float] = {}
            async for run in self._mongo[RUNS].find({"state": "running"}):
                if bucket_of(str(run["_id"]).encode()) in buckets:
                    until = self._rests.get(run["_id"], 0.0)
                    if until <= time.monotonic():
                        until = await self._carry_out(run, stopping)
                    rests[run["_id"]] = until
            self._rests = rests
            now = time.monotonic()
            await rest(
                stopping, min([_IDLE_SECONDS, *(until - now for until in rests.values())]), self._asked
            )
        await self._leases.release()

    async def _carry_out(self, run: Document, stopping: asyncio.Event) -> float:
        """To its end; one page, if it has a pace: meanwhile others go on. Until when it rests."""
        scope = Scope.model_validate(run["scope"])
        rate: float | None = run["targets_per_second"]
        size = min(_PAGE, max(1, math.ceil(rate))) if rate else _PAGE
        while not stopping.is_set() and await self._leases.held():
            began = time.monotonic()
            page = await self._look(scope, run["after"], size)
            run = await self._write_page(run, page)
            _AFTER_RECALCULATION_PAGE()
            if run["state"] != "running":
                log.info("recalculation stands", run=run["_id"], state=run["state"])
                break
            if rate:
                return began + page.looked_at / rate
        return 0.0

    async def _write_page(self, run: Document, page: Page) -> Document:
        again = 0
        for suspect in page.suspects:
            again += await self._mend(run["_id"], suspect, bool(run["dry_run"]))
        now = self._clock.now()
        fields: Document = {"changed_at": now}
        if page.last is None:
            fields |= {"state": "finished", "finished_at": now}
        else:
            fields["after"] = page.last
        moved: Document | None = await self._mongo[RUNS].find_one_and_update(
            {"_id": run["_id"], "state": "running", "after": run["after"]},
            {"$inc": {"looked_at": page.looked_at, "done_again": again}, "$set": fields},
            return_document=True,
        )
        # None: paused, or carried on by another replica because our lease had lapsed.
        return moved or {**run, "state": "elsewhere"}

    async def _mend(self, run: str, target: TargetKey, dry_run: bool) -> int:
        """Notes what differs, and writes it unless it is a dry run. Returns how often it moved meanwhile."""
        for attempt in range(_TRIES):
            kept = await self._mongo[TARGETS].find_one({"_id": target})
            counting = Recount()
            async for row in self._rows({"target": target}):
                counting.add(row)
            difference = compare(target, kept, counting.channels().get(target, {}))
            if difference is None or (difference.columns_only and await self._is_marked(target)):
                return attempt
            if difference.columns_only and await self._mongo[TARGETS].find_one({"_id": target}) != kept:
                continue
            await self._note(run, difference, written=not dry_run)
            if dry_run:
                now = await self._mongo[TARGETS].find_one({"_id": target}, {"version": 1})
                if (now or {}).get("version") == (kept or {}).get("version"):
                    return attempt
            elif await self._write(target, kept, difference.counted):
                return attempt
            await self._mongo[DIFFERENCES].delete_one({"_id": _difference_id(run, target)})
        log.warning("a target moves faster than it can be recounted")
        return _TRIES

    async def _is_marked(self, target: TargetKey) -> bool:
        """Whether its columns are about to be brought up to date."""
        return await self._mongo[MARKS].find_one({"targets": target}, {"_id": 1}) is not None

    async def _note(self, run: str, difference: Difference, written: bool) -> None:
        type_, target_id = target_of(difference.target)
        await self._mongo[DIFFERENCES].replace_one(
            {"_id": _difference_id(run, difference.target)},
            {
                "run": run,
                "target_type": type_,
                "target_id": target_id,
                "kept": difference.kept,
                "counted": difference.counted,
                "columns_only": difference.columns_only,
                "written": written,
            },
            upsert=True,
        )

    async def _write(self, target: TargetKey, kept: Document | None, counted: dict[str, Any]) -> bool:
        fields: Document = {"channels": counted}
        _BEFORE_MENDING()
        try:
            async with self._mongo.transaction() as session:
                if kept is None:
                    # Readers remember the version of the counters that are lost: start above any of those.
                    fields["version"] = int(self._clock.now().timestamp())
                    await self._mongo[TARGETS].insert_one({"_id": target, **fields}, session=session)
                else:
                    result = await self._mongo[TARGETS].update_one(
                        {"_id": target, "version": kept.get("version", 0)},
                        {"$set": fields, "$inc": {"version": 1}},
                        session=session,
                    )
                    if not result.matched_count:
                        return False
                await self._mongo[MARKS].insert_many(marks_of([target]), session=session)
        except Conflict:
            return False
        return True

    async def _look(self, scope: Scope, after: str, size: int) -> Page:
        """One page of targets: those that have counters, and those that only the ledger knows."""
        if scope.target_type is not None and scope.target_id is not None:
            only = target_key(scope.target_type, scope.target_id)
            return Page([only], 1, None)
        low, high = _range(scope)
        after = max(after, low)
        kept: list[Document] = await (
            self._mongo[TARGETS]
            .find({"_id": {"$gt": after, "$lt": high}})
            .sort("_id", ASCENDING)
            .limit(size)
            .to_list(size)
        )
        last = kept[-1]["_id"] if len(kept) == size else None
        until = {"$lte": last} if last is not None else {"$lt": high}
        counting = Recount()
        met: set[TargetKey] = set()
        included: set[TargetKey] = set()
        async for row in self._rows({"target": {"$gt": after, **until}}):
            target = row["target"]
            if target not in met:
                if len(met) == size * _MOST_WITHOUT_COUNTERS:
                    last = max(met)
                    break
                met.add(target)
            if scope.includes(row):
                included.add(target)
            counting.add(row)
        documents = {row["_id"]: row for row in kept if last is None or row["_id"] <= last}
        looked_at = included if scope.is_filtered else met | documents.keys()
        counted = counting.channels()
        suspects = [
            target
            for target in sorted(looked_at)
            if compare(target, documents.get(target), counted.get(target, {})) is not None
        ]
        return Page(suspects, len(looked_at), last)

    def _rows(self, wanted: Document) -> AsyncIterator[Row]:
        fields = {"target": 1, "channel": 1, "direction": 1, "at": 1, "deleted": 1, "waits": 1}
        found: AsyncIterator[Row] = (
            self._mongo[LEDGER].find(wanted, fields).sort("target", ASCENDING).batch_size(5000)
        )
        return found

    async def _expected(self, scope: Scope) -> int:
        if scope.target_type is None:
            return int(await self._mongo[TARGETS].estimated_document_count())
        low, high = _range(scope)
        return int(await self._mongo[TARGETS].count_documents({"_id": {"$gt": low, "$lt": high}}))


@dataclass(frozen=True, slots=True)
class Page:
    """Targets that seem to differ, how many were looked at, and where the next page begins."""

    suspects: Sequence[TargetKey]
    looked_at: int
    last: str | None


def _range(scope: Scope) -> tuple[str, str]:
    if scope.target_type is None:
        return "", "\x7f"
    return f"{scope.target_type}/", f"{scope.target_type}0"


def _difference_id(run: str, target: TargetKey) -> str:
    return f"{run}/{target}"


def compare(target: TargetKey, kept: Document | None, counted: Mapping[str, Any]) -> Difference | None:
    """None if the counters are what the ledger says."""
    is_ = canonical((kept or {}).get("channels"))
    should = canonical(counted)
    if is_ != should or (kept is None and should):
        return Difference(target, is_, should)
    if kept is None or is_erased(kept) or "listed" not in kept:
        return None
    return Difference(target, is_, should, columns_only=True) if kept["listed"] != listed(kept) else None


def outcome_of(run: Mapping[str, Any]) -> str:
    """`equal`, `written` (everything that differed) or `different`; null state while it is not over."""
    if run["state"] != "finished":
        return str(run["state"])
    if run["different"] == 0:
        return "equal"
    return "written" if run["written"] == run["different"] else "different"


def seconds_of(run: Mapping[str, Any], now: datetime) -> float:
    ended: datetime = run.get("finished_at") or now
    started: datetime = run["started_at"]
    return max(0.0, (ended - started).total_seconds())
