"""Who was erased is forgotten: what is open ends, what waits is not sent, and words and numbers go.

That there was a conversation, and how often something was said, stays: the numbers of reports rest on it.
"""

from __future__ import annotations

import structlog
from prometheus_client import Counter

from channel_sms.adapters import mongo_intents
from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoInbound
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.adapters.mongo_suppressions import MongoSuppressions
from channel_sms.domain.conversation import Conversation, forgotten
from servicekit.clock import Clock, real_now
from servicekit.conflicts import Conflict
from servicekit.leases import Leases
from servicekit.lookouts import Lookout, Lookouts
from servicekit.pipeline import is_dependency
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_BATCH = 50


class ForgetContacts:
    """Again is harmless: what is forgotten stays so."""

    def __init__(
        self,
        erasures: Lookouts,
        conversations: MongoConversations,
        intents: MongoIntents,
        inbound: MongoInbound,
        suppressions: MongoSuppressions,
        knowledge: MongoKnowledge,
        committer: Committer,
        leases: Leases,
        clock: Clock,
        set_aside: Counter,
    ) -> None:
        self._set_aside = set_aside
        self._erasures = erasures
        self._conversations = conversations
        self._intents = intents
        self._inbound = inbound
        self._suppressions = suppressions
        self._knowledge = knowledge
        self._committer = committer
        self._leases = leases
        self._clock = clock

    async def step(self) -> int:
        buckets = await self._leases.held()
        if not buckets:
            return 0
        due = await self._erasures.due(real_now(), buckets, _BATCH)
        for erasure in due:
            try:
                left = await self._forget(erasure)
            except Conflict:
                left = 1
            except Exception as error:
                if is_dependency(error):
                    raise
                log.exception("a contact could not be forgotten", contact_id=erasure.id)
                self._set_aside.inc()
                left = 1
            if await self._erasures.look_again_or_end(erasure, bool(left), real_now()):
                log.info("a contact was forgotten", contact_id=erasure.id)
        return len(due)

    async def _forget(self, erasure: Lookout) -> int:
        """Returns how many messages keep their words, because nobody knows yet whether they were sent."""
        contact_id, addresses = erasure.id, set(erasure.document["addresses"])
        conversations = [each async for each in self._conversations.of_contact(contact_id)]
        known = {each.their_address for each in conversations} | await self._inbound.senders_of(contact_id)
        if earlier := known - addresses - {""}:
            # Before what they are known from is gone.
            more = {"$addToSet": {"addresses": {"$each": sorted(earlier)}}}
            await self._erasures.note(contact_id, more)
            addresses |= earlier
        for conversation in conversations:
            await self._forget_conversation(conversation)
        shared = await self._knowledge.contacts_with(addresses) if addresses else {}
        theirs_alone = {number for number in addresses if not set(shared.get(number, ())) - {contact_id}}
        left = await self._intents.forget(contact_id)
        await self._inbound.forget(contact_id)
        await self._inbound.forget_nobodys(theirs_alone, erasure.told_real_at)
        await self._suppressions.forget(contact_id, addresses, theirs_alone)
        return left

    async def _forget_conversation(self, conversation: Conversation) -> None:
        if (after := forgotten(conversation, self._clock.now())) is None:
            return
        waiting = [mongo_intents.cancelled(conversation.intent_id)] if conversation.intent_id else []
        await self._committer.commit(Changes([(self._conversations, conversation, after)], also=waiting))
