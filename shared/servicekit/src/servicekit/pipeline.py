"""What happens to a batch between Kafka and a handler, and afterwards.

read -> handle, waiting for dependencies -> again what asked for it -> dead letters last. The pipeline
returns when every record has had its effect or is in the dead letters, and only then is the offset
committed. It raises only when the process is stopping, and then the records are delivered again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from contracts.message import DEAD_LETTER_SUFFIX, Message
from servicekit.backoff import backoff
from servicekit.conflicts import Conflict
from servicekit.delivery import Delivery, Ignored, Reader, Rejected, Tombstone, headers_of
from servicekit.failpoints import Failpoint
from servicekit.metrics import Metrics
from servicekit.mongo import is_unavailable
from servicekit.producer import Outgoing, Producer
from servicekit.verdict import GiveUp, Outcome, TryAgain, Unchanged

log = structlog.get_logger()

M = TypeVar("M", bound=Message)

Handler = Callable[[Sequence[Delivery[M]]], Awaitable[Sequence[Outcome]]]
"""Of a batch of such messages; one of a compacted topic is given tombstones as well."""
BatchHandler = Callable[[Sequence[Any]], Awaitable[Sequence[Outcome]]]

TRIES = 8
"""How often a message may ask for another try."""
_TRIES_OF_A_FAILING_ONE = 3
"""How often a handler may raise over a message: a bug seldom mends itself, and its partition waits."""
_MAX_WAIT = 5.0
_SILENT_SECONDS = 1.0
"""An idle fetch is answered after half a second, and the shortest row of tries takes two."""
_AWAY_SECONDS = 5.0
_ANSWERED_SECONDS = 0.6
"""Behind the last try: a broker that has not answered for so long may be away already."""
_IDS_LOGGED = 50
_SHORT_HEADER = 1024


class Stopping(Exception):
    """The process drains: what is in hand is given back to Kafka undone."""


def is_dependency(error: BaseException) -> bool:
    """Whether waiting can help: something this process needs does not answer, or is held by somebody.

    The transaction of a process that was killed holds its documents until the database gives it up.
    """
    return isinstance(error, KafkaError | ConnectionError | TimeoutError | Conflict) or is_unavailable(error)


class Pipeline:
    """One subscriber's way from records to effects."""

    def __init__(
        self,
        name: str,
        reader: Reader,
        handler: BatchHandler,
        producer: Producer,
        metrics: Metrics,
        stopping: asyncio.Event,
        tries: int = TRIES,
        broker_silent: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """broker_silent: seconds since the broker last answered; what is waited for cannot come meanwhile."""
        self._name = name
        self._before_handling = Failpoint(f"{name}.before_handling")
        self._before_offset_commit = Failpoint(f"{name}.before_offset_commit")
        self._after_dead_letter = Failpoint(f"{name}.after_dead_letter")
        self._read = reader
        self._handler = handler
        self._producer = producer
        self._metrics = metrics
        self._stopping = stopping
        self._tries = tries
        self._broker_silent = broker_silent
        self._consumed = {
            outcome: metrics.consumed.labels(name, outcome)
            for outcome in ("done", "unchanged", "ignored", "dead_letter")
        }

    async def __call__(self, records: Sequence[Any]) -> None:
        began = time.perf_counter()
        self._before_handling()
        pending: list[Delivery[Any] | Tombstone] = []
        rejected: list[Rejected] = []
        counts: Counter[str] = Counter()
        for record in records:
            match self._read(record):
                case Delivery() | Tombstone() as delivery:
                    pending.append(delivery)
                case Rejected() as reject:
                    rejected.append(reject)
                case Ignored():
                    counts["ignored"] += 1
        first = pending[:_IDS_LOGGED]
        named = [delivery.event_id for delivery in first if isinstance(delivery, Delivery)]
        named += [_event_id(reject) for reject in rejected[: _IDS_LOGGED - len(named)]]
        if log.is_enabled_for(logging.DEBUG):
            self._name_each(pending)
        while pending:
            outcomes = await self._handle(pending)
            pending, wait = self._sort_out(pending, outcomes, rejected, counts)
            if pending:
                await self._pause(wait)
        if rejected:
            await self._bury(rejected)
            counts["dead_letter"] = len(rejected)
        self._before_offset_commit()
        for outcome, count in counts.items():
            self._consumed[outcome].inc(count)
        if counts["unchanged"]:
            self._metrics.suppressed.labels(self._name).inc(counts["unchanged"])
        seconds = time.perf_counter() - began
        self._metrics.batch_seconds.labels(self._name).observe(seconds)
        log.info(
            "batch handled",
            subscriber=self._name,
            records=len(records),
            ms=round(seconds * 1000, 1),
            outcomes=dict(counts),
            event_ids=" ".join(named),
            trace=first[0].traceparent if first and isinstance(first[0], Delivery) else None,
        )

    def _name_each(self, taken: Sequence[Delivery[Any] | Tombstone]) -> None:
        """For whoever follows one contact through the services: its id is the key nearly everywhere."""
        for delivery in taken:
            if isinstance(delivery, Delivery):
                log.debug(
                    "message taken",
                    subscriber=self._name,
                    key=(delivery.key or b"").decode("utf-8", "replace"),
                    event_id=delivery.event_id,
                    trace=delivery.traceparent,
                )

    async def _handle(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        """Hand over the batch; wait as long as a dependency is down; isolate what fails by itself."""
        try:
            return await self._patiently(batch)
        except Stopping:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [self._own_fault(batch[0], error)]
            log.warning("a batch failed, its messages are handled one by one", subscriber=self._name)
        outcomes: list[Outcome] = []
        waiting: set[bytes | None] = set()
        for delivery in batch:
            if delivery.record.key in waiting:
                outcomes.append(TryAgain("an earlier message of this key waits"))
                continue
            (outcome,) = await self._handle([delivery])
            if isinstance(outcome, TryAgain):
                waiting.add(delivery.record.key)
            outcomes.append(outcome)
        return outcomes

    async def _patiently(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        for attempt in range(2**31):
            try:
                return await self._handler(batch)
            except Exception as error:
                if not is_dependency(error):
                    raise
                self._metrics.waits.labels(self._name, type(error).__name__).inc()
                log.warning(
                    "waiting for a dependency",
                    subscriber=self._name,
                    error=repr(error)[:200],
                    attempt=attempt,
                )
                await self._pause(backoff(attempt))
        raise AssertionError("unreachable")

    def _own_fault(self, delivery: Delivery[Any] | Tombstone, error: Exception) -> Outcome:
        attempts = delivery.attempts if isinstance(delivery, Delivery) else self._tries
        log.warning(
            "a message failed",
            subscriber=self._name,
            error=repr(error)[:500],
            attempt=attempts,
            exc_info=error,
        )
        if attempts + 1 < min(self._tries, _TRIES_OF_A_FAILING_ONE):
            return TryAgain(repr(error)[:500], after=backoff(attempts))
        return GiveUp.of_bug(error)

    def _sort_out(
        self,
        pending: Sequence[Delivery[Any] | Tombstone],
        outcomes: Sequence[Outcome],
        rejected: list[Rejected],
        counts: Counter[str],
    ) -> tuple[list[Delivery[Any] | Tombstone], float]:
        if list(outcomes).count(None) == len(pending):
            counts["done"] += len(pending)
            return [], 0.0
        again: list[Delivery[Any] | Tombstone] = []
        wait = _MAX_WAIT
        blocked: set[bytes | None] = set()
        for delivery, outcome in zip(pending, outcomes, strict=True):
            match outcome:
                case None:
                    counts["done"] += 1
                case Unchanged():
                    counts["unchanged"] += 1
                case GiveUp(reason, detail):
                    rejected.append(
                        Rejected(delivery.record, reason, detail, getattr(delivery, "attempts", 0) + 1)
                    )
                case TryAgain():
                    follows = delivery.record.key in blocked
                    blocked.add(delivery.record.key)
                    # Who follows waits as long as the one before it, and then not at all.
                    later, seconds = (delivery, _MAX_WAIT) if follows else self._later(delivery, outcome)
                    wait = min(wait, seconds)
                    if isinstance(later, Rejected):
                        rejected.append(later)
                    else:
                        again.append(later)
        return again, wait

    def _later(
        self, delivery: Delivery[Any] | Tombstone, outcome: TryAgain
    ) -> tuple[Delivery[Any] | Tombstone | Rejected, float]:
        """What becomes of it, and in how many seconds. A look ahead of its time, because others of the batch
        wait less, is not a try, nor is one while the broker is away. The row of tries begins anew when it was
        away: those of before the silence was noticed were in vain."""
        if outcome.patient:
            return delivery, outcome.after
        silent, now = self._broker_silent(), time.monotonic()
        wait = max(outcome.after, _SILENT_SECONDS)
        if isinstance(delivery, Tombstone):
            if silent > _ANSWERED_SECONDS:
                return delivery, wait
            return Rejected(delivery.record, "tries_exhausted", outcome.reason, 1), 0.0
        if silent > _SILENT_SECONDS:
            # A broker that is slow all the time gives no new row for each of its silences.
            slow = delivery.began_anew and silent < _AWAY_SECONDS
            attempts = delivery.attempts if slow else 0
            return replace(delivery, attempts=attempts, not_before=now + wait, began_anew=True), wait
        if now < delivery.not_before:
            return delivery, delivery.not_before - now
        attempts = delivery.attempts + 1
        if attempts >= self._tries:
            if silent > _ANSWERED_SECONDS:
                return replace(delivery, not_before=now + wait), wait
            return Rejected(delivery.record, "tries_exhausted", outcome.reason, attempts), 0.0
        seconds = min(outcome.after * 1.5 ** (attempts - 1), _MAX_WAIT)
        return replace(delivery, attempts=attempts, not_before=now + seconds), seconds

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopping

    async def _bury(self, rejected: Sequence[Rejected]) -> None:
        """Publish the dead letters, waiting for Kafka as long as it takes.

        Our headers may be what makes a record too large for the broker. It would wait for ever and the
        partition with it, so it goes without its body: the headers say where the whole of it is.
        """
        letters = [dead_letter(reject, self._name) for reject in rejected]
        for attempt in range(2**31):
            answers = await self._producer.publish(letters)
            missing = [(each, answer) for each, answer in zip(letters, answers, strict=True) if answer]
            if not missing:
                break
            too_large = [isinstance(answer, MessageSizeTooLargeError) for _, answer in missing]
            letters = [
                without_body(each) if large else each
                for (each, _), large in zip(missing, too_large, strict=True)
            ]
            if not all(too_large):
                log.warning("dead letters wait for Kafka", error=repr(missing[0][1])[:200])
                await self._pause(backoff(attempt))
        self._after_dead_letter()
        for reject in rejected:
            self._metrics.dead_letters.labels(self._name, reject.reason).inc()
            log.warning(
                "dead letter",
                subscriber=self._name,
                topic=reject.record.topic,
                partition=reject.record.partition,
                offset=reject.record.offset,
                event_id=_event_id(reject),
                key=(reject.record.key or b"").decode("utf-8", "replace")[:_SHORT_HEADER],
                reason=reject.reason,
                detail=reject.detail[:500],
            )


def _event_id(reject: Rejected) -> str:
    return headers_of(reject.record).get("ce_id", "")[:_SHORT_HEADER]


def dead_letter(reject: Rejected, subscriber: str) -> Outgoing:
    """The record as it was, with where it came from and why it is here in its headers."""
    record = reject.record
    origin = {
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
        "dlq_timestamp": str(record.timestamp),
        "dlq_subscriber": subscriber,
        "dlq_reason": reject.reason,
        "dlq_detail": reject.detail[:4000],
        "dlq_attempts": str(reject.attempts),
        "dlq_failed_at": str(int(time.time() * 1000)),
    }
    kept = [(name, value) for name, value in headers_of(record).items() if not name.startswith("dlq_")]
    headers = [(name, value.encode()) for name, value in [*kept, *origin.items()]]
    # A null body would be a tombstone in the dead letters; there it is an empty one, and the reason says so.
    return Outgoing(record.topic + DEAD_LETTER_SUFFIX, record.key, record.value or b"", headers)


def without_body(letter: Outgoing) -> Outgoing:
    """What is left of a dead letter that the broker refuses for its size: its key and its short headers."""
    size = ("dlq_body_left_out", str(len(letter.value or b"")).encode())
    short = [
        (name, value)
        for name, value in letter.headers
        if name.startswith("dlq_") or len(value) <= _SHORT_HEADER
    ]
    return Outgoing(letter.topic, letter.key, b"", [*short, size])


def by_type(handlers: dict[type, BatchHandler]) -> BatchHandler:
    """One handler for a topic with several message types. Tombstones go to all of them."""

    async def route(batch: Sequence[Any]) -> list[Outcome]:
        answered: dict[int, Outcome] = {}
        for message_class, handler in handlers.items():
            chosen = [
                position
                for position, delivery in enumerate(batch)
                if isinstance(delivery, Tombstone) or isinstance(delivery.message, message_class)
            ]
            if chosen:
                answers = await handler([batch[position] for position in chosen])
                for position, answer in zip(chosen, answers, strict=True):
                    before = answered.get(position, answer)
                    answered[position] = max(before, answer, key=_how_strict)
        return [answered.get(position) for position in range(len(batch))]

    return route


def _how_strict(outcome: Outcome) -> int:
    """A tombstone that several handlers were given is done when all of them are done with it."""
    match outcome:
        case GiveUp():
            return 3
        case TryAgain():
            return 2
        case None:
            return 1
        case Unchanged():
            return 0
