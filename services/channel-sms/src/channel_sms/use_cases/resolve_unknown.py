"""Finds out what became of sends whose result nobody knows; repeats nothing on a mere guess."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from channel_sms.adapters import mongo_intents
from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.domain.conversation import unknown_outcome
from channel_sms.domain.intent import Intent, recorded
from channel_sms.domain.settling import InDoubt, Sent, Unsent, is_proven_absent, next_look
from channel_sms.provider import LookUpFailed, Promise, Provider, Text
from channel_sms.settings import Settings
from channel_sms.use_cases.settle_sends import SettleSends, Settling
from servicekit.clock import Clock, real_now
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.mongo import is_unavailable
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_AFTER_LOOK_UP = Failpoint("channel-sms.after_look_up")

_AT_ONCE = 20
_CLOCKS_DIFFER = timedelta(seconds=2)


class ResolveUnknown:
    batch = 100

    def __init__(
        self,
        provider: Provider,
        intents: MongoIntents,
        conversations: MongoConversations,
        settle: SettleSends,
        committer: Committer,
        leases: Leases,
        clock: Clock,
        settings: Settings,
        held: Mapping[str, str | None],
    ) -> None:
        """held: intents that this process itself has in hand, and their claims."""
        self._held = held
        self._provider = provider
        self._intents = intents
        self._conversations = conversations
        self._settle = settle
        self._committer = committer
        self._leases = leases
        self._clock = clock
        self._orphaned_after = timedelta(seconds=settings.orphaned_after)
        self._report_after = timedelta(seconds=settings.sms_unknown_after_seconds)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def step(self) -> int:
        buckets = await self._leases.held()
        if not buckets:
            return 0
        now = real_now()
        orphans = await self._intents.orphans(now - self._orphaned_after, buckets, self.batch, self._held)
        settled = 0
        if orphans:
            log.warning("claimed sends have lost their owner", intents=len(orphans))
            settled = await self._put_in_doubt(orphans)
        unknown = await self._intents.to_look_up(now, buckets, self.batch)
        looked = await asyncio.gather(*(self._look(intent) for intent in unknown))
        return settled + sum(looked)

    async def _put_in_doubt(self, orphans: Sequence[Intent]) -> int:
        """How many were. One that cannot be keeps no other from it, nor from being looked up."""
        try:
            return await self._settle([Settling(intent, InDoubt("its sender ended")) for intent in orphans])
        except Conflict:
            log.warning("claimed sends without an owner are disputed", intents=len(orphans))
            return 0
        except Exception as error:
            if is_unavailable(error):
                raise
            if len(orphans) > 1:
                return sum([await self._put_in_doubt([intent]) for intent in orphans])
            log.exception(
                "a claimed send without an owner cannot be put in doubt", intent_id=orphans[0].intent_id
            )
            return 0

    async def _look(self, intent: Intent) -> bool:
        """Whether something could be written of it; if not, that keeps no other from being looked up."""
        try:
            return await self._look_up(intent)
        except Exception as error:
            if is_unavailable(error):
                raise
            self._tell_of(intent, error)
        try:
            # Its fate may be known: nothing is told of it.
            await self._postpone(intent, absent=False, now=real_now(), tell=False)
        except Exception as error:
            if is_unavailable(error):
                raise
            self._tell_of(intent, error)
        return False

    def _tell_of(self, intent: Intent, error: Exception) -> None:
        log.warning(
            "a send in doubt cannot be settled yet",
            intent_id=intent.intent_id,
            error=repr(error)[:200],
            exc_info=None if isinstance(error, Conflict) else error,
        )

    async def _look_up(self, intent: Intent) -> bool:
        async with self._slots:
            found = await self._find(intent)
        _AFTER_LOOK_UP()
        now = real_now()
        if found:
            return await self._settle([Settling(intent, Sent(found))]) > 0
        if found is not None and is_proven_absent(intent, self._provider.absence_proves_after, now):
            log.info("a look-up proved that nothing was sent", intent_id=intent.intent_id)
            return await self._settle([Settling(intent, Unsent("proven by look-up"))]) > 0
        return await self._postpone(intent, absent=found is not None, now=now)

    async def _find(self, intent: Intent) -> str | None:
        """The provider's id; empty if there surely is none to be seen; None if nothing can be said."""
        if self._provider.promise is not Promise.LOOK_UP or intent.claimed_real_at is None:
            return None
        text = Text(intent.intent_id, intent.to, intent.sender, intent.text, 0)
        try:
            earliest = intent.claimed_real_at - _CLOCKS_DIFFER
            candidates = await self._provider.look_up(text, earliest)
        except LookUpFailed as error:
            log.info("a look-up was not answered", intent_id=intent.intent_id, error=str(error))
            return None
        late = self._provider.absence_proves_after
        # The API tells whole seconds.
        window = timedelta(days=1) if late is None else timedelta(seconds=late + 1) + _CLOCKS_DIFFER
        return await self._attribute(intent, candidates, earliest - window)

    async def _attribute(
        self, intent: Intent, candidates: Sequence[str], claimed_since: datetime
    ) -> str | None:
        """claimed_since: what was claimed before that was taken before all the candidates, or never."""
        # In this order: one that is settled in between is counted and has its message, not the reverse.
        alike = await self._intents.others_in_doubt(intent, claimed_since)
        known = await self._intents.holders_of(candidates)
        free = [candidate for candidate in candidates if candidate not in known]
        if not free:
            return ""
        # With fewer messages than intents of the same words, nobody can tell whose they are.
        return free[0] if len(free) > alike else None

    async def _postpone(self, intent: Intent, *, absent: bool, now: datetime, tell: bool = True) -> bool:
        changes: dict[str, object] = {"looks": intent.looks + 1, "look_real_at": next_look(intent.looks, now)}
        late = self._provider.absence_proves_after
        if (
            absent
            and intent.absent_real_at is None
            and late is not None
            and intent.claimed_real_at is not None
        ):
            if now >= intent.claimed_real_at + timedelta(seconds=late):
                changes["absent_real_at"] = now
                changes["look_real_at"] = now + timedelta(seconds=2.1)
            else:
                changes["look_real_at"] = min(
                    next_look(intent.looks, now), intent.claimed_real_at + timedelta(seconds=late)
                )
        work = Changes()
        since = intent.claimed_real_at or now
        if tell and not intent.reported_unknown and now - since >= self._report_after:
            changes |= {"reported_unknown": True, "message_version": intent.message_version + 1}
            await self._report(intent, work)
        work.also.append(mongo_intents.change(intent, **changes))
        try:
            await self._committer.commit(work)
        except Conflict:
            log.info("an unknown send was settled meanwhile", intent_id=intent.intent_id)
            return False
        return True

    async def _report(self, intent: Intent, work: Changes) -> None:
        """Tell that nobody knows; looking goes on, and a person may decide."""
        now = self._clock.now()
        messages = [recorded(intent, "unknown", intent.message_version + 1)]
        work.rows.extend(self._committer.outbox.rows(messages, intent.trace))
        conversation = await self._conversations.get(intent.activity_id) if intent.activity_id else None
        if conversation and conversation.is_open and conversation.intent_id == intent.intent_id:
            outcome = unknown_outcome(conversation, intent.intent_id, now)
            work.rows.extend(self._committer.outbox.rows([outcome], intent.trace))
