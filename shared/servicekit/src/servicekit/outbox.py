"""Messages leave in the same write as the state they announce, and a relay publishes them.

Rows are spread over buckets by key, and what one transaction says to one bucket is one document, a
parcel. A relay publishes only buckets whose lease it holds, oldest first, and deletes a parcel only after
the broker's answers. A crash in between publishes again: readers are idempotent. A relay looks where it
last found something, and often from the beginning, because transactions commit out of order. What one key
says leaves in the order of its commits if a transaction commits within ten seconds of writing its rows,
and within any time where relay and writer are one process.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pymongo import ASCENDING, IndexModel
from pymongo.errors import PyMongoError

from contracts.message import LARGEST_RECORD, Message, wire_headers
from servicekit.backoff import backoff
from servicekit.clock import Clock
from servicekit.failpoints import Failpoint, InjectedFault
from servicekit.leases import BUCKETS, Leases, bucket_of
from servicekit.metrics import Metrics
from servicekit.mongo import Document, Mongo, Session
from servicekit.producer import NotPublished, Outgoing, Producer
from servicekit.refusals import TooLargeToAnnounce
from servicekit.resting import rest
from servicekit.settings import ServiceSettings
from servicekit.tracing import child_of, current_traceparent

log = structlog.get_logger()

COLLECTION = "outbox"
INDEXES = (IndexModel([("b", ASCENDING), ("_id", ASCENDING)]),)
_LONGEST_DELAY = 2.0
_IDLE_SECONDS = 0.02
_IDLE_SECONDS_ALONE = 0.25
"""Its own writers wake a relay at once; only another replica's rows have to be looked for."""
_PARCEL_ROWS = 100
_PARCEL_BYTES = 256 * 1024
LARGEST_BODY = LARGEST_RECORD - 8 * 1024
"""Of what a topic takes in one record; the rest is for the key, the headers and Kafka's own frame."""
_COMMIT_MICROSECONDS = 10_000_000
"""How long after its id was given another process's parcel is committed, or it waits for the next sweep."""
_SWEEP_SECONDS = 1.0
_LOOK_ON_SECONDS = 5.0
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
        """Set whenever this process has committed rows."""
        self._open: set[int] = set()
        self._closed: int | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around a transaction that inserts rows: however long it takes, this process's relay looks for them
        before it publishes what is written after them."""
        began = self._ids.next()
        self._open.add(began)
        try:
            yield
        finally:
            self._open.remove(began)
            self._closed = began if self._closed is None else min(self._closed, began)

    def begun(self) -> int | None:
        """An id below those of all parcels that were still being written since this was last asked."""
        closed, self._closed = self._closed, None
        return min(self._open if closed is None else {closed, *self._open}, default=None)

    def row(self, message: Message, traceparent: str | None = None, now: datetime | None = None) -> Document:
        """Raises TooLargeToAnnounce: the broker would refuse it, now and ever."""
        key, body = message.key().encode(), message.to_json()
        if len(body) > LARGEST_BODY:
            raise TooLargeToAnnounce(len(body), LARGEST_BODY)
        time_ = (now or self._clock.now()).isoformat().replace("+00:00", "Z")
        parent = child_of(traceparent or current_traceparent.get())
        return {
            "b": bucket_of(key),
            "t": self._settings.prefixed(message.topic()),
            "k": key,
            "v": body,
            "h": wire_headers(message, self._source, time_, parent),
        }

    def rows(self, messages: Iterable[Message], traceparent: str | None = None) -> list[Document]:
        now = self._clock.now()
        return [self.row(message, traceparent, now) for message in messages]

    def tombstone(self, gone: Tombstoned) -> Document:
        key = gone.key.encode()
        return {
            "b": bucket_of(key),
            "t": self._settings.prefixed(gone.topic),
            "k": key,
            "v": None,
            "h": [],
        }

    async def insert(self, rows: Sequence[Document], session: Session | None = None) -> None:
        """Last in its transaction: ids are given here, and what commits long after them may be overtaken."""
        if rows:
            with self.writing():
                sealed = [{"_id": self._ids.next(), **parcel} for parcel in parcels(rows)]
                await self._mongo[COLLECTION].insert_many(sealed, ordered=False, session=session)


def parcels(rows: Sequence[Document]) -> Iterator[Document]:
    """Rows of one bucket in one document, in order. A large one travels alone."""
    open_: dict[int, Document] = {}
    sizes: dict[int, int] = {}
    for row in rows:
        bucket, size = row["b"], len(row["v"] or b"")
        parcel = open_.get(bucket)
        if parcel and (len(parcel["m"]) >= _PARCEL_ROWS or sizes[bucket] + size > _PARCEL_BYTES):
            yield open_.pop(bucket)
            parcel = None
        if parcel is None:
            parcel = open_[bucket] = {"b": bucket, "m": []}
            sizes[bucket] = 0
        parcel["m"].append({"t": row["t"], "k": row["k"], "v": row["v"], "h": row["h"]})
        sizes[bucket] += size
    yield from open_.values()


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
        self._leases = Leases(
            mongo, "outbox", settings.instance, settings.lease_seconds, producer.reaches_the_broker
        )
        self._before_publish = Failpoint("outbox.before_publish")
        self._after_publish = Failpoint("outbox.after_publish")
        self._after_delete = Failpoint("outbox.after_delete")
        self._failures = 0
        self._from = 0
        self._buckets: frozenset[int] = frozenset()
        self._sweep_at = 0.0
        self._oldest_at: float | None = None
        self._look_at = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until told to stop, then publish what is left and give the leases back.

        After less than a batch it waits for the next commit: to look again at once finds nothing.
        """
        while not stopping.is_set():
            if await self._step() < self._batch:
                alone = self._leases.members == 1
                await rest(stopping, _IDLE_SECONDS_ALONE if alone else _IDLE_SECONDS, self._outbox.written)
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
            self._sweep_at = 0.0  # what the failed look was to find is not asked for again
            log.warning("the relay waits", error=type(error).__name__)
            self._waits(error)
            await asyncio.sleep(backoff(self._failures, 0.1, _LONGEST_DELAY))
            self._failures += 1
            return 0
        self._failures = 0
        return published

    async def publish_once(self) -> int:
        """One batch: read, publish, delete. Returns how many messages the broker confirmed."""
        buckets = await self._leases.held()
        if buckets - self._buckets:
            self._sweep_at = 0.0  # whoever had them may have left something from any time
        self._buckets = buckets
        if not buckets:
            await self._look_on()
            return 0
        waiting = await self._oldest(buckets)
        rows = [row for parcel in waiting for row in parcel["m"]]
        self._observe(waiting)
        time_left = self._leases.remaining()
        if not rows or time_left <= 0:
            return 0
        self._before_publish()
        results = await self._producer.publish(
            [Outgoing(row["t"], row["k"], row["v"], row["h"]) for row in rows], timeout=time_left
        )
        self._after_publish()
        confirmed = confirmed_in_order(waiting, results)
        if confirmed:
            gone = {parcel["_id"] for parcel in confirmed}
            await self._mongo[COLLECTION].delete_many({"_id": {"$in": list(gone)}})
            self._after_delete()
            left = [parcel for parcel in waiting if parcel["_id"] not in gone]
            if left or len(rows) < self._batch:  # behind a full batch there may be more
                self._observe(left)
        published = Counter(row["t"] for parcel in confirmed for row in parcel["m"])
        for topic, count in published.items():
            self._metrics.published.labels(topic).inc(count)
        if len(confirmed) < len(waiting):
            self._waits(next(result for result in results if result is not None))
            await asyncio.sleep(backoff(0))
        return published.total()

    async def _look_on(self) -> None:
        """Nothing is for this one to publish. If it is because it cannot, what waits may wait for nobody."""
        if not self._leases.stands_aside:
            self._observe([])
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_ON_SECONDS
            self._waits(NotPublished())
            self._observe(await self._oldest(frozenset(range(BUCKETS))))

    def _waits(self, error: BaseException) -> None:
        self._metrics.waits.labels("relay", type(error).__name__).inc()

    async def _oldest(self, buckets: frozenset[int]) -> list[Document]:
        """Parcels of these buckets with about a batch of messages, oldest first."""
        found: list[Document] = []
        messages = 0
        query: Document = {} if len(buckets) == BUCKETS else {"b": {"$in": sorted(buckets)}}
        now, begun = time.time_ns() // 1000, self._outbox.begun()
        sweeps = time.monotonic() >= self._sweep_at
        if sweeps:
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS
        else:
            # The beginning of a queue is full of what was deleted; walking over that is most of the work.
            query["_id"] = {"$gte": self._from if begun is None else min(begun, self._from)}
        # As of one moment: what commits meanwhile behind the cursor may be told before what it then meets.
        async with self._mongo.snapshot() as session:
            cursor = self._mongo[COLLECTION].find(query, session=session)
            cursor = cursor.sort("_id", ASCENDING).limit(self._batch).batch_size(200)
            async for parcel in cursor:
                found.append(parcel)
                messages += len(parcel["m"])
                if messages >= self._batch:
                    break
            await cursor.close()
        oldest = microseconds_of(found[0]["_id"]) if found else now
        self._from = max(0, oldest - _COMMIT_MICROSECONDS) << 12
        return found

    def _observe(self, waiting: Sequence[Document]) -> None:
        self._metrics.outbox_rows.set(sum(len(parcel["m"]) for parcel in waiting))
        self._oldest_at = microseconds_of(waiting[0]["_id"]) / 1e6 if waiting else None
        self.observe()

    def observe(self) -> None:
        """The age goes on while the database is away and nothing can be looked up."""
        age = time.time() - self._oldest_at if self._oldest_at is not None else 0.0
        self._metrics.outbox_age.set(max(age, 0.0))


def confirmed_in_order(waiting: Sequence[Document], results: Sequence[Any]) -> list[Document]:
    """The parcels that may go: all of their messages confirmed, and no parcel that stays has an earlier
    message of a same topic and key, because that one is going to be published again."""
    held: set[tuple[str, bytes]] = set()
    confirmed = []
    answers = iter(results)
    for parcel in waiting:
        lanes = {(row["t"], row["k"]) for row in parcel["m"]}
        failed = [answer for _, answer in zip(parcel["m"], answers, strict=False) if answer is not None]
        if failed or not held.isdisjoint(lanes):
            held |= lanes
        else:
            confirmed.append(parcel)
    return confirmed
