"""`contact-stats-changed`, from a mark that is set in the same write as the counters.

A row in the outbox for every change would be written, read, published and deleted; of a compacted topic
only the last state matters. So the counters are their own outbox: a batch leaves a few marks that name the
targets it changed, and whoever holds the lease of a bucket publishes the newest state of each, once for all
of its marks, and removes them. The columns that lists sort and filter by are brought up to date with it.

Under load it rests longer than it works. While interactions wait to be counted, counting goes first: then it
takes all marks of one bucket at a time, the one that waits longest, and rests nine times as long; so what
changes all the time is announced less often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import groupby

import structlog
from pydantic import ValidationError
from pymongo import UpdateOne

from contracts.message import wire_headers
from contracts.stats import ContactStatsChanged, counters_key
from servicekit.clock import Clock
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.metrics import Metrics
from servicekit.mongo import Document, Mongo
from servicekit.producer import Outgoing, Producer
from servicekit.resting import rest
from servicekit.settings import ServiceSettings
from stats.adapters.mongo_ledger import MARKS, TARGETS
from stats.domain.counters import counters_of, total_of
from stats.domain.ledger import ERASED, TargetKey, target_of

log = structlog.get_logger()

_BEFORE_ANNOUNCING = Failpoint("stats.before_announcing")
_AFTER_ANNOUNCING = Failpoint("stats.after_announcing")
_AFTER_UNMARKING = Failpoint("stats.after_unmarking")

_BATCH = 500
_MARKS = 1000
_REST, _LONGEST_REST = 3.0, 5.0
"""Times as long as it worked, and seconds."""
_REST_BEHIND, _LONGEST_REST_BEHIND = 9.0, 30.0
"""The same while there is a backlog."""


class AnnounceCounters:
    def __init__(
        self,
        mongo: Mongo,
        producer: Producer,
        clock: Clock,
        metrics: Metrics,
        settings: ServiceSettings,
        every: float,
        behind: Callable[[], bool],
    ) -> None:
        """behind: whether interactions wait to be counted."""
        self._mongo = mongo
        self._producer = producer
        self._clock = clock
        self._settings = settings
        self._every = every
        self._behind = behind
        self._failed: int | None = None
        self._published = metrics.published.labels(settings.prefixed(ContactStatsChanged.wire.topic.name))
        self._leases = Leases(
            mongo, "announce", settings.instance, settings.lease_seconds, producer.reaches_the_broker
        )

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            began, behind = time.monotonic(), self._behind()
            await (self._announce_longest_waiting() if behind else self._announce())
            await self._rest(stopping, time.monotonic() - began, behind)
        await self.announce_all()
        await self._leases.release()

    async def _rest(self, stopping: asyncio.Event, worked: float, behind: bool) -> None:
        if not behind:
            await rest(stopping, max(self._every, min(worked * _REST, _LONGEST_REST)))
            return
        until = time.monotonic() + max(self._every, min(worked * _REST_BEHIND, _LONGEST_REST_BEHIND))
        while not stopping.is_set() and self._behind() and time.monotonic() < until:
            await rest(stopping, self._every)

    async def announce_all(self) -> None:
        while await self._announce():
            pass

    async def _announce(self) -> bool:
        """Everything that some marks name; whether there were any."""
        return await self._announce_of(await self._leases.held())

    async def _announce_longest_waiting(self) -> None:
        """But for the bucket of which nothing could be published last time: the others have their turn."""
        buckets = sorted(await self._leases.held() - {self._failed})
        self._failed = None
        longest = await self._mongo[MARKS].find_one({"bucket": {"$in": buckets}}, sort=[("_id", 1)])
        if longest is not None and not await self._announce_of([longest["bucket"]]):
            self._failed = longest["bucket"]

    async def _announce_of(self, buckets: Collection[int]) -> bool:
        if not buckets:
            return False
        marks: list[Document] = await (
            self._mongo[MARKS]
            .find({"bucket": {"$in": sorted(buckets)}})
            .sort("_id", 1)
            .limit(_MARKS)
            .to_list(_MARKS)
        )
        done = 0
        for some in _in_parts(marks):
            done += await self._announce_marks(some)
            if self._behind():
                break
        return bool(done)

    async def _announce_marks(self, marks: Sequence[Document]) -> int:
        """Returns how many are done with."""
        changed = sorted({target for mark in marks for target in mark["targets"]})
        failed: set[str] = set()
        for start in range(0, len(changed), _BATCH):
            failed |= await self._publish(changed[start : start + _BATCH])
        done = [mark["_id"] for mark in marks if failed.isdisjoint(mark["targets"])]
        if done:
            await self._mongo[MARKS].delete_many({"_id": {"$in": done}})
            _AFTER_UNMARKING()
        return len(done)

    async def _publish(self, targets: Sequence[TargetKey]) -> set[TargetKey]:
        """Those that could not be published; their marks stay."""
        found = self._mongo[TARGETS].find({"_id": {"$in": list(targets)}})
        documents: list[Document] = await found.to_list(len(targets))
        time_left = self._leases.remaining()
        if time_left <= 0:
            return set(targets)
        now = self._clock.now()
        _BEFORE_ANNOUNCING()
        announced: list[Document] = []
        outgoing: list[Outgoing] = []
        for target in documents:
            try:
                outgoing.append(self._outgoing(target, now))
            except ValidationError:
                log.exception("counters that cannot be announced are passed over", version=target["version"])
            else:
                announced.append(target)
        results = await self._producer.publish(outgoing, timeout=time_left)
        _AFTER_ANNOUNCING()
        confirmed = [target for target, failure in zip(announced, results, strict=True) if failure is None]
        await self._remember(confirmed)
        self._published.inc(len(confirmed))
        return {
            target["_id"] for target, failure in zip(announced, results, strict=True) if failure is not None
        }

    def _outgoing(self, target: Document, now: datetime) -> Outgoing:
        topic = self._settings.prefixed(ContactStatsChanged.wire.topic.name)
        if is_erased(target):
            return Outgoing(topic, counters_key(*target_of(target["_id"])).encode(), None, [])
        message = announcement(target, now)
        headers = wire_headers(message, "parley/stats", now.isoformat().replace("+00:00", "Z"))
        return Outgoing(topic, message.key().encode(), message.to_json(), headers)

    async def _remember(self, announced: Sequence[Document]) -> None:
        updates = [
            UpdateOne(
                {"_id": target["_id"], "version": target["version"]},
                {"$unset": {"listed": ""}} if is_erased(target) else {"$set": {"listed": listed(target)}},
            )
            for target in announced
        ]
        if updates:
            await self._mongo[TARGETS].bulk_write(updates, ordered=False)


def _in_parts(marks: Sequence[Document]) -> Iterator[list[Document]]:
    """Marks of about a batch of targets each. Those of a bucket stay together: they name the same targets."""
    part: list[Document] = []
    for _, of_a_bucket in groupby(sorted(marks, key=_bucket), _bucket):
        part.extend(of_a_bucket)
        if len({target for mark in part for target in mark["targets"]}) >= _BATCH:
            yield part
            part = []
    if part:
        yield part


def _bucket(mark: Document) -> int:
    bucket: int = mark["bucket"]
    return bucket


def is_erased(target: Document) -> bool:
    return target.get("gone") == ERASED or "erased" in target


def announcement(target: Document, now: datetime) -> ContactStatsChanged:
    type_, id_ = target_of(target["_id"])
    channels = target.get("channels", {})
    return ContactStatsChanged(
        target_type=type_,
        target_id=id_,
        version=target["version"],
        total=total_of(channels.values()),
        channels={name: counters_of(numbers) for name, numbers in sorted(channels.items())},
        changed_at=now,
    )


def listed(target: Document) -> Document:
    """The columns that lists sort and filter by."""
    total = total_of(target.get("channels", {}).values())
    return {"target_type": target_of(target["_id"])[0], **total.model_dump()}
