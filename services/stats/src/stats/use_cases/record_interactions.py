"""Attempts and the counters they move, exactly once: a batch is one transaction, or a few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import structlog

from contracts.channel_sms import InteractionRecorded
from servicekit.clock import Clock
from servicekit.conflicts import Conflict, yield_to_others
from servicekit.delivery import Delivery
from servicekit.metrics import Metrics
from servicekit.verdict import GiveUp, Outcome, TryAgain, Unchanged
from stats.adapters.mongo_ledger import MongoLedger, Work
from stats.domain.ledger import Row, World, fault_in, head_id, record, target_key
from stats.use_cases.worlds import Worlds

log = structlog.get_logger()

_TRIES = 6
MOST_LINKS = 4000
"""In one transaction, which would not end in time with all that a batch of interactions may name."""

Batch = Sequence[Delivery[InteractionRecorded]]


class RecordInteractions:
    """First as if every interaction were new and every target in its place: then one insert settles it.

    If anything of that was wrong nothing was written, and the batch is decided again from what is there.
    After such a batch the next one starts the careful way: repeats come in runs.
    """

    def __init__(
        self, name: str, ledger: MongoLedger, worlds: Worlds, clock: Clock, metrics: Metrics
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._worlds = worlds
        self._clock = clock
        self._metrics = metrics
        self._expect_repeats = False

    async def __call__(self, batch: Batch) -> list[Outcome]:
        return [outcome for part in parts_of(batch) for outcome in await self._record(part)]

    async def _record(self, batch: Batch) -> list[Outcome]:
        if not self._expect_repeats:
            try:
                return await self._attempt(batch, careful=False)
            except Conflict:
                self._metrics.conflicts.labels(self._name).inc()
        for attempt in range(_TRIES):
            try:
                return await self._attempt(batch, careful=True)
            except Conflict as conflict:
                self._metrics.conflicts.labels(self._name).inc()
                log.info("a batch is decided again", subscriber=self._name, why=str(conflict))
                await yield_to_others(attempt)
        if len(batch) == 1:
            return [TryAgain("its target changes too fast", after=1.0, patient=True)]
        half = len(batch) // 2
        return [*await self._record(batch[:half]), *await self._record(batch[half:])]

    async def _attempt(self, batch: Batch, careful: bool) -> list[Outcome]:
        world = await self._worlds.around([delivery.message for delivery in batch])
        async with self._ledger.transaction() as session:
            standing: dict[str, list[Row]] = {}
            if careful:
                heads = {_head(delivery.message) for delivery in batch}
                standing = await self._ledger.interactions(heads, session)
                targets = {target for delivery in batch for target in _targets(delivery.message)}
                for rows in standing.values():
                    targets |= {said["target"] for said in rows[0].get("overlay", ())}
                world = await self._worlds.with_gone(world, targets, session)
                self._expect_repeats = bool(standing)
            outcomes, work = self._decide(batch, standing, world)
            if work:
                await self._ledger.write(work, session)
        return outcomes

    def _decide(
        self, batch: Batch, standing: Mapping[str, list[Row]], world: World
    ) -> tuple[list[Outcome], Work]:
        outcomes: list[Outcome] = []
        now_standing: dict[str, list[Row]] = {}
        for delivery in batch:
            message = delivery.message
            if fault := fault_in(message):
                outcomes.append(GiveUp("impossible_interaction", fault))
                continue
            head = head_id(message.interaction_type, message.interaction_id)
            known = now_standing.get(head) or standing.get(head) or []
            try:
                rows = record(message, message.occurred_at or delivery.time, known, world)
            except Exception as bug:
                log.exception("a direction provider failed", interaction_type=message.interaction_type)
                outcomes.append(GiveUp("direction_provider_failed", str(bug)[:500]))
                continue
            if rows is None:
                outcomes.append(Unchanged())
            else:
                now_standing[head] = rows
                outcomes.append(None)
        work = Work()
        for head, rows in now_standing.items():
            work.change(standing.get(head) or [], rows)
        return outcomes, work


def parts_of(batch: Batch) -> Iterator[Batch]:
    """What fits into a transaction each, in order; one interaction alone whatever it names."""
    start = links = 0
    for place, delivery in enumerate(batch):
        more = max(1, len(delivery.message.targets or ()))
        if links and links + more > MOST_LINKS:
            yield batch[start:place]
            start, links = place, 0
        links += more
    yield batch[start:]


def _head(message: InteractionRecorded) -> str:
    return head_id(message.interaction_type, message.interaction_id)


def _targets(message: InteractionRecorded) -> list[str]:
    contact = target_key("contact", message.contact_id)
    return [contact, *(target_key(target.type, target.id) for target in message.targets or ())]
