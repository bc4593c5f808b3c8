"""What each text of a batch leads to. Nothing here waits: what has to be looked up comes in as facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from channel_sms.adapters import mongo_intents, mongo_suppressions
from channel_sms.adapters.mongo_inbound import worked
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
from channel_sms.domain.dialogue import Answer, Conclude, HandOver, Say, Turn
from channel_sms.domain.inbound import Arrived, Thread, announce_received, inbound_activity, preference
from channel_sms.domain.intent import Purpose, new_intent
from channel_sms.domain.wording import Meaning
from contracts.campaigns import AgentProfileChanged, CampaignChanged, SubjectChanged
from contracts.message import Message, stable_id
from servicekit.verdict import Write


class SubjectUnknown(LookupError):
    """A conversation began, so its subject was known; nobody can answer without it."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Whom numbers belong to, where no open conversation says it."""

    latest: Mapping[tuple[str, str], Conversation] = field(default_factory=dict)
    """(their number, ours) -> the latest conversation, open or not."""
    contacts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Their number -> the contacts that have it."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Our number -> its endpoint."""
    inbound_subject: str | None = None

    def contacts_of(self, arrived: Arrived, conversations: Iterable[Conversation]) -> list[str]:
        """Everybody this number stands for."""
        known = {c.contact_id for c in conversations if c.their_address == arrived.sender}
        known.update(self.contacts.get(arrived.sender, ()))
        if not known and (latest := self.latest.get((arrived.sender, arrived.to))):
            known.add(latest.contact_id)
        return sorted(known)


@dataclass(frozen=True, slots=True)
class InboundFacts:
    now: datetime
    expires_real_at: datetime
    subjects: Mapping[str, SubjectChanged]
    campaigns: Mapping[str, CampaignChanged]
    profiles: Mapping[str, AgentProfileChanged]
    picks: frozenset[str]
    suppressed: frozenset[str]
    """Opted out before this batch."""
    directory: Directory
    texts: Mapping[Purpose, str]


class InboundBatch:
    """One batch while it is decided: what will be written."""

    def __init__(self, facts: InboundFacts, conversations: Iterable[Conversation]) -> None:
        self._facts = facts
        self.loaded = {conversation.activity_id: conversation for conversation in conversations}
        self.conversations = dict(self.loaded)
        self.messages: list[tuple[Arrived, Message]] = []
        self.also: list[Write] = []
        self._suppressed = set(facts.suppressed)
        self._by_address: dict[str, list[str]] = defaultdict(list)
        for conversation in self.loaded.values():
            self._by_address[conversation.their_address].append(conversation.activity_id)

    def hear(self, arrived: Arrived, meant: Meaning) -> Conversation | None:
        """Returns the conversation whose agent has to answer; nothing else is left to do for the others."""
        thread = self._thread(arrived)
        match meant:
            case Meaning.OPT_OUT:
                self._opt_out(arrived, thread)
            case Meaning.OPT_IN if arrived.sender in self._suppressed:
                self._opt_in(arrived, thread)
            case Meaning.HELP if arrived.sender not in self._suppressed:
                self._received(arrived, thread, "worked")
                self._confirm(arrived, thread, Purpose.HELP)
            case _:
                return self._ordinary(arrived, thread)
        return None

    def turn(self, arrived: Arrived, conversation: Conversation) -> Turn:
        """What the agent is asked."""
        subject = self._subject(conversation)
        return Turn(
            arrived.text,
            conversation.dialogue,
            subject,
            conversation.opening,
            self._allowed(conversation),
            self._max_turns(conversation, subject),
        )

    def heed(self, arrived: Arrived, conversation: Conversation, answer: Answer) -> None:
        """Do what the agent said."""
        facts = self._facts
        match answer:
            case Say():
                subject = self._subject(conversation)
                following, intent = replied(
                    conversation, answer, arrived.inbound_id, subject, facts.now, facts.expires_real_at
                )
                self._become(following)
                self.also.append(mongo_intents.new(intent, arrived.trace))
            case Conclude():
                concluded, outcome = agent_concluded(conversation, answer, facts.now)
                self._cancel(conversation)
                self._become(concluded)
                self._tell(arrived, [outcome])
            case HandOver():
                concluded, told = handed_over(conversation, answer, facts.now)
                self._cancel(conversation)
                self._become(concluded)
                self._tell(arrived, told)

    def _opt_out(self, arrived: Arrived, thread: Thread | None) -> None:
        self._received(arrived, thread, "worked")
        contacts = self._facts.directory.contacts_of(arrived, self.conversations.values())
        leaving = [
            c
            for c in self.conversations.values()
            if c.is_open and (c.their_address == arrived.sender or c.contact_id in contacts)
        ]
        for conversation in leaving:
            subject = self._facts.subjects.get(conversation.subject_id)
            disposition = subject.opt_out_disposition if subject else None
            concluded, outcome = ended(
                conversation,
                Ending(disposition, "opted_out", AGENT, "The contact opted out."),
                self._facts.now,
            )
            self._cancel(conversation)
            self._become(concluded)
            self._tell(arrived, [outcome])
        self._tell(arrived, [preference(arrived, contact, opted_out=True) for contact in contacts])
        if arrived.sender in self._suppressed:
            return
        self._suppressed.add(arrived.sender)
        self.also.append(mongo_suppressions.opted_out(arrived, contacts))
        self._confirm(arrived, thread, Purpose.OPTED_OUT)

    def _opt_in(self, arrived: Arrived, thread: Thread | None) -> None:
        self._received(arrived, thread, "worked")
        contacts = self._facts.directory.contacts_of(arrived, self.conversations.values())
        self._tell(arrived, [preference(arrived, contact, opted_out=False) for contact in contacts])
        self._suppressed.discard(arrived.sender)
        self.also.append(mongo_suppressions.opted_in(arrived, self._facts.now))
        self._confirm(arrived, thread, Purpose.OPTED_IN)

    def _ordinary(self, arrived: Arrived, thread: Thread | None) -> Conversation | None:
        conversation = self._open_with(arrived)
        if conversation is not None and arrived.sender not in self._suppressed:
            self._received(arrived, thread, "worked")
            return conversation
        subject_id = None
        if thread is not None and arrived.sender not in self._suppressed:
            subject_id = thread.subject_id or self._facts.directory.inbound_subject
        self._received(arrived, thread, "worked" if thread and subject_id else "unmatched")
        if thread is not None and subject_id is not None:
            self._tell(arrived, [inbound_activity(arrived, thread, subject_id, self._facts.now)])
        return None

    def _open_with(self, arrived: Arrived) -> Conversation | None:
        """The latest open conversation with this number, on our number it wrote to if there is one."""
        known = [self.conversations[id_] for id_ in self._by_address.get(arrived.sender, ())]
        standing = [conversation for conversation in known if conversation.is_open]
        same = [conversation for conversation in standing if conversation.our_address == arrived.to]
        return next(iter(same or standing), None)

    def _thread(self, arrived: Arrived) -> Thread | None:
        """The open conversation, else the latest one, else the contact with this number, else nobody."""
        directory = self._facts.directory
        conversation = self._open_with(arrived) or directory.latest.get((arrived.sender, arrived.to))
        if conversation is not None:
            return Thread(
                conversation.contact_id,
                conversation.activity_id,
                conversation.campaign_id,
                conversation.subject_id,
                conversation.endpoint_id,
                conversation.root_id,
            )
        contacts = directory.contacts.get(arrived.sender)
        return Thread(contacts[0], endpoint_id=directory.endpoints.get(arrived.to)) if contacts else None

    def _subject(self, conversation: Conversation) -> SubjectChanged:
        subject = self._facts.subjects.get(conversation.subject_id)
        if subject is None:
            raise SubjectUnknown(conversation.subject_id)
        return subject

    def _become(self, conversation: Conversation) -> None:
        self.conversations[conversation.activity_id] = conversation

    def _tell(self, cause: Arrived, messages: Iterable[Message]) -> None:
        self.messages.extend((cause, message) for message in messages)

    def _allowed(self, conversation: Conversation) -> frozenset[str]:
        campaign = self._facts.campaigns.get(conversation.campaign_id or "")
        if campaign is None or not campaign.dispositions:
            return self._facts.picks
        return self._facts.picks & frozenset(campaign.dispositions)

    def _max_turns(self, conversation: Conversation, subject: SubjectChanged) -> int:
        profile = self._facts.profiles.get(conversation.agent_profile_id or "")
        return min(subject.max_turns, profile.max_turns) if profile else subject.max_turns

    def _cancel(self, conversation: Conversation) -> None:
        """What waits for its time is pointless once the conversation is over."""
        if conversation.intent_id is not None:
            self.also.append(mongo_intents.cancelled(conversation.intent_id))

    def _received(self, arrived: Arrived, thread: Thread | None, state: str) -> None:
        if thread is None:
            self.also.append(worked(arrived, self._facts.now, state))
            return
        self.also.append(
            worked(
                arrived, self._facts.now, state, contact_id=thread.contact_id, activity_id=thread.activity_id
            )
        )
        self._tell(arrived, announce_received(arrived, thread))

    def _confirm(self, arrived: Arrived, thread: Thread | None, purpose: Purpose) -> None:
        if thread is None or thread.endpoint_id is None:
            return
        conversation = self.conversations.get(thread.activity_id or "")
        if conversation is not None:
            intent = reply_intent(
                conversation,
                purpose,
                self._facts.texts[purpose],
                arrived.inbound_id,
                self._facts.now,
                0,
                self._facts.expires_real_at,
            )
        else:
            intent = new_intent(
                intent_id=stable_id(purpose.value, arrived.inbound_id),
                contact_id=thread.contact_id,
                activity_id=thread.activity_id,
                endpoint_id=thread.endpoint_id,
                sender=arrived.to,
                to=arrived.sender,
                text=self._facts.texts[purpose],
                purpose=purpose,
                created_at=self._facts.now,
                send_at=self._facts.now,
                expires_real_at=self._facts.expires_real_at,
                campaign_id=thread.campaign_id,
                subject_id=thread.subject_id,
            )
        self.also.append(mongo_intents.new(intent, arrived.trace))
