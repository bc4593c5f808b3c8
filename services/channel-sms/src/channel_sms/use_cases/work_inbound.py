"""Works what people wrote: opt-outs first, then the open conversation, then whoever may care.

One transaction for a batch: that a message was worked, the one reply it gets, and everything told of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from channel_sms.adapters import mongo_intents, mongo_suppressions
from channel_sms.adapters.mongo_conversations import Conversations
from channel_sms.adapters.mongo_inbound import Inbound, left_to_people, real_now, worked
from channel_sms.adapters.mongo_intents import Intents
from channel_sms.adapters.mongo_knowledge import Knowledge
from channel_sms.adapters.mongo_suppressions import Suppressions
from channel_sms.agent import Agent
from channel_sms.domain.conversation import (
    AGENT,
    Conversation,
    Ending,
    agent_concluded,
    ended,
    handed_over,
    replied,
    reply_intent,
)
from channel_sms.domain.dialogue import Conclude, HandOver, Say, Turn
from channel_sms.domain.inbound import Arrived, Thread, announce_received, inbound_activity, preference
from channel_sms.domain.intent import Purpose, new_intent
from channel_sms.domain.wording import Meaning, meaning_of
from channel_sms.settings import Settings
from contracts.campaigns import AgentProfileChanged, CampaignChanged, SubjectChanged
from contracts.message import Message, stable_id
from servicekit.clock import Clock
from servicekit.conflicts import TRIES, yield_to_others
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.mongo import Conflict
from servicekit.pipeline import is_dependency
from servicekit.unit_of_work import Changes, Committer
from servicekit.verdict import Write

log = structlog.get_logger()

_AFTER_STOP_ANNOUNCED = Failpoint("channel-sms.after_stop_announced")
_BEFORE_INBOUND_WORKED = Failpoint("channel-sms.before_inbound_worked")
_AFTER_INBOUND_WORKED = Failpoint("channel-sms.after_inbound_worked")

_BATCH = 100


@dataclass
class _Work:
    """One batch while it is decided: what is known, and what will be written."""

    now: datetime
    expires_real_at: datetime
    subjects: Mapping[str, SubjectChanged]
    campaigns: Mapping[str, CampaignChanged]
    profiles: Mapping[str, AgentProfileChanged]
    picks: frozenset[str]
    conversations: dict[str, Conversation]
    loaded: dict[str, Conversation]
    suppressed: set[str]
    """Opted out before this batch, or by a message in it."""
    messages: list[tuple[Arrived, Message]] = field(default_factory=list)
    also: list[Write] = field(default_factory=list)
    by_address: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for conversation in self.conversations.values():
            self.by_address[conversation.their_address].append(conversation.activity_id)

    def become(self, conversation: Conversation) -> None:
        self.conversations[conversation.activity_id] = conversation

    def tell(self, cause: Arrived, messages: Iterable[Message]) -> None:
        self.messages.extend((cause, message) for message in messages)

    def open_with(self, arrived: Arrived) -> Conversation | None:
        """The latest open conversation with this number, on our number it wrote to if there is one."""
        known = [self.conversations[id_] for id_ in self.by_address.get(arrived.sender, ())]
        standing = [conversation for conversation in known if conversation.is_open]
        same = [conversation for conversation in standing if conversation.our_address == arrived.to]
        return next(iter(same or standing), None)


class WorkInbound:
    def __init__(
        self,
        inbound: Inbound,
        intents: Intents,
        conversations: Conversations,
        suppressions: Suppressions,
        knowledge: Knowledge,
        agent: Agent,
        committer: Committer,
        leases: Leases,
        clock: Clock,
        settings: Settings,
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
        self._validity = settings.sms_validity_seconds
        self._write_window = timedelta(seconds=settings.sms_send_timeout_seconds)

    async def step(self) -> int:
        buckets = await self._leases.held()
        if not buckets:
            return 0
        arrived = await self._inbound.new(buckets, _BATCH)
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
                await self._committer.commit(
                    Changes(also=[left_to_people(arrived, self._clock.now(), error)])
                )
                return
        raise Conflict("an inbound message could not be worked")

    async def _work(self, batch: Sequence[Arrived]) -> None:
        conversations = await self._conversations.open_with({arrived.sender for arrived in batch})
        subjects = await self._knowledge.subjects.get({c.subject_id for c in conversations})
        meanings = [self._meaning(arrived, conversations, subjects) for arrived in batch]
        leaving = [a for a, meant in zip(batch, meanings, strict=True) if meant is Meaning.OPT_OUT]
        contacts_of: dict[str, list[str]] = {}
        if leaving:
            await self._stop_sending_to({arrived.sender for arrived in leaving})
            contacts_of = {a.sender: await self._contacts_of(a, conversations) for a in leaving}
            others = await self._conversations.open_with(
                contacts_of, {contact for contacts in contacts_of.values() for contact in contacts}
            )
            known = {c.activity_id for c in conversations}
            conversations += [c for c in others if c.activity_id not in known]
            subjects = await self._knowledge.subjects.get({c.subject_id for c in conversations})
        work = _Work(
            now=self._clock.now(),
            expires_real_at=mongo_intents.expiry(real_now(), self._validity),
            subjects=subjects,
            campaigns=await self._knowledge.campaigns.get({c.campaign_id for c in conversations}),
            profiles=await self._knowledge.profiles.get({c.agent_profile_id for c in conversations}),
            picks=await self._knowledge.picks_of_agent(),
            conversations={c.activity_id: c for c in conversations},
            loaded={c.activity_id: c for c in conversations},
            suppressed=await self._suppressions.active_among({arrived.sender for arrived in batch}),
        )
        for arrived, meant in zip(batch, meanings, strict=True):
            await self._one(arrived, meant, work, contacts_of.get(arrived.sender, []))
        await self._write(work)

    def _meaning(
        self,
        arrived: Arrived,
        conversations: Sequence[Conversation],
        subjects: Mapping[str, SubjectChanged],
    ) -> Meaning:
        words = {
            word
            for conversation in conversations
            if conversation.their_address == arrived.sender and conversation.subject_id in subjects
            for word in subjects[conversation.subject_id].opt_out_words
        }
        return meaning_of(arrived.text, words)

    async def _stop_sending_to(self, addresses: set[str]) -> None:
        """Nothing goes to these addresses once this returns: new sends see the mark, and what was claimed
        before it is settled or can no longer be written."""
        await self._suppressions.announce(addresses)
        _AFTER_STOP_ANNOUNCED()
        while True:
            if not await self._intents.being_sent_to(addresses, real_now() - self._write_window):
                return
            await asyncio.sleep(0.02)

    async def _contacts_of(self, arrived: Arrived, conversations: Sequence[Conversation]) -> list[str]:
        """Everybody this number stands for."""
        known = {c.contact_id for c in conversations if c.their_address == arrived.sender}
        known.update(await self._knowledge.contacts_with(arrived.sender))
        if not known and (latest := await self._conversations.latest_with(arrived.sender, arrived.to)):
            known.add(latest.contact_id)
        return sorted(known)

    async def _one(self, arrived: Arrived, meant: Meaning, work: _Work, contacts: list[str]) -> None:
        match meant:
            case Meaning.OPT_OUT:
                await self._opt_out(arrived, work, contacts)
            case Meaning.OPT_IN if arrived.sender in work.suppressed:
                await self._opt_in(arrived, work)
            case Meaning.HELP if arrived.sender not in work.suppressed:
                await self._help(arrived, work)
            case _:
                await self._ordinary(arrived, work)

    async def _opt_out(self, arrived: Arrived, work: _Work, contacts: list[str]) -> None:
        thread = await self._thread(arrived, work)
        self._received(arrived, thread, work, "worked")
        leaving = [
            c
            for c in work.conversations.values()
            if c.is_open and (c.their_address == arrived.sender or c.contact_id in contacts)
        ]
        for conversation in leaving:
            subject = work.subjects.get(conversation.subject_id)
            disposition = subject.opt_out_disposition if subject else None
            concluded, outcome = ended(
                conversation, Ending(disposition, "opted_out", AGENT, "The contact opted out."), work.now
            )
            work.become(concluded)
            work.tell(arrived, [outcome])
        work.tell(arrived, [preference(arrived, contact, opted_out=True) for contact in contacts])
        if arrived.sender in work.suppressed:
            return
        work.suppressed.add(arrived.sender)
        work.also.append(mongo_suppressions.opted_out(arrived, contacts))
        self._confirm(arrived, thread, Purpose.OPTED_OUT, work)

    async def _opt_in(self, arrived: Arrived, work: _Work) -> None:
        thread = await self._thread(arrived, work)
        self._received(arrived, thread, work, "worked")
        contacts = await self._contacts_of(arrived, list(work.conversations.values()))
        work.tell(arrived, [preference(arrived, contact, opted_out=False) for contact in contacts])
        work.suppressed.discard(arrived.sender)
        work.also.append(mongo_suppressions.opted_in(arrived, work.now))
        self._confirm(arrived, thread, Purpose.OPTED_IN, work)

    async def _help(self, arrived: Arrived, work: _Work) -> None:
        thread = await self._thread(arrived, work)
        self._received(arrived, thread, work, "worked")
        self._confirm(arrived, thread, Purpose.HELP, work)

    async def _ordinary(self, arrived: Arrived, work: _Work) -> None:
        thread = await self._thread(arrived, work)
        conversation = work.open_with(arrived)
        if conversation is not None and arrived.sender not in work.suppressed:
            self._received(arrived, thread, work, "worked")
            await self._answer(arrived, conversation, work)
            return
        subject_id = None
        if thread is not None and arrived.sender not in work.suppressed:
            subject_id = thread.subject_id or await self._knowledge.inbound_subject()
        self._received(arrived, thread, work, "worked" if thread and subject_id else "unmatched")
        if thread is not None and subject_id is not None:
            work.tell(arrived, [inbound_activity(arrived, thread, subject_id, work.now)])

    async def _answer(self, arrived: Arrived, conversation: Conversation, work: _Work) -> None:
        subject = work.subjects.get(conversation.subject_id)
        if subject is None:
            raise Conflict("the subject is not known")
        turn = Turn(
            arrived.text,
            conversation.dialogue,
            subject,
            conversation.opening,
            self._allowed(conversation, work),
            self._max_turns(conversation, subject, work),
        )
        try:
            answer = await self._agent.answer(turn)
        except Exception:
            log.exception("the agent failed", activity_id=conversation.activity_id)
            answer = HandOver("the agent failed", conversation.dialogue)
        match answer:
            case Say():
                following, intent = replied(
                    conversation, answer, arrived.inbound_id, subject, work.now, work.expires_real_at
                )
                work.become(following)
                work.also.append(mongo_intents.new(intent, arrived.trace))
            case Conclude():
                concluded, outcome = agent_concluded(conversation, answer, work.now)
                self._cancel(conversation, work)
                work.become(concluded)
                work.tell(arrived, [outcome])
            case HandOver():
                concluded, told = handed_over(conversation, answer, work.now)
                self._cancel(conversation, work)
                work.become(concluded)
                work.tell(arrived, told)

    def _allowed(self, conversation: Conversation, work: _Work) -> frozenset[str]:
        campaign = work.campaigns.get(conversation.campaign_id or "")
        if campaign is None or not campaign.dispositions:
            return work.picks
        return work.picks & frozenset(campaign.dispositions)

    def _max_turns(self, conversation: Conversation, subject: SubjectChanged, work: _Work) -> int:
        profile = work.profiles.get(conversation.agent_profile_id or "")
        return min(subject.max_turns, profile.max_turns) if profile else subject.max_turns

    def _cancel(self, conversation: Conversation, work: _Work) -> None:
        """A reply that waits for its time is pointless once the conversation is over."""
        if conversation.intent_id is not None:
            work.also.append(mongo_intents.cancelled(conversation.intent_id))

    async def _thread(self, arrived: Arrived, work: _Work) -> Thread | None:
        """The open conversation, else the latest one, else the contact with this number, else nobody."""
        conversation = work.open_with(arrived)
        if conversation is None:
            conversation = await self._conversations.latest_with(arrived.sender, arrived.to)
        if conversation is not None:
            return Thread(
                conversation.contact_id,
                conversation.activity_id,
                conversation.campaign_id,
                conversation.subject_id,
                conversation.endpoint_id,
            )
        contacts = await self._knowledge.contacts_with(arrived.sender)
        if not contacts:
            return None
        return Thread(contacts[0], endpoint_id=await self._knowledge.endpoint_with(arrived.to))

    def _received(self, arrived: Arrived, thread: Thread | None, work: _Work, state: str) -> None:
        if thread is None:
            work.also.append(worked(arrived, work.now, state))
            return
        work.also.append(
            worked(arrived, work.now, state, contact_id=thread.contact_id, activity_id=thread.activity_id)
        )
        work.tell(arrived, announce_received(arrived, thread))

    def _confirm(self, arrived: Arrived, thread: Thread | None, purpose: Purpose, work: _Work) -> None:
        if thread is None or thread.endpoint_id is None:
            return
        conversation = work.conversations.get(thread.activity_id or "")
        if conversation is not None:
            intent = reply_intent(
                conversation,
                purpose,
                self._texts[purpose],
                arrived.inbound_id,
                work.now,
                0,
                work.expires_real_at,
            )
        else:
            intent = new_intent(
                intent_id=stable_id(purpose.value, arrived.inbound_id),
                contact_id=thread.contact_id,
                activity_id=thread.activity_id,
                endpoint_id=thread.endpoint_id,
                sender=arrived.to,
                to=arrived.sender,
                text=self._texts[purpose],
                purpose=purpose,
                created_at=work.now,
                send_at=work.now,
                expires_real_at=work.expires_real_at,
                campaign_id=thread.campaign_id,
                subject_id=thread.subject_id,
            )
        work.also.append(mongo_intents.new(intent, arrived.trace))

    async def _write(self, work: _Work) -> None:
        changes = Changes(
            [
                (self._conversations, work.loaded[id_], conversation)
                for id_, conversation in work.conversations.items()
                if conversation.version != work.loaded[id_].version
            ],
            [self._committer.outbox.row(message, cause.trace, work.now) for cause, message in work.messages],
            work.also,
        )
        _BEFORE_INBOUND_WORKED()
        await self._committer.commit(changes)
        _AFTER_INBOUND_WORKED()
