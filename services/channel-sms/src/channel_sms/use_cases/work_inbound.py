"""Works what people wrote: opt-outs first, then the open conversation, then whoever may care.

One transaction for a batch: that a message was worked, the one reply it gets, and everything told of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from channel_sms.adapters import mongo_intents
from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoInbound, left_to_people
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.adapters.mongo_suppressions import MongoSuppressions, stays_stopped
from channel_sms.agent import Agent
from channel_sms.domain.conversation import Conversation
from channel_sms.domain.dialogue import Answer, HandOver, Turn
from channel_sms.domain.inbound import Arrived
from channel_sms.domain.intent import Purpose
from channel_sms.domain.wording import Meaning, meaning_of
from channel_sms.settings import Settings
from channel_sms.use_cases.decide_inbound import Directory, InboundBatch, InboundFacts
from contracts.campaigns import SubjectChanged
from servicekit.clock import Clock, real_now
from servicekit.conflicts import TRIES, Conflict, yield_to_others
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.metrics import Metrics
from servicekit.pipeline import is_dependency
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_AFTER_STOP_ANNOUNCED = Failpoint("channel-sms.after_stop_announced")
_BEFORE_INBOUND_WORKED = Failpoint("channel-sms.before_inbound_worked")
_AFTER_INBOUND_WORKED = Failpoint("channel-sms.after_inbound_worked")

_ABOUT_THE_ADDRESS = frozenset({Meaning.OPT_OUT, Meaning.OPT_IN})


class WorkInbound:
    batch = 100

    def __init__(
        self,
        inbound: MongoInbound,
        intents: MongoIntents,
        conversations: MongoConversations,
        suppressions: MongoSuppressions,
        knowledge: MongoKnowledge,
        agent: Agent,
        committer: Committer,
        leases: Leases,
        clock: Clock,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._inbound = inbound
        self._intents = intents
        self._conversations = conversations
        self._suppressions = suppressions
        self._knowledge = knowledge
        self._agent = agent
        self._committer = committer
        self._leases = leases
        self._clock = clock
        self._texts = {
            Purpose.HELP: settings.sms_help_text,
            Purpose.OPTED_OUT: settings.sms_opt_out_text,
            Purpose.OPTED_IN: settings.sms_opt_in_text,
        }
        self._set_aside = metrics.set_aside.labels("text")
        self._validity = settings.sms_validity_seconds
        self._write_window = timedelta(seconds=settings.sms_send_timeout_seconds)

    async def step(self) -> int:
        buckets = await self._leases.held()
        if not buckets:
            return 0
        arrived = await self._inbound.new(buckets, self.batch)
        if not arrived:
            return 0
        await self._work_in_parts(arrived)
        return len(arrived)

    async def _work_in_parts(self, batch: Sequence[Arrived]) -> None:
        """All at once, once more, then by halves: no contested conversation and no text that cannot be worked
        costs the others."""
        if len(batch) == 1:
            await self._alone(batch[0])
            return
        for _ in range(2):
            try:
                await self._work(batch)
                return
            except Conflict:
                continue
            except Exception as error:
                if is_dependency(error):
                    raise
                log.warning("texts are worked in parts", texts=len(batch), error=type(error).__name__)
                break
        half = len(batch) // 2
        await self._work_in_parts(batch[:half])
        await self._work_in_parts(batch[half:])

    async def _alone(self, arrived: Arrived) -> None:
        for attempt in range(TRIES):
            try:
                await self._work([arrived])
                return
            except Conflict:
                await yield_to_others(attempt)
                if not await self._inbound.unworked_from([arrived.sender]):
                    return
            except Exception as error:
                if is_dependency(error):
                    raise
                log.exception("a text could not be worked", inbound_id=arrived.inbound_id)
                left = left_to_people(arrived, self._clock.now(), error)
                await self._committer.commit(Changes(also=[left, stays_stopped(arrived)]))
                self._set_aside.inc()
                return
        raise Conflict("an inbound message could not be worked")

    async def _work(self, batch: Sequence[Arrived]) -> None:
        conversations = await self._conversations.open_with({arrived.sender for arrived in batch})
        subjects = await self._knowledge.subjects.get({c.subject_id for c in conversations})
        meanings = [_meaning(arrived, conversations, subjects) for arrived in batch]
        leaving = [a for a, meant in zip(batch, meanings, strict=True) if meant is Meaning.OPT_OUT]
        if deciding := {
            a.sender for a, meant in zip(batch, meanings, strict=True) if meant in _ABOUT_THE_ADDRESS
        }:
            await self._suppressions.remember(deciding)
        if leaving:
            await self._stop_sending_to({arrived.sender for arrived in leaving})
        directory = await self._directory(batch, meanings, conversations)
        if leaving:
            conversations += await self._others_of(leaving, conversations, directory)
            subjects = await self._knowledge.subjects.get({c.subject_id for c in conversations})
        facts = InboundFacts(
            now=self._clock.now(),
            expires_real_at=mongo_intents.expiry(real_now(), self._validity),
            subjects=subjects,
            campaigns=await self._knowledge.campaigns.get({c.campaign_id for c in conversations}),
            profiles=await self._knowledge.profiles.get({c.agent_profile_id for c in conversations}),
            picks=await self._knowledge.picks_of_agent(),
            suppressed=frozenset(
                await self._suppressions.active_among({arrived.sender for arrived in batch})
            ),
            directory=directory,
            texts=self._texts,
        )
        decided = InboundBatch(facts, conversations)
        for arrived, meant in zip(batch, meanings, strict=True):
            if (conversation := decided.hear(arrived, meant)) is not None:
                answer = await self._ask(conversation, decided.turn(arrived, conversation))
                decided.heed(arrived, conversation, answer)
        await self._write(decided, facts.now)

    async def _stop_sending_to(self, addresses: set[str]) -> None:
        """Nothing goes to these addresses once this returns: new sends see the mark, and what was claimed
        before it is settled or can no longer be written."""
        await self._suppressions.announce(addresses)
        _AFTER_STOP_ANNOUNCED()
        await self._intents.none_is_being_sent_to(addresses, self._write_window)

    async def _directory(
        self, batch: Sequence[Arrived], meanings: Sequence[Meaning], conversations: Sequence[Conversation]
    ) -> Directory:
        """Looked up only if somebody leaves, comes back, or may write outside an open conversation."""
        talking = {conversation.their_address for conversation in conversations}
        senders = {arrived.sender for arrived in batch}
        one_each = len(senders) == len(batch) and senders <= talking
        if one_each and not _ABOUT_THE_ADDRESS & set(meanings):
            return Directory()
        latest, contacts, endpoints, inbound_subject = await asyncio.gather(
            self._conversations.latest_with({(arrived.sender, arrived.to) for arrived in batch}),
            self._knowledge.contacts_with(senders),
            self._knowledge.endpoints_with({arrived.to for arrived in batch}),
            self._knowledge.inbound_subject(),
        )
        return Directory(latest, contacts, endpoints, inbound_subject)

    async def _others_of(
        self, leaving: Sequence[Arrived], conversations: Sequence[Conversation], directory: Directory
    ) -> list[Conversation]:
        """Open conversations that those who leave have with other numbers of theirs."""
        contacts = {c for arrived in leaving for c in directory.contacts_of(arrived, conversations)}
        found = await self._conversations.open_with({arrived.sender for arrived in leaving}, contacts)
        known = {conversation.activity_id for conversation in conversations}
        return [conversation for conversation in found if conversation.activity_id not in known]

    async def _ask(self, conversation: Conversation, turn: Turn) -> Answer:
        """Outside any transaction; after a conflict it is asked again."""
        try:
            return await self._agent.answer(turn)
        except Exception:
            log.exception("the agent failed", activity_id=conversation.activity_id)
            return HandOver("the agent failed", conversation.dialogue)

    async def _write(self, decided: InboundBatch, now: datetime) -> None:
        changes = Changes(
            [
                (self._conversations, decided.loaded[id_], conversation)
                for id_, conversation in decided.conversations.items()
                if conversation.version != decided.loaded[id_].version
            ],
            [self._committer.outbox.row(message, cause.trace, now) for cause, message in decided.messages],
            decided.also,
        )
        _BEFORE_INBOUND_WORKED()
        await self._committer.commit(changes)
        _AFTER_INBOUND_WORKED()


def _meaning(
    arrived: Arrived, conversations: Sequence[Conversation], subjects: Mapping[str, SubjectChanged]
) -> Meaning:
    words = {
        word
        for conversation in conversations
        if conversation.their_address == arrived.sender and conversation.subject_id in subjects
        for word in subjects[conversation.subject_id].opt_out_words
    }
    return meaning_of(arrived.text, words)
