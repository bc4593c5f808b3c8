"""Sends what is due: claim first, look at opt-outs, then the socket; the results follow in groups."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

import structlog
from prometheus_client import Counter

from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoInbound
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
from channel_sms.use_cases.record_results import BATCH, RecordResults
from contracts.campaigns import CampaignChanged, EndpointChanged
from contracts.reasons import AT_REST
from servicekit.backoff import backoff
from servicekit.clock import Clock, real_now
from servicekit.failpoints import Failpoint, InjectedFault
from servicekit.leases import BUCKETS, Leases
from servicekit.resting import end, rest

log = structlog.get_logger()

_BEFORE_CLAIM = Failpoint("channel-sms.before_claim")
_AFTER_CLAIM = Failpoint("channel-sms.after_claim")
_BEFORE_SEND = Failpoint("channel-sms.before_send")
_AFTER_SEND = Failpoint("channel-sms.after_send")

_LASTING_FAILURES = 3
"""In a row; a single "too many requests" is nothing that anybody should look at."""
_NAMES = {Accepted: "accepted", NotSent: "not_sent", Refused: "refused", Ambiguous: "ambiguous"}
_LONGEST_REST = 5.0
_UNHEARD_SECONDS = 0.5
_LONGEST_TOLD = 60.0
"""Confirmations of an opt-out wait as well, so a provider is asked again after a minute, whatever it said."""


class SendDue:
    def __init__(
        self,
        provider: Provider,
        intents: MongoIntents,
        conversations: MongoConversations,
        inbound: MongoInbound,
        suppressions: MongoSuppressions,
        knowledge: MongoKnowledge,
        results: RecordResults,
        leases: Leases,
        clock: Clock,
        settings: Settings,
        stopping: asyncio.Event,
        added: asyncio.Event,
        answers: Counter,
    ) -> None:
        self._answers = answers
        self._provider = provider
        self._intents = intents
        self._conversations = conversations
        self._inbound = inbound
        self._suppressions = suppressions
        self._knowledge = knowledge
        self._results = results
        self._leases = leases
        self._clock = clock
        self._timeout = settings.sms_send_timeout_seconds
        self._concurrency = settings.sms_concurrency
        self._drain_seconds = settings.drain_seconds
        self._stopping = stopping
        self._added = added
        self._held_back = False
        """Something is due, and capacity or the pace of its endpoint does not allow it yet."""
        self._pace = Pace()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._rest_until = 0.0
        self._failures = 0

    async def run(self) -> None:
        recording = (
            asyncio.create_task(self._results.record_new(), name="record results"),
            asyncio.create_task(self._results.record_disputed(), name="record disputed results"),
        )
        try:
            while not self._stopping.is_set():
                if not await self._start_some():
                    idle = IDLE_SECONDS if self._held_back else idle_seconds(self._leases)
                    await rest(self._stopping, idle, self._added)
        finally:
            await self._finish(*recording)
        await self._leases.release()

    async def _finish(self, *recording: asyncio.Task[None]) -> None:
        """What is on its way is waited for; what is not recorded then is found in doubt later."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=self._timeout + 1)
        try:
            async with asyncio.timeout(self._drain_seconds / 2):
                await self._results.all_recorded()
        except TimeoutError:
            log.warning("results of sends were not recorded in time", results=self._results.left)
        await end(*recording)

    async def _start_some(self) -> bool:
        """Claim and start what is due and what capacity allows; returns whether there may be more."""
        # What is not recorded in time would be taken for lost, so that no more is claimed than is recorded.
        unrecorded = self._concurrency + BATCH - len(self._results.holds)
        free = min(self._concurrency - len(self._in_flight), unrecorded, BATCH)
        self._held_back = free <= 0
        if free <= 0 or time.monotonic() < self._rest_until:
            return False
        buckets = await self._leases.held()
        if not buckets:
            return False
        resting = self._pace.exhausted()
        due = await self._intents.due(
            self._clock.now(),
            real_now(),
            buckets,
            resting,
            await self._knowledge.campaigns_at_rest(self._clock.now()),
            free,
        )
        allowed = await self._within_pace(due, len(buckets) / BUCKETS) if due else []
        self._held_back = len(allowed) < len(due) or bool(resting)
        if not allowed or self._leases.remaining() <= 0:
            return False
        _BEFORE_CLAIM()
        before = time.monotonic() + self._timeout
        claimed = await self._intents.claim(allowed, self._clock.now(), real_now())
        self._results.hold(claimed)
        try:
            _AFTER_CLAIM()
            still_allowed = await self._still_allowed(claimed)
        except BaseException:
            self._results.let_go(claimed)
            raise
        for intent in still_allowed:
            task = asyncio.create_task(self._send(intent, before))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        return bool(claimed) and len(allowed) == free

    async def _within_pace(self, due: Sequence[Intent], share: float) -> list[Intent]:
        """What is over takes none of it: it is given back. What rests was not known to when it was read."""
        campaigns, endpoints = await self._campaigns_and_endpoints(due)
        now = self._clock.now()
        allowed = []
        for intent in due:
            endpoint = endpoints.get(intent.endpoint_id)
            objection = intent.objection(campaigns.get(intent.campaign_id or ""), endpoint, now)
            if objection is not None:
                if objection not in AT_REST:
                    allowed.append(intent)
                continue
            rate = (endpoint.segments_per_second if endpoint else 1.0) * share
            if self._pace.take(intent.endpoint_id, intent.segments, rate):
                allowed.append(intent)
        return allowed

    async def _campaigns_and_endpoints(
        self, intents: Sequence[Intent]
    ) -> tuple[Mapping[str, CampaignChanged], Mapping[str, EndpointChanged]]:
        campaigns = await self._knowledge.campaigns.get({intent.campaign_id for intent in intents})
        return campaigns, await self._knowledge.endpoints.get({intent.endpoint_id for intent in intents})

    async def _still_allowed(self, claimed: Sequence[Intent]) -> list[Intent]:
        """Looked at after the claim: an opt-out that is stored later waits for what is claimed before.

        Texts that nobody has worked yet first: whoever works an opt-out marks its number before that. One of
        them may be an opt-out, and whoever is to work it may be frozen or dead.
        """
        addresses = {intent.to for intent in claimed if intent.purpose not in SENT_IN_SPITE_OF_OPT_OUT}
        contacts = {
            intent.contact_id for intent in claimed if intent.purpose not in SENT_IN_SPITE_OF_PREFERENCE
        }
        outlived = [intent.activity_id for intent in claimed if intent.may_have_outlived_its_conversation]
        unheard = await self._inbound.unworked_from(addresses)
        suppressed, opted_out, concluded, (campaigns, endpoints) = await asyncio.gather(
            self._suppressions.among(addresses),
            self._knowledge.opted_out_among(contacts),
            self._conversations.concluded_among(outlived),
            self._campaigns_and_endpoints(claimed),
        )
        _BEFORE_SEND()
        now = self._clock.now()
        free = []
        for intent in claimed:
            forgotten = not intent.to
            left = intent.to in suppressed and intent.purpose not in SENT_IN_SPITE_OF_OPT_OUT
            declined = intent.contact_id in opted_out and intent.purpose not in SENT_IN_SPITE_OF_PREFERENCE
            if forgotten or left or declined:
                self._results.note(intent, Suppressed())
            elif intent.to in unheard and intent.purpose not in SENT_IN_SPITE_OF_OPT_OUT:
                self._pace.give_back(intent.endpoint_id, intent.segments)
                self._results.note(intent, Unsent("what they wrote is heard first", _UNHEARD_SECONDS))
            elif intent.may_have_outlived_its_conversation and intent.activity_id in concluded:
                self._results.note(intent, Pointless())
            elif objection := intent.objection(
                campaigns.get(intent.campaign_id or ""), endpoints.get(intent.endpoint_id), now
            ):
                self._results.note(intent, TooLate(objection))
            else:
                free.append(intent)
        return free

    async def _send(self, intent: Intent, before: float) -> None:
        try:
            settlement = await self._sent(intent, before)
        except InjectedFault:
            log.warning("a result was lost on purpose", intent_id=intent.intent_id)
            self._results.let_go([intent])
        except BaseException:
            self._results.let_go([intent])
            raise
        else:
            self._results.note(intent, settlement)

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
