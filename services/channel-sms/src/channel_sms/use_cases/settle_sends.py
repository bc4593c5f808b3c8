"""Writes what became of sends, with everything that follows, in one transaction for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from channel_sms.adapters import mongo_conversations, mongo_intents
from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.domain.conversation import Conversation
from channel_sms.domain.intent import Intent, IntentState
from channel_sms.domain.settling import (
    Context,
    Sent,
    Settlement,
    ends_conversation,
    is_open_to,
    settle,
)
from contracts.campaigns import SubjectChanged
from servicekit.clock import Clock, real_now
from servicekit.conflicts import TRIES, Conflict, yield_to_others
from servicekit.failpoints import Failpoint
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_BEFORE_RESULTS = Failpoint("channel-sms.before_results")
_AFTER_RESULTS = Failpoint("channel-sms.after_results")


@dataclass(frozen=True, slots=True)
class Settling:
    intent: Intent
    settlement: Settlement


class SettleSends:
    def __init__(
        self,
        committer: Committer,
        intents: MongoIntents,
        conversations: MongoConversations,
        knowledge: MongoKnowledge,
        clock: Clock,
    ) -> None:
        self._committer = committer
        self._intents = intents
        self._conversations = conversations
        self._knowledge = knowledge
        self._clock = clock

    async def __call__(self, settlings: Sequence[Settling]) -> int:
        """Returns how many were settled by this call; the others were settled before, by somebody else.

        Raises Conflict when one is disputed many times in a row; of the others those are settled that can be.
        """
        if len(settlings) == 1:
            return await self.together(settlings, TRIES)
        try:
            return await self.together(settlings, 2)
        except Conflict:
            half = len(settlings) // 2
        try:
            settled = await self(settlings[:half])
        except Conflict:
            await self(settlings[half:])
            raise
        return settled + await self(settlings[half:])

    async def together(self, settlings: Sequence[Settling], tries: int) -> int:
        """The same for all of them or none. Raises Conflict when one is disputed `tries` times in a row."""
        left = [s for s in settlings if is_open_to(s.intent, s.settlement)]
        duplicate = False
        for attempt in range(tries):
            if not left:
                return 0
            try:
                await self._commit(left)
            except Conflict as conflict:
                duplicate = conflict.duplicate
                await yield_to_others(attempt)
                left = await self._still_open(left)
            else:
                return len(left)
        if not left:
            return 0
        raise Conflict("intents changed faster than they could be settled", duplicate)

    async def _still_open(self, settlings: Sequence[Settling]) -> list[Settling]:
        fresh = await self._intents.load(settling.intent.intent_id for settling in settlings)
        left = []
        for settling in settlings:
            intent = fresh.get(settling.intent.intent_id)
            if intent is None:
                continue
            if intent.claim == settling.intent.claim and is_open_to(intent, settling.settlement):
                left.append(Settling(intent, settling.settlement))
            elif isinstance(settling.settlement, Sent) and not _is_same_send(intent, settling.settlement):
                log.error(
                    "a message was sent although its intent says otherwise",
                    intent_id=intent.intent_id,
                    state=intent.state.value,
                )
        return left

    async def _commit(self, settlings: Sequence[Settling]) -> None:
        now, real = self._clock.now(), real_now()
        conversations, subjects = await self._contexts(settlings)
        changes = Changes()
        ended: dict[str, Conversation] = {}
        for settling in settlings:
            intent = settling.intent
            activity_id = intent.activity_id or ""
            context = Context(
                now,
                real,
                ended.get(activity_id) or conversations.get(activity_id),
                subjects.get(intent.subject_id or ""),
            )
            plan = settle(intent, settling.settlement, context)
            changes.also.append(mongo_intents.change(intent, **plan.intent))
            changes.rows.extend(self._committer.outbox.rows(plan.messages, intent.trace))
            if plan.conversation is not None:
                ended[activity_id] = plan.conversation
                before = conversations[activity_id]
                changes.replaced.append((self._conversations, before, plan.conversation))
            elif plan.awaits_reply_until is not None and intent.activity_id is not None:
                changes.also.append(
                    mongo_conversations.awaits_reply(
                        intent.activity_id, intent.intent_id, plan.awaits_reply_until, now
                    )
                )
        _BEFORE_RESULTS()
        await self._committer.commit(changes)
        _AFTER_RESULTS()
        ids: dict[str, list[str]] = {}
        for settling in settlings:
            ids.setdefault(type(settling.settlement).__name__, []).append(settling.intent.activity_id or "-")
        log.info("texts settled", activities={what: " ".join(those) for what, those in ids.items()})

    async def _contexts(
        self, settlings: Sequence[Settling]
    ) -> tuple[dict[str, Conversation], dict[str, SubjectChanged]]:
        """Conversations that may end by this, and their subjects; most sends end nothing."""
        ending = [s.intent for s in settlings if ends_conversation(s.intent, s.settlement, real_now())]
        if not ending:
            return {}, {}
        conversations = await self._conversations.load(
            list({intent.activity_id for intent in ending if intent.activity_id is not None})
        )
        return conversations, dict(await self._knowledge.subjects.get(i.subject_id for i in ending))


def _is_same_send(intent: Intent, sent: Sent) -> bool:
    ids = {intent.provider_message_id, sent.provider_message_id} - {None}
    return intent.state is IntentState.SENT and len(ids) < 2
