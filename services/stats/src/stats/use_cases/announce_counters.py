"""`contact-stats-changed`, from a mark that is set in the same write as the counters.

A row in the outbox for every change would be written, read, published and deleted; of a compacted topic
only the last state matters. So the counters are their own outbox: a mark says that a target changed, and
whoever holds the lease of its bucket publishes the newest state and removes the mark if that is still it.
The same write brings the columns up to date that lists sort and filter by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog
from pymongo import UpdateOne

from contracts.message import wire_headers
from contracts.stats import ContactStatsChanged
from servicekit.clock import Clock
from servicekit.failpoints import failpoint
from servicekit.leases import Leases
from servicekit.metrics import Metrics
from servicekit.mongo import Document, Mongo
from servicekit.producer import Outgoing, Producer
from servicekit.settings import ServiceSettings
from stats.adapters.mongo_ledger import TARGETS
from stats.domain.counters import counters_of, total_of
from stats.domain.ledger import ERASED, target_of

log = structlog.get_logger()

_BATCH = 500


class AnnounceCounters:
    def __init__(
        self,
        mongo: Mongo,
        producer: Producer,
        clock: Clock,
        metrics: Metrics,
        settings: ServiceSettings,
        every: float,
    ) -> None:
        self._mongo = mongo
        self._producer = producer
        self._clock = clock
        self._settings = settings
        self._every = every
        self._published = metrics.published.labels(settings.prefixed(ContactStatsChanged.wire.topic.name))
        self._leases = Leases(mongo, "announce", settings.instance, settings.lease_seconds)

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self.announce_all()
            try:
                async with asyncio.timeout(self._every):
                    await stopping.wait()
            except TimeoutError:
                pass
        await self.announce_all()
        await self._leases.release()

    async def announce_all(self) -> None:
        while await self._announce():
            pass

    async def _announce(self) -> bool:
        """One batch; whether there may be more to do now."""
        buckets = await self._leases.held()
        if not buckets:
            return False
        changed: list[Document] = await (
            self._mongo[TARGETS].find({"dirty": {"$in": sorted(buckets)}}).limit(_BATCH).to_list(_BATCH)
        )
        time_left = self._leases.remaining()
        if not changed or time_left <= 0:
            return False
        now = self._clock.now()
        failpoint("stats.before_announcing")
        results = await self._producer.publish(
            [self._outgoing(target, now) for target in changed], timeout=time_left
        )
        failpoint("stats.after_announcing")
        confirmed = [target for target, failure in zip(changed, results, strict=True) if failure is None]
        await self._remember(confirmed)
        self._published.inc(len(confirmed))
        return len(confirmed) == _BATCH

    def _outgoing(self, target: Document, now: datetime) -> Outgoing:
        topic = self._settings.prefixed(ContactStatsChanged.wire.topic.name)
        if is_erased(target):
            return Outgoing(topic, target_of(target["_id"])[1].encode(), None, [])
        message = announcement(target, now)
        headers = wire_headers(message, "parley/stats", now.isoformat().replace("+00:00", "Z"))
        return Outgoing(topic, message.key().encode(), message.to_json(), headers)

    async def _remember(self, announced: Sequence[Document]) -> None:
        updates = [
            UpdateOne(
                {"_id": target["_id"], "version": target["version"]},
                {"$unset": {"dirty": ""}, "$set": {"listed": listed(target)}}
                if not is_erased(target)
                else {"$unset": {"dirty": "", "listed": ""}},
            )
            for target in announced
        ]
        if updates:
            await self._mongo[TARGETS].bulk_write(updates, ordered=False)
            failpoint("stats.after_unmarking")


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
