"""A dispatched activity becomes a conversation with a first message to send, in one write; a recalled one
ends it. Both in one place, because a dispatch that is tried again must not be overtaken by its recall."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from channel_sms.adapters import mongo_intents, mongo_recalls
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.adapters.mongo_recalls import MongoRecalls
from channel_sms.adapters.mongo_suppressions import MongoSuppressions
from channel_sms.domain.conversation import Conversation, Known, open_conversation, recalled
from channel_sms.domain.intent import FORBIDDEN_BY
from contracts.activities import ActivityDispatched, ActivityRecalled
from contracts.campaigns import EndpointChanged, SubjectChanged
from contracts.reasons import Objection
from servicekit.clock import Clock, real_now
from servicekit.tracing import current_traceparent
from servicekit.verdict import Become, GiveUp, TryAgain, Unchanged, Verdict


@dataclass(frozen=True, slots=True)
class Facts:
    subjects: Mapping[str, SubjectChanged]
    endpoints: Mapping[str, EndpointChanged]
    contacts: Mapping[str, Mapping[str, Any]]
    suppressed: set[str]
    recalled: set[str]
    real_now: datetime
    now: datetime
    expires_real_at: datetime


class StartConversations:
    """The facts of a batch, and the verdict on each of its messages."""

    def __init__(
        self,
        knowledge: MongoKnowledge,
        suppressions: MongoSuppressions,
        recalls: MongoRecalls,
        clock: Clock,
        provider: str,
        validity_seconds: float,
    ) -> None:
        self._knowledge = knowledge
        self._suppressions = suppressions
        self._recalls = recalls
        self._clock = clock
        self._provider = provider
        self._validity = validity_seconds

    async def facts(self, told: Sequence[ActivityDispatched | ActivityRecalled]) -> Facts:
        messages = [message for message in told if isinstance(message, ActivityDispatched)]
        recalls = {message.activity_id for message in told if isinstance(message, ActivityRecalled)}
        now = real_now()
        subjects, endpoints, contacts, suppressed, recalled_before = await asyncio.gather(
            self._knowledge.subjects.get({message.subject_id for message in messages}),
            self._knowledge.endpoints.get({message.endpoint_id for message in messages}),
            self._knowledge.contacts_by_id({message.contact_id for message in messages}),
            self._suppressions.among({message.destination for message in messages}),
            self._recalls.among({message.activity_id for message in messages}),
        )
        return Facts(
            subjects,
            endpoints,
            contacts,
            suppressed,
            recalls | recalled_before,
            now,
            self._clock.now(),
            mongo_intents.expiry(now, self._validity),
        )

    def decide(
        self, message: ActivityDispatched | ActivityRecalled, standing: Conversation | None, facts: Facts
    ) -> Verdict[Conversation]:
        match message:
            case ActivityRecalled():
                return _recall(message, standing, facts.real_now)
            case ActivityDispatched():
                return self._start(message, standing, facts)

    def _start(
        self, message: ActivityDispatched, standing: Conversation | None, facts: Facts
    ) -> Verdict[Conversation]:
        if standing is not None and (standing.is_open or message.dispatch_number <= standing.dispatch_number):
            return Unchanged("already being worked")
        if message.activity_id in facts.recalled:
            return Unchanged("recalled")
        subject = facts.subjects.get(message.subject_id)
        endpoint = facts.endpoints.get(message.endpoint_id)
        contact = facts.contacts.get(message.contact_id)
        if subject is None:
            return TryAgain("the subject is not known here yet", after=0.5)
        if endpoint is None:
            return TryAgain("the endpoint is not known here yet", after=0.5)
        if contact is None:
            return TryAgain("the contact is not known here yet", after=0.5)
        if not message.destination.startswith("+"):
            return GiveUp("impossible_dispatch", "destination: must be a phone number in E.164")
        opening = open_conversation(
            message,
            standing,
            Known(
                subject,
                endpoint,
                contact,
                message.destination in facts.suppressed
                or FORBIDDEN_BY.value in contact.get("preferences", {}),
                self._refusal(endpoint, contact),
                not endpoint.enabled,
                facts.now,
                facts.expires_real_at,
            ),
        )
        if opening.intent is None:
            return Become(opening.conversation, opening.messages)
        intended = mongo_intents.new(opening.intent, current_traceparent.get())
        return Become(opening.conversation, opening.messages, (intended,))

    def _refusal(self, endpoint: EndpointChanged, contact: Mapping[str, Any]) -> str | None:
        if contact.get("erased"):
            return Objection.CONTACT_ERASED.value
        if endpoint.provider != self._provider:
            return f"provider_not_configured: {endpoint.provider}"
        return None


def _recall(message: ActivityRecalled, standing: Conversation | None, now: datetime) -> Verdict[Conversation]:
    """What the carrier already has cannot be called back; its receipts and replies are still recorded."""
    kept = mongo_recalls.recall(message.activity_id, now)
    if standing is None or not standing.is_open:
        return Unchanged("nothing in hand", also=(kept,))
    waiting = (mongo_intents.cancelled(standing.intent_id),) if standing.intent_id else ()
    return Become(recalled(standing, message.reason, message.recalled_at), also=(kept, *waiting))
