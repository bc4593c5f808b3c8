"""Sends what is due: claim first, look at opt-outs, then the socket; the results follow in groups."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.adapters.mongo_suppressions import MongoSuppressions
from channel_sms.domain.intent import SENT_IN_SPITE_OF_OPT_OUT, SENT_IN_SPITE_OF_PREFERENCE, Intent
from channel_sms.domain.settling import (
    InDoubt,
    Pointless,
    RefusedForGood,
    Sent,
    Settlement,
    Suppressed,
    TooLate,
    Unsent,
)
from channel_sms.loops import IDLE_SECONDS, idle_seconds
from channel_sms.pace import Pace
from channel_sms.provider import Accepted, Ambiguous, NotSent, Provider, Refused, Result, Text
from channel_sms.settings import Settings
from channel_sms.use_cases.settle_sends import SettleSends, Settling
from servicekit.backoff import backoff
from servicekit.clock import Clock, real_now
from servicekit.failpoints import Failpoint, InjectedFault
from servicekit.leases import BUCKETS, Leases
from servicekit.mongo import Conflict, is_unavailable
from servicekit.resting import end, rest

log = structlog.get_logger()

_BEFORE_CLAIM = Failpoint("channel-sms.before_claim")
_AFTER_CLAIM = Failpoint("channel-sms.after_claim")
_BEFORE_SEND = Failpoint("channel-sms.before_send")
_AFTER_SEND = Failpoint("channel-sms.after_send")

_BATCH = 100
_QUICK_TRIES = 8
"""What is disputed longer is tried again later, by itself."""
_DISPUTED_FOR = timedelta(minutes=10)
"""The transaction of a process that was killed is given up long before."""
_LASTING_FAILURES = 3
"""In a row; a single "too many requests" is nothing that anybody should look at."""
_NAMES = {Accepted: "accepted", NotSent: "not_sent", Refused: "refused", Ambiguous: "ambiguous"}
_LONGEST_REST = 5.0
_LONGEST_TOLD = 60.0
"""Confirmations of an opt-out wait as well, so a provider is asked again after a minute, whatever it said."""


class SendDue:
    def __init__(
        self,
        provider: Provider,
        intents: MongoIntents,
        conversations: MongoConversations,
        suppressions: MongoSuppressions,
        knowledge: MongoKnowledge,
        settle: SettleSends,
        leases: Leases,
        clock: Clock,
        settings: Settings,
        stopping: asyncio.Event,
        committed: asyncio.Event,
        answers: Counter,
    ) -> None:
        self._answers = answers
        self._provider = provider
        self._intents = intents
        self._conversations = conversations
        self._suppressions = suppressions
        self._knowledge = knowledge
        self._settle = settle
        self._leases = leases
        self._clock = clock
        self._timeout = settings.sms_send_timeout_seconds
        self._concurrency = settings.sms_concurrency
        self._drain_seconds = settings.drain_seconds
        self._stopping = stopping
        self._committed = committed
        self._held_back = False
        self._pace = Pace()
        self._in_flight: set[asyncio.Task[None]] = set()
        self.holds: dict[str, str | None] = {}
        """Intents, and their claims, whose result this process is going to record: it has not lost them."""
        self._settled: list[Settling] = []
        self._waiting: list[Settling] = []
        """What could not be recorded yet: it is tried again by itself, and keeps no new result."""
        self._again_at = 0.0
        self._to_settle = asyncio.Event()
        self._rest_until = 0.0
        self._failures = 0

    async def run(self) -> None:
        recording = asyncio.create_task(self._record(), name="record results")
        try:
            while not self._stopping.is_set():
                if not await self._start_some():
                    soon = self._held_back or self._in_flight
                    await rest(
                        self._stopping, IDLE_SECONDS if soon else idle_seconds(self._leases), self._committed
                    )
        finally:
            await self._finish(recording)
        await self._leases.release()

    async def _finish(self, recording: asyncio.Task[None]) -> None:
        """What is on its way is waited for; what is not recorded then is found in doubt later."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=self._timeout + 1)
        try:
            async with asyncio.timeout(self._drain_seconds / 2):
                while self._settled or self._waiting:
                    self._to_settle.set()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning(
                "results of sends were not recorded in time", results=len(self._settled) + len(self._waiting)
            )
        await end(recording)

    async def _start_some(self) -> int:
        """Claim and start what is due and what capacity allows; returns how many."""
        self._held_back = False
        # What is not recorded in time would be taken for lost, so that no more is claimed than is recorded.
        unrecorded = self._concurrency + _BATCH - len(self.holds)
        free = min(self._concurrency - len(self._in_flight), unrecorded, _BATCH)
        if free <= 0 or time.monotonic() < self._rest_until:
            return 0
        buckets = await self._leases.held()
        if not buckets:
            return 0
        due = await self._intents.due(
            self._clock.now(),
            real_now(),
            buckets,
            self._pace.exhausted(),
            await self._knowledge.campaigns_at_rest(),
            free,
        )
        allowed = await self._within_pace(due, len(buckets) / BUCKETS) if due else []
        self._held_back = len(allowed) < len(due)
        if not allowed or self._leases.remaining() <= 0:
            return 0
        _BEFORE_CLAIM()
        before = time.monotonic() + self._timeout
        claimed = await self._intents.claim(allowed, self._clock.now(), real_now())
        self.holds |= {intent.intent_id: intent.claim for intent in claimed}
        try:
            _AFTER_CLAIM()
            still_allowed = await self._still_allowed(claimed)
        except BaseException:
            self._let_go(claimed)
            raise
        for intent in still_allowed:
            task = asyncio.create_task(self._send(intent, before))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        return len(claimed)

    async def _within_pace(self, due: Sequence[Intent], share: float) -> list[Intent]:
        endpoints = await self._knowledge.endpoints.get({intent.endpoint_id for intent in due})
        allowed = []
        for intent in due:
            endpoint = endpoints.get(intent.endpoint_id)
            rate = (endpoint.segments_per_second if endpoint else 1.0) * share
            if self._pace.take(intent.endpoint_id, intent.segments, rate):
                allowed.append(intent)
        return allowed

    async def _still_allowed(self, claimed: Sequence[Intent]) -> list[Intent]:
        """Looked at after the claim: an opt-out that is recorded later waits for what is claimed before."""
        addresses = {intent.to for intent in claimed if intent.purpose not in SENT_IN_SPITE_OF_OPT_OUT}
        contacts = {
            intent.contact_id for intent in claimed if intent.purpose not in SENT_IN_SPITE_OF_PREFERENCE
        }
        outlived = [intent.activity_id for intent in claimed if intent.may_have_outlived_its_conversation]
        suppressed, opted_out, concluded = await asyncio.gather(
            self._suppressions.among(addresses),
            self._knowledge.opted_out_among(contacts),
            self._conversations.concluded_among(outlived),
        )
        _BEFORE_SEND()
        now = self._clock.now()
        free = []
        for intent in claimed:
            forgotten = not intent.to
            left = intent.to in suppressed and intent.purpose not in SENT_IN_SPITE_OF_OPT_OUT
            declined = intent.contact_id in opted_out and intent.purpose not in SENT_IN_SPITE_OF_PREFERENCE
            if forgotten or left or declined:
                self._note(intent, Suppressed())
            elif intent.may_have_outlived_its_conversation and intent.activity_id in concluded:
                self._note(intent, Pointless())
            elif intent.is_too_late(now):
                self._note(intent, TooLate())
            else:
                free.append(intent)
        return free

    def _let_go(self, intents: Sequence[Intent]) -> None:
        """Nothing of them is going to be recorded any more, unless they were claimed again."""
        for intent in intents:
            if self.holds.get(intent.intent_id) == intent.claim:
                del self.holds[intent.intent_id]

    async def _send(self, intent: Intent, before: float) -> None:
        try:
            settlement = await self._sent(intent, before)
        except InjectedFault:
            log.warning("a result was lost on purpose", intent_id=intent.intent_id)
            self._let_go([intent])
        except BaseException:
            self._let_go([intent])
            raise
        else:
            self._note(intent, settlement)

    async def _sent(self, intent: Intent, before: float) -> Settlement:
        text = Text(intent.intent_id, intent.to, intent.sender, intent.text, self._seconds_left(intent))
        try:
            result = await self._provider.send(text, before)
            _AFTER_SEND()
        except InjectedFault:
            raise
        except Exception:
            log.exception("a provider failed", intent_id=intent.intent_id)
            result = Ambiguous("a bug of the provider adapter")
        self._answers.labels(_NAMES[type(result)]).inc()
        self._weigh(result)
        return _settlement(result, intent)

    def _seconds_left(self, intent: Intent) -> int:
        """For the carrier, which may hold a text back itself."""
        left = intent.expires_real_at - real_now()
        if intent.not_after is not None:
            left = min(left, intent.not_after - self._clock.now())
        return max(1, min(36_000, int(left.total_seconds())))

    def _weigh(self, result: Result) -> None:
        """Rest when the provider is away for everybody, longer each time."""
        if not isinstance(result, NotSent):
            self._failures = 0
        elif result.everybody and time.monotonic() >= self._rest_until:
            self._failures += 1
            told = min(result.retry_after, _LONGEST_TOLD)
            seconds = max(told, backoff(self._failures, 0.1, _LONGEST_REST))
            self._rest_until = time.monotonic() + seconds
            say = log.warning if self._failures >= _LASTING_FAILURES else log.info
            say("sending rests", reason=result.reason, seconds=round(seconds, 2))

    def _note(self, intent: Intent, settlement: Settlement) -> None:
        self._settled.append(Settling(intent, settlement))
        self._to_settle.set()

    async def _record(self) -> None:
        failures = 0
        while True:
            again = bool(self._waiting) and time.monotonic() >= self._again_at
            if not again and not self._settled:
                await self._something_to_record()
                continue
            source = self._waiting if again else self._settled
            batch = source[:_BATCH]
            left = await self._unrecorded(batch)
            del source[: len(batch)]
            kept = {(each.intent.intent_id, each.intent.claim) for each in left}
            self._let_go([s.intent for s in batch if (s.intent.intent_id, s.intent.claim) not in kept])
            if left:
                self._waiting.extend(left)
                failures += 1
                self._again_at = time.monotonic() + backoff(failures)
            elif not self._waiting:
                failures = 0

    async def _something_to_record(self) -> None:
        """A new result, or the time at which those that wait are tried again."""
        self._to_settle.clear()
        seconds = max(0.0, self._again_at - time.monotonic()) if self._waiting else None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._to_settle.wait()

    async def _unrecorded(self, batch: Sequence[Settling]) -> Sequence[Settling]:
        """Those that wait: for the database, or for the transaction of a process that was killed.

        What can never be recorded, or not for ten minutes, is left in doubt, for the look-up.
        """
        try:
            await self._settle(batch, _QUICK_TRIES)
        except Exception as error:
            away = isinstance(error, InjectedFault) or is_unavailable(error)
            if len(batch) > 1 and not away:
                return [each for one in batch for each in await self._unrecorded([one])]
            first = batch[0].intent
            if away or (isinstance(error, PyMongoError | Conflict) and not _lasts(error, first)):
                log.warning(
                    "results wait to be recorded",
                    error=repr(error)[:200],
                    results=len(batch),
                    intent_id=first.intent_id,
                )
                return batch
            log.exception("a result could not be recorded", intent_id=first.intent_id)
        return []


def _lasts(error: Exception, intent: Intent) -> bool:
    if isinstance(error, Conflict) and error.duplicate:
        return True
    return intent.claimed_real_at is None or real_now() - intent.claimed_real_at > _DISPUTED_FOR


def _settlement(result: Result, intent: Intent) -> Settlement:
    match result:
        case Accepted(provider_message_id):
            return Sent(provider_message_id)
        case NotSent(reason, retry_after, everybody):
            # Where all messages fail alike the sender itself rests, and none of them has to on its own.
            patience = 0.0 if everybody else min(60.0, 0.25 * 2 ** min(intent.attempts, 10))
            return Unsent(reason, max(retry_after, patience * random.uniform(0.5, 1.0)))
        case Refused(code, reason):
            return RefusedForGood(code, reason)
        case Ambiguous(reason):
            return InDoubt(reason)
