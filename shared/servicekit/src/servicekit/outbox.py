"""Messages leave in the same write as the state they announce, and a relay publishes them.

Rows are spread over buckets by key; a relay publishes only buckets whose lease it holds, oldest first,
and deletes a row only after the broker's answer. A crash in between publishes again: readers are
idempotent. Never "everything newer than the last id seen": transactions commit out of order.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pymongo import ASCENDING, IndexModel
from pymongo.errors import PyMongoError

from contracts.message import Message, wire_headers
from servicekit.clock import Clock
from servicekit.failpoints import InjectedFault, failpoint
from servicekit.leases import Leases, bucket_of
from servicekit.metrics import Metrics
from servicekit.mongo import Document, Mongo, Session
from servicekit.producer import Outgoing, Producer
from servicekit.settings import ServiceSettings
from servicekit.tracing import child_of, current_traceparent

log = structlog.get_logger()

COLLECTION = "outbox"
INDEXES = (IndexModel([("b", ASCENDING), ("_id", ASCENDING)]),)
_IDLE_SECONDS = 0.02
_IDLE_SECONDS_ALONE = 0.25
"""Its own writers wake a relay at once; only another replica's rows have to be looked for."""
_TAG = int.from_bytes(os.urandom(2)) & 0xFFF


class RowIds:
    """Ids that grow: microseconds since 1970, then twelve bits that tell processes apart."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last << 12 | _TAG


def microseconds_of(row_id: int) -> int:
    return row_id >> 12


@dataclass(frozen=True, slots=True)
class Tombstoned:
    """An aggregate of a compacted topic is gone: its key gets a null body."""

    topic: str
    key: str


class Outbox:
    """The writing side: rows for messages, to be inserted in the transaction of the state."""

    def __init__(self, mongo: Mongo, settings: ServiceSettings, clock: Clock, service: str) -> None:
        self._mongo = mongo
        self._settings = settings
        self._clock = clock
        self._source = f"parley/{service}"
        self._ids = RowIds()
        self.written = asyncio.Event()

    def row(self, message: Message, traceparent: str | None = None, now: datetime | None = None) -> Document:
        key = message.key().encode()
        time_ = (now or self._clock.now()).isoformat().replace("+00:00", "Z")
        parent = child_of(traceparent or current_traceparent.get())
        return {
            "_id": self._ids.next(),
            "b": bucket_of(key),
            "t": self._settings.prefixed(message.topic()),
            "k": key,
            "v": message.to_json(),
            "h": wire_headers(message, self._source, time_, parent),
        }

    def rows(self, messages: Iterable[Message], traceparent: str | None = None) -> list[Document]:
        now = self._clock.now()
        return [self.row(message, traceparent, now) for message in messages]

    def tombstone(self, gone: Tombstoned) -> Document:
        key = gone.key.encode()
        return {
            "_id": self._ids.next(),
            "b": bucket_of(key),
            "t": self._settings.prefixed(gone.topic),
            "k": key,
            "v": None,
            "h": [],
        }

    async def insert(self, rows: Sequence[Document], session: Session) -> None:
        if rows:
            await self._mongo[COLLECTION].insert_many(rows, ordered=False, session=session)

    def wake(self) -> None:
        """Tell the relay of this process that rows were committed."""
        self.written.set()


class Relay:
    """The publishing side. Any number of replicas may run one."""

    def __init__(
        self,
        mongo: Mongo,
        outbox: Outbox,
        producer: Producer,
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        self._mongo = mongo
        self._outbox = outbox
        self._producer = producer
        self._batch = settings.outbox_batch
        self._metrics = metrics
        self._leases = Leases(mongo, "outbox", settings.instance, settings.lease_seconds)
        self._delay = 0.1

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until told to stop, then publish what is left and give the leases back."""
        while not stopping.is_set():
            if not await self._step():
                await self._rest()
        while await self._step():
            pass
        try:
            await self._leases.release()
        except PyMongoError as error:
            log.warning("leases not released", error=type(error).__name__)

    async def _step(self) -> int:
        try:
            published = await self.publish_once()
        except (PyMongoError, InjectedFault) as error:
            log.warning("the relay waits", error=type(error).__name__)
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 2, 2.0)
            return 0
        self._delay = 0.1
        return published

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_IDLE_SECONDS if self._leases.members > 1 else _IDLE_SECONDS_ALONE):
                await self._outbox.written.wait()
        except TimeoutError:
            pass
        self._outbox.written.clear()

    async def publish_once(self) -> int:
        """One batch: read, publish, delete. Returns how many rows the broker confirmed."""
        buckets = await self._leases.held()
        if not buckets:
            return 0
        rows: list[Document] = await (
            self._mongo[COLLECTION]
            .find({"b": {"$in": sorted(buckets)}})
            .sort("_id", ASCENDING)
            .limit(self._batch)
            .to_list(self._batch)
        )
        self._observe(rows)
        if not rows:
            return 0
        time_left = self._leases.remaining()
        if time_left <= 0:
            return 0
        failpoint("outbox.before_publish")
        results = await self._producer.publish(
            (Outgoing(row["t"], row["k"], row["v"], row["h"]) for row in rows), timeout=time_left
        )
        failpoint("outbox.after_publish")
        confirmed = confirmed_in_order(rows, results)
        if confirmed:
            await self._mongo[COLLECTION].delete_many({"_id": {"$in": [row["_id"] for row in confirmed]}})
            failpoint("outbox.after_delete")
        for row in confirmed:
            self._metrics.published.labels(row["t"]).inc()
        if len(confirmed) < len(rows):
            await asyncio.sleep(self._delay)
        return len(confirmed)

    def _observe(self, rows: list[Document]) -> None:
        self._metrics.outbox_rows.set(len(rows))
        age = time.time() - microseconds_of(rows[0]["_id"]) / 1e6 if rows else 0.0
        self._metrics.outbox_age.set(max(age, 0.0))


def confirmed_in_order(rows: Sequence[Document], results: Sequence[Any]) -> list[Document]:
    """The rows that may go: confirmed, with no unconfirmed row of the same topic and key before them."""
    held: set[tuple[str, bytes]] = set()
    confirmed = []
    for row, failure in zip(rows, results, strict=True):
        lane = (row["t"], row["k"])
        if failure is not None:
            held.add(lane)
        if lane not in held:
            confirmed.append(row)
    return confirmed
