"""One idempotent producer a process, made again when the broker has lost its memory of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import MessageAccumulator

log = structlog.get_logger()

_COMPLAIN_SECONDS = 10.0
_ASK_EVERY, _ASK_FOR = 1.0, 5.0
_STOP_WITHIN = 3.0

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish. `value` None is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class TooLarge(MessageSizeTooLargeError):  # type: ignore[misc]
    """Refused here, before the broker was asked."""


class NotPublished(ConnectionError):
    """The broker did not confirm; the record may or may not arrive."""


class Producer:
    """acks=all, idempotent, linger for batches; every wait is bounded."""

    def __init__(
        self,
        bootstrap_servers: str,
        client_id: str,
        compression: Literal["none", "gzip"] = "none",
        patience: float = 10.0,
    ) -> None:
        """patience: seconds of vain tries after which it is said that the broker cannot be reached."""
        self._servers = bootstrap_servers
        self._client_id = client_id
        self._compression = None if compression == "none" else compression
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._complained_at = -math.inf
        self._patience = patience
        self._failing_since: float | None = None
        self._on_trial = False
        self._ask_at = -math.inf
        self._leaving: set[asyncio.Task[None]] = set()

    async def publish(self, records: Iterable[Outgoing], timeout: float = 10.0) -> list[BaseException | None]:
        """Send all, in order for each key, and wait for the broker's answers.

        One result a record: None when confirmed, else why it is not known to have arrived. A failure
        replaces the producer, so that the next call starts afresh.
        """
        records = list(records)
        sent: list[asyncio.Future[object]] = []
        results: list[BaseException | None] = [NotPublished("not sent")] * len(records)
        try:
            async with asyncio.timeout(timeout):
                producer = await self._started()
                for record in records:
                    sent.append(await _accepted(producer, record))  # noqa: PERF401 (an error leaves those before)
                await producer.flush()
                answers = await asyncio.gather(*sent, return_exceptions=True)
                results = [answer if isinstance(answer, BaseException) else None for answer in answers]
        except BaseException as error:
            for future in sent:
                future.add_done_callback(_heed)
            if not isinstance(error, KafkaError | TimeoutError | OSError):
                raise
            self._complain(error)
            results = [error] * len(records)
        asked = [result for result in results if not isinstance(result, TooLarge)]
        unanswered = [result for result in asked if not _is_answer(result)]
        if unanswered:
            await self._discard()
        self._weigh(len(asked), len(unanswered))
        return results

    def _weigh(self, asked: int, unanswered: int) -> None:
        if unanswered < asked:
            self._failing_since, self._on_trial = None, False
        elif unanswered:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if self._on_trial:
                # Longer than others, who look at a third of it, take to see that a share is free.
                self._on_trial, self._ask_at = False, now + self._patience / 2

    async def reaches_the_broker(self) -> bool:
        """False once nothing was confirmed for a while: whoever cannot publish must not keep others from it.

        A broker that answers again is worth one more try, and only what it confirms ends the doubt: its
        addresses may lead nowhere.
        """
        now = time.monotonic()
        if self._on_trial or self._failing_since is None or now - self._failing_since < self._patience:
            return True
        if now < self._ask_at:
            return False
        try:
            async with asyncio.timeout(_ASK_FOR):
                await self._started()
        except (KafkaError, TimeoutError, OSError) as error:
            self._complain(error)
            self._ask_at = time.monotonic() + _ASK_EVERY
            return False
        self._on_trial = True
        return True

    def _complain(self, error: BaseException) -> None:
        """Once in ten seconds: everybody who publishes tries again many times in an outage."""
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = now
            log.warning("publishing failed", error=type(error).__name__)

    async def publish_all(self, records: Iterable[Outgoing], timeout: float = 10.0) -> None:
        """Raises NotPublished unless every record was confirmed."""
        failures = [result for result in await self.publish(records, timeout) if result is not None]
        if failures:
            raise NotPublished(f"{len(failures)} records not confirmed: {failures[0]!r}") from failures[0]

    async def close(self) -> None:
        await self._discard()

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._servers,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    compression_type=self._compression,
                    linger_ms=2,
                    max_batch_size=256 * 1024,
                    request_timeout_ms=10_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await self._stop(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._stop(producer)

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        """Wait for its end for a while; what takes longer ends beside us, and is held so that it does."""
        leaving = asyncio.create_task(_leave(producer))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.wait({leaving}, timeout=_STOP_WITHIN + 1)


def _is_answer(result: BaseException | None) -> bool:
    """Whether the broker said so; what it refuses for its size it was reached for."""
    return result is None or isinstance(result, MessageSizeTooLargeError)


async def _accepted(producer: AIOKafkaProducer, record: Outgoing) -> asyncio.Future[object]:
    """The future of one record's answer; a record that can never be sent fails alone."""
    headers = [(name, value) for name, value in record.headers]
    try:
        future: asyncio.Future[object] = await producer.send(
            record.topic, value=record.value, key=record.key, headers=headers
        )
    except MessageSizeTooLargeError as error:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(TooLarge(*error.args))
    return future


def _heed(future: asyncio.Future[object]) -> None:
    """What became of a record that nobody waits for any more; asyncio would complain of an unread error."""
    if not future.cancelled():
        future.exception()


async def _leave(producer: AIOKafkaProducer) -> None:
    """Stop it, and in the end without what it holds.

    aiokafka's stop waits until the broker has all that an idempotent producer accepted, and cut short it
    leaves the sender at work. There is no other way in public, so the sender is closed first (its requests
    are bounded), what it gave back fails, and then stop comes through.
    """
    stopping = asyncio.create_task(producer.stop())
    await asyncio.wait({stopping}, timeout=_STOP_WITHIN)
    try:
        if not stopping.done():
            log.warning("a producer did not stop in time")
            await producer._sender.close()
            _fail(producer._message_accumulator)
        await stopping
    except (KafkaError, OSError) as error:
        log.warning("a producer did not stop", error=type(error).__name__)


def _fail(accumulator: MessageAccumulator) -> None:
    """All that it holds, taken out as the sender does: what lies there gets an error that nobody reads."""
    while accumulator._batches:
        accumulator._pop_batch(next(iter(accumulator._batches)))
    accumulator.fail_all(NotPublished("the broker did not answer"))
