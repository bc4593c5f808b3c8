"""Delivery receipts: a message's status moves forward, and a send in doubt is in doubt no more."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from channel_sms.adapters import mongo_intents
from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoReceipts
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.domain.conversation import Ending, ended
from channel_sms.domain.intent import (
    DeliveryStatus,
    Intent,
    IntentState,
    is_forward,
    recorded,
    status_of_receipt,
)
from channel_sms.domain.settling import Sent
from channel_sms.use_cases.settle_sends import SettleSends, Settling
from servicekit.clock import Clock
from servicekit.conflicts import undisputed
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.mongo import Conflict, Document
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_AFTER_RECEIPTS = Failpoint("channel-sms.after_receipts")
_BEFORE_RECEIPTS = Failpoint("channel-sms.before_receipts")

_IN_DOUBT = (IntentState.SENDING, IntentState.UNKNOWN)
_DEAD_NUMBERS = frozenset({"30003", "30005", "30006"})
"""Unreachable, unknown, landline: no reply will ever come."""


class WorkReceipts:
    batch = 300

    def __init__(
        self,
        receipts: MongoReceipts,
        intents: MongoIntents,
        conversations: MongoConversations,
        knowledge: MongoKnowledge,
        settle: SettleSends,
        committer: Committer,
        leases: Leases,
        clock: Clock,
    ) -> None:
        self._receipts = receipts
        self._intents = intents
        self._conversations = conversations
        self._knowledge = knowledge
        self._settle = settle
        self._committer = committer
        self._leases = leases
        self._clock = clock

    async def step(self) -> int:
        buckets = await self._leases.held()
        if not buckets:
            return 0
        rows = await self._receipts.waiting(buckets, self.batch)
        if not rows:
            return 0
        try:
            await self._work(rows)
        except Conflict:
            for row in rows:
                await undisputed(partial(self._work, [row]), "a message whose receipt came")
        _AFTER_RECEIPTS()
        await self._receipts.forget(row["_id"] for row in rows)
        return len(rows)

    async def _work(self, rows: list[Document]) -> None:
        intents = await self._intents.load({row["intent_id"] for row in rows})
        resolved = _resolved(rows, intents)
        if resolved:
            await self._settle(resolved)
            intents |= await self._intents.load([settling.intent.intent_id for settling in resolved])
        changes = Changes()
        dead: list[Intent] = []
        newest: dict[str, tuple[DeliveryStatus, Document]] = {}
        identified = await self._identified(rows, intents)
        intents |= identified
        for row in rows:
            status = status_of_receipt(row["status"])
            intent = intents.get(row["intent_id"])
            if status is None or intent is None or not _concerns(intent, row):
                continue
            standing = newest[intent.intent_id][0] if intent.intent_id in newest else intent.status
            if is_forward(standing, status):
                newest[intent.intent_id] = (status, row)
        for id_, (status, row) in newest.items():
            intent = intents[id_]
            version = intent.message_version + 1
            known: dict[str, Any] = {"status": status, "message_version": version}
            if id_ in identified:
                known["provider_message_id"] = intent.provider_message_id
            if row.get("error_code"):
                known["error"] = row["error_code"]
            changes.also.append(mongo_intents.change(intent, **known))
            told = recorded(intent, status, version)
            changes.rows.append(self._committer.outbox.row(told, intent.trace))
            identified.pop(id_, None)
            if status in ("undelivered", "failed") and row.get("error_code") in _DEAD_NUMBERS:
                dead.append(intent)
        for intent in identified.values():
            changes.also.append(mongo_intents.change(intent, provider_message_id=intent.provider_message_id))
        await self._end_with(dead, changes)
        _BEFORE_RECEIPTS()
        await self._committer.commit(changes)

    async def _identified(self, rows: list[Document], intents: dict[str, Intent]) -> dict[str, Intent]:
        """What a person vouched for, with the id that its receipt proves: a look-up must not give it away."""
        found = {
            row["intent_id"]: row["sid"]
            for row in rows
            if (intent := intents.get(row["intent_id"])) is not None
            and _concerns(intent, row)
            and intent.provider_message_id is None
        }
        if not found:
            return {}
        given_away = await self._intents.known_provider_ids(found.values())
        for intent_id, sid in found.items():
            if sid in given_away:
                log.error("a receipt proves that its message was taken for another", intent_id=intent_id)
        return {
            id_: replace(intents[id_], provider_message_id=sid)
            for id_, sid in found.items()
            if sid not in given_away
        }

    async def _end_with(self, dead: list[Intent], changes: Changes) -> None:
        """End the conversations whose messages can reach nobody, where the subject says with what."""
        if not dead:
            return
        conversations = await self._conversations.load([i.activity_id for i in dead if i.activity_id])
        subjects = await self._knowledge.subjects.get(c.subject_id for c in conversations.values())
        for conversation in conversations.values():
            subject = subjects.get(conversation.subject_id)
            if not conversation.is_open or subject is None or subject.undeliverable_disposition is None:
                continue
            ending = Ending(
                subject.undeliverable_disposition, "undelivered", notes="The number is unreachable."
            )
            concluded, outcome = ended(conversation, ending, self._clock.now())
            changes.replaced.append((self._conversations, conversation, concluded))
            changes.rows.extend(self._committer.outbox.rows([outcome]))


def _resolved(rows: list[Document], intents: dict[str, Intent]) -> list[Settling]:
    """A receipt with an intent's id in its signed address proves that this intent was sent."""
    found: dict[str, Settling] = {}
    for row in rows:
        intent = intents.get(row["intent_id"])
        if intent is not None and intent.state in _IN_DOUBT and status_of_receipt(row["status"]):
            found.setdefault(intent.intent_id, Settling(intent, Sent(row["sid"])))
    return list(found.values())


def _concerns(intent: Intent, row: Document) -> bool:
    return intent.state is IntentState.SENT and intent.provider_message_id in (None, row["sid"])
