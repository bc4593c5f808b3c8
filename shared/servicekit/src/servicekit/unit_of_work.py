"""Load all, decide each message purely and in order, write everything in one transaction.

The author of a decision sees one message, one state and one verdict. If anything moved meanwhile,
nothing was written: the batch is decided again from fresh state, and then message by message, so that
one stale row never costs the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar, cast, overload

import structlog
from pydantic import BaseModel
from pymongo import InsertOne, UpdateOne

from contracts.message import Message
from servicekit.conflicts import TRIES, Conflict, undisputed, yield_to_others
from servicekit.delivery import Delivery
from servicekit.failpoints import Failpoint
from servicekit.metrics import Metrics
from servicekit.mongo import Collection, Document, Mongo, Session, difference, rows_behind
from servicekit.outbox import Outbox
from servicekit.refusals import TooLargeToAnnounce, expect_none_if_asked, expect_version
from servicekit.tracing import current_traceparent, span
from servicekit.verdict import Become, GiveUp, Outcome, TryAgain, Unchanged, Verdict, Versioned, Write

log = structlog.get_logger()

S = TypeVar("S", bound=Versioned)
M = TypeVar("M", bound=Message)
F = TypeVar("F")


class Store(Generic[S]):
    """The aggregates of one collection: pydantic models with a version; their id is `_id`."""

    def __init__(self, mongo: Mongo, collection: str, model: type[S], id_field: str) -> None:
        self._mongo = mongo
        self.name = collection
        self._model = model
        self._id = id_field

    @property
    def collection(self) -> Collection:
        return self._mongo[self.name]

    def to_document(self, state: S) -> Document:
        document: Document = cast(BaseModel, state).model_dump()
        document["_id"] = document.pop(self._id)
        return document

    def from_document(self, document: Document) -> S:
        document[self._id] = document.pop("_id")
        return cast(S, cast(type[BaseModel], self._model).model_validate(document))

    def write(self, before: S | None, after: S) -> InsertOne[Document] | UpdateOne:
        """What makes one state of another, provided that it is still the one that was read.

        Only what differs is written: a replaced document costs the server the keys of all its indexes.
        """
        document = self.to_document(after)
        if before is None:
            return InsertOne(document)
        still = {"_id": document["_id"], "version": before.version}
        return UpdateOne(still, difference(self.to_document(before), document))

    def id_of(self, state: S) -> str:
        return str(getattr(state, self._id))

    async def load(self, ids: Sequence[str]) -> dict[str, S]:
        if not ids:
            return {}
        found = self.collection.find({"_id": {"$in": list(ids)}})
        return {row["_id"]: self.from_document(row) async for row in found}

    async def get(self, id_: str) -> S | None:
        row = await self.collection.find_one({"_id": id_})
        return None if row is None else self.from_document(row)

    async def page(self, after: str | None, limit: int, wanted: Document | None = None) -> list[S]:
        """In the order of their ids, behind that one."""
        rows = await rows_behind(self.collection, after, limit, wanted)
        return [self.from_document(row) for row in rows]


@dataclass(slots=True)
class Changes:
    """Everything one transaction writes."""

    replaced: list[tuple[Store[Any], Any | None, Any]] = field(default_factory=list)
    """(store, state as it was read or None if there was none, new state)."""
    rows: list[Document] = field(default_factory=list)
    also: list[Write] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.replaced or self.rows or self.also)


class Committer:
    """Writes changes and outbox rows together, or raises Conflict and writes nothing."""

    def __init__(self, mongo: Mongo, outbox: Outbox, service: str) -> None:
        self._mongo = mongo
        self.outbox = outbox
        self._before_transaction = Failpoint(f"{service}.before_transaction")
        self._before_commit = Failpoint(f"{service}.before_commit")
        self._after_transaction = Failpoint(f"{service}.after_transaction")
        self._listeners: list[tuple[Callable[[Changes], bool], asyncio.Event]] = []

    def listen(self, concerns: Callable[[Changes], bool]) -> asyncio.Event:
        """An event of the caller's own, set whenever this process has committed what concerns it."""
        event = asyncio.Event()
        self._listeners.append((concerns, event))
        return event

    def add(self, changes: Changes, store: Store[S], before: S | None, verdict: Become[S]) -> None:
        """All that a verdict says: the state, its announcements, and what else is written.

        before: as it was read, None if there was none. Raises TooLargeToAnnounce.
        """
        changes.rows.extend(self.outbox.rows(verdict.messages))
        changes.replaced.append((store, before, verdict.state))
        changes.also.extend(verdict.also)

    async def commit(self, changes: Changes) -> None:
        if not changes:
            return
        self._before_transaction()
        with self.outbox.writing():
            await self._write_all(changes)
        self._after_transaction()
        if changes.rows:
            self.outbox.written.set()
        for concerns, event in self._listeners:
            if concerns(changes):
                event.set()

    async def _write_all(self, changes: Changes) -> None:
        async with self._mongo.transaction() as session:
            await self._replace(changes.replaced, session)
            await self._write(changes.also, session)
            await self.outbox.insert(changes.rows, session)
            self._before_commit()

    async def _replace(
        self, replaced: Sequence[tuple[Store[Any], Any | None, Any]], session: Session
    ) -> None:
        by_collection: dict[str, list[Any]] = defaultdict(list)
        for store, before, after in replaced:
            by_collection[store.name].append(store.write(before, after))
        for name, operations in by_collection.items():
            result = await self._mongo[name].bulk_write(operations, ordered=False, session=session)
            if result.matched_count + result.inserted_count != len(operations):
                raise Conflict(f"{name}: a version moved")

    async def _write(self, writes: Sequence[Write], session: Session) -> None:
        """Those of one collection in the order of their decisions: a later one may undo an earlier."""
        by_collection: dict[str, list[Write]] = defaultdict(list)
        for write in writes:
            by_collection[write.collection].append(write)
        for name, group in by_collection.items():
            for must_match, alike in groupby(group, key=lambda write: write.must_match):
                operations = [UpdateOne(dict(w.filter), dict(w.update), upsert=w.upsert) for w in alike]
                result = await self._mongo[name].bulk_write(operations, ordered=True, session=session)
                if must_match and result.matched_count + result.upserted_count != len(operations):
                    raise Conflict(f"{name}: a condition no longer holds")


Decide = Callable[[M, S | None, F], Verdict[S]]


async def _no_facts(_: Sequence[Any]) -> Any:
    return None


class UnitOfWork(Generic[M, S, F]):
    """A batch handler made from one pure decision.

    aggregate_id: which state a message is about. decide(message, state or None, facts) -> verdict, pure.
    facts(messages): loads whatever else the decision looks at, once a batch.
    """

    def __init__(
        self,
        name: str,
        committer: Committer,
        store: Store[S],
        *,
        aggregate_id: Callable[[M], str],
        decide: Decide[M, S, F],
        facts: Callable[[Sequence[M]], Awaitable[F]] | None = None,
        metrics: Metrics,
    ) -> None:
        self._name = name
        self._committer = committer
        self._store = store
        self._aggregate_id = aggregate_id
        self._decide = decide
        self._facts: Callable[[Sequence[M]], Awaitable[F]] = facts or cast(Any, _no_facts)
        self._metrics = metrics

    async def __call__(self, batch: Sequence[Delivery[M]]) -> list[Outcome]:
        for _ in range(2 if len(batch) > 1 else 0):
            try:
                return await self._attempt(batch)
            except Conflict:
                self._metrics.conflicts.labels(self._name).inc()
        return await self._one_by_one(batch)

    async def _one_by_one(self, batch: Sequence[Delivery[M]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        waiting: set[bytes | None] = set()
        for delivery in batch:
            if delivery.key in waiting:
                outcomes.append(TryAgain("an earlier message of this key waits"))
                continue
            (outcome,) = await self._alone(delivery)
            if isinstance(outcome, TryAgain):
                waiting.add(delivery.key)
            outcomes.append(outcome)
        return outcomes

    async def _alone(self, delivery: Delivery[M]) -> list[Outcome]:
        why = ""
        for attempt in range(TRIES):
            try:
                return await self._attempt([delivery])
            except Conflict as conflict:
                self._metrics.conflicts.labels(self._name).inc()
                why = str(conflict)
                await yield_to_others(attempt)
        return [TryAgain(f"conflict: {why}", after=1.0, patient=True)]

    async def _attempt(self, batch: Sequence[Delivery[M]]) -> list[Outcome]:
        messages = [delivery.message for delivery in batch]
        ids = [self._aggregate_id(message) for message in messages]
        states, facts = await asyncio.gather(
            self._store.load(list(dict.fromkeys(ids))), self._facts(messages)
        )
        loaded = dict(states)
        changes = Changes()
        waiting: set[bytes | None] = set()
        outcomes: list[Outcome] = []
        touched: dict[str, S] = {}
        for delivery, id_ in zip(batch, ids, strict=True):
            if delivery.key in waiting:
                outcomes.append(TryAgain("an earlier message of this key waits"))
                continue
            with span(self._name, delivery.traceparent) as traceparent:
                token = current_traceparent.set(traceparent)
                try:
                    verdict = self._judge(delivery, states.get(id_), facts)
                finally:
                    current_traceparent.reset(token)
            match verdict:
                case Become(state, announced, also):
                    try:
                        rows = self._committer.outbox.rows(announced, traceparent)
                    except TooLargeToAnnounce as large:
                        outcomes.append(GiveUp("too_large", str(large)))
                        continue
                    states[id_] = touched[id_] = state
                    changes.also.extend(also)
                    changes.rows.extend(rows)
                    outcomes.append(None)
                case TryAgain():
                    waiting.add(delivery.key)
                    outcomes.append(verdict)
                case Unchanged():
                    changes.also.extend(verdict.also)
                    outcomes.append(verdict)
                case GiveUp():
                    outcomes.append(verdict)
        changes.replaced = [(self._store, loaded.get(id_), state) for id_, state in touched.items()]
        await self._committer.commit(changes)
        return outcomes

    def _judge(self, delivery: Delivery[M], state: S | None, facts: F) -> Verdict[S]:
        try:
            verdict = self._decide(delivery.message, state, facts)
        except Exception as bug:
            log.exception("a decision failed", subscriber=self._name, event_id=delivery.event_id)
            return GiveUp.of_bug(bug)
        if isinstance(verdict, Become):
            expected = 1 if state is None else state.version + 1
            if verdict.state.version != expected:
                return GiveUp("bug: version", f"decided {verdict.state.version}, and {expected} follows")
        return verdict


class Commands(Generic[S]):
    """The same, for one aggregate at a time: what a REST route or a background task uses."""

    def __init__(self, committer: Committer, store: Store[S]) -> None:
        self._committer = committer
        self._store = store

    @overload
    async def change(
        self,
        id_: str,
        decide: Callable[[S | None], Verdict[S]],
        extra_rows: Callable[[S], Sequence[Document]] | None = None,
        *,
        expected: int | None = None,
    ) -> tuple[S | None, Verdict[S]]: ...

    @overload
    async def change(
        self,
        id_: str,
        decide: Callable[[S | None, F], Verdict[S]],
        extra_rows: Callable[[S], Sequence[Document]] | None = None,
        *,
        facts: Callable[[S | None], Awaitable[F]],
        expected: int | None = None,
    ) -> tuple[S | None, Verdict[S]]: ...

    async def change(
        self,
        id_: str,
        decide: Callable[..., Verdict[S]],
        extra_rows: Callable[[S], Sequence[Document]] | None = None,
        *,
        facts: Callable[[S | None], Awaitable[Any]] | None = None,
        expected: int | None = None,
    ) -> tuple[S | None, Verdict[S]]:
        """Load, decide, write; decides again from fresh state and fresh facts on a conflict.

        facts(state): loads whatever else the decision looks at; after the state, so that nothing which is
        written together with it can change unseen. expected: the version that the caller saw; only what
        changes something is held against it, so that a repeat whose answer got lost is a repeat. NO_VERSION:
        nothing may stand, whatever it says. Returns the state that now stands, and the verdict. An error that
        `decide` or `facts` raises passes through and nothing is written. Raises VersionMoved, StandsAlready,
        TooLargeToAnnounce.
        """

        async def change() -> tuple[S | None, Verdict[S]]:
            state = await self._store.get(id_)
            expect_none_if_asked(expected, stands=state is not None)
            verdict = decide(state, await facts(state)) if facts else decide(state)
            match verdict:
                case Become():
                    expect_version(expected, state)
                    changes = Changes()
                    self._committer.add(changes, self._store, state, verdict)
                    if extra_rows:
                        changes.rows.extend(extra_rows(verdict.state))
                    await self._committer.commit(changes)
                    return verdict.state, verdict
                case Unchanged():
                    await self._committer.commit(Changes(also=list(verdict.also)))
                    if facts:
                        # They are younger than it: what they found done may have been done since.
                        state = await self._store.get(id_)
            return state, verdict

        return await undisputed(change, f"{self._store.name} {id_}")
