"""No reply in time is an outcome of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog

from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoInbound, MongoIntake
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.domain.conversation import Conversation, Ending, ended
from contracts.campaigns import SubjectChanged
from servicekit.clock import Clock
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.mongo import is_unavailable
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_BEFORE_NO_RESPONSE = Failpoint("channel-sms.before_no_response")

_BATCH = 200
_STANDSTILL_SECONDS = 5.0
"""For one call of the database; between two looks, of which there are four a second, likewise."""


class EndSilent:
    def __init__(
        self,
        conversations: MongoConversations,
        inbound: MongoInbound,
        knowledge: MongoKnowledge,
        committer: Committer,
        leases: Leases,
        clock: Clock,
        arriving: MongoIntake,
        redelivery_seconds: float,
    ) -> None:
        self._conversations = conversations
        self._inbound = inbound
        self._knowledge = knowledge
        self._committer = committer
        self._leases = leases
        self._clock = clock
        self._arriving = arriving
        self._redelivery = redelivery_seconds
        self._deaf_at = time.monotonic()
        """When somebody may last have written to us in vain."""
        self._moved_at = self._deaf_at

    async def step(self) -> int:
        try:
            return await self._step()
        except Exception as error:
            if is_unavailable(error):
                self._deaf_at = self._moved_at = time.monotonic()
            raise

    async def _step(self) -> int:
        self._watch()
        buckets = await self._leases.held()
        self._watch()
        if not buckets or self._is_deaf():
            return 0
        overdue = await self._conversations.overdue(self._clock.now(), buckets, _BATCH)
        self._watch()
        if not overdue:
            return 0
        # An answer that is stored but not worked yet was in time.
        answered = await self._inbound.unworked_from({c.their_address for c in overdue})
        self._watch()
        silent = [c for c in overdue if c.their_address not in answered]
        if not silent:
            return 0
        subjects = await self._knowledge.subjects.get({c.subject_id for c in silent})
        self._watch()
        if self._is_deaf():
            return 0
        try:
            return await self._end(silent, subjects)
        except Conflict:
            self._watch()
            return sum([await self._end_alone(c, subjects) for c in silent if not self._is_deaf()])

    def _is_deaf(self) -> bool:
        return time.monotonic() < max(self._deaf_at, self._arriving.failed_at) + self._redelivery

    def _watch(self) -> None:
        """Called after everything that should take a moment: whether the database or this process stood
        still meanwhile, without anything having failed."""
        now = time.monotonic()
        stood_still = now - self._moved_at
        self._moved_at = now
        if stood_still > _STANDSTILL_SECONDS:
            self._deaf_at = now
            log.warning("nobody is taken for silent for a while", stood_still=round(stood_still, 1))

    async def _end_alone(self, conversation: Conversation, subjects: Mapping[str, SubjectChanged]) -> int:
        try:
            return await self._end([conversation], subjects)
        except Conflict:
            self._watch()
            return 0

    async def _end(self, silent: list[Conversation], subjects: Mapping[str, SubjectChanged]) -> int:
        now = self._clock.now()
        changes = Changes()
        for conversation in silent:
            subject = subjects.get(conversation.subject_id)
            disposition = subject.no_response_disposition if subject else None
            ending = Ending(disposition, "no_response", notes="No reply in time.")
            concluded, outcome = ended(conversation, ending, now)
            changes.replaced.append((self._conversations, conversation, concluded))
            changes.rows.extend(self._committer.outbox.rows([outcome]))
        _BEFORE_NO_RESPONSE()
        await self._committer.commit(changes)
        self._watch()
        log.info("conversations ended without a reply", conversations=len(silent))
        return len(silent)
