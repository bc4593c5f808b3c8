"""Delivery receipts: a message's status moves forward, and a send in doubt is in doubt no more."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from prometheus_client import Counter

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
from servicekit.conflicts import Conflict, undisputed
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.mongo import Document, is_unavailable
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_AFTER_RECEIPTS = Failpoint("channel-sms.after_receipts")
_BEFORE_RECEIPTS = Failpoint("channel-sms.before_receipts")

_MAYBE_SENT = (IntentState.SENDING, IntentState.UNKNOWN, IntentState.SENT)
_DEAD_NUMBERS = frozenset({"30003", "30005", "30006"})
"""Unreachable, unknown, landline: no reply will ever come."""
_LEFT_SECONDS = 30.0


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
        set_aside: Counter,
    ) -> None:
        """set_aside: counts each time that one could not be worked for reasons of its own."""
        self._receipts = receipts
        self._intents = intents
        self._conversations = conversations
        self._knowledge = knowledge
        self._settle = settle
        self._committer = committer
        self._leases = leases
        self._clock = clock
        self._set_aside = set_aside
        self._left: dict[str, float] = {}
        """Receipts that could not be worked, and until when they are left alone."""

    async def step(self) -> int:
        buckets = await self._leases.held()
        if not buckets:
            return 0
        now = time.monotonic()
        self._left = {id_: until for id_, until in self._left.items() if until > now}
        rows = await self._receipts.waiting(buckets, self.batch, without=self._left)
        if not rows:
            return 0
        worked = rows
        try:
            await self._work(rows)
        except Exception as error:
            if is_unavailable(error):
                raise
            worked = [row for row in rows if await self._work_alone(row)]
        _AFTER_RECEIPTS()
        await self._receipts.forget(row["_id"] for row in worked)
        return len(worked)

    async def _work_alone(self, row: Document) -> bool:
        """Whether it could be; one that cannot be keeps no other from it, and is left alone for a while."""
        try:
            await undisputed(partial(self._work, [row]), "a message whose receipt came", tries=5)
        except Exception as error:
            if is_unavailable(error):
                raise
            self._left[row["_id"]] = time.monotonic() + _LEFT_SECONDS
            if not isinstance(error, Conflict) or error.duplicate:
                self._set_aside.inc()
            log.warning(
                "a receipt cannot be worked yet",
                intent_id=row["intent_id"],
                error=repr(error)[:200],
                exc_info=None if isinstance(error, Conflict) else error,
            )
            return False
        return True

    async def _work(self, rows: list[Document]) -> None:
        intents = await self._intents.load({row["intent_id"] for row in rows})
        proven = await self._proven_ids(rows, intents)
        resolved = [
            Settling(intents[id_], Sent(sid))
            for id_, sid in proven.items()
            if intents[id_].state is not IntentState.SENT
        ]
        if resolved:
            await self._settle(resolved)
            intents |= await self._intents.load([settling.intent.intent_id for settling in resolved])
        changes = Changes()
        dead: list[Intent] = []
        for id_, (status, row) in _newest(rows, intents, proven).items():
            intent = replace(
                intents[id_], provider_message_id=intents[id_].provider_message_id or proven.get(id_)
            )
            version = intent.message_version + 1
            known: dict[str, Any] = {"status": status, "message_version": version}
            if intent.provider_message_id is not None:
                known["provider_message_id"] = intent.provider_message_id
            if row.get("error_code"):
                known["error"] = row["error_code"]
            changes.also.append(mongo_intents.change(intent, **known))
            told = recorded(intent, status, version)
            changes.rows.append(self._committer.outbox.row(told, intent.trace))
            if status in ("undelivered", "failed") and row.get("error_code") in _DEAD_NUMBERS:
                dead.append(intent)
        await self._end_with(dead, changes)
        _BEFORE_RECEIPTS()
        await self._committer.commit(changes)

    async def _proven_ids(self, rows: list[Document], intents: dict[str, Intent]) -> dict[str, str | None]:
        """By intent that has none: the provider's id. A receipt with the intent's id in its signed address
        proves that it was sent, also where its message was taken for another's: then None."""
        sids = {
            row["intent_id"]: row["sid"]
            for row in rows
            if (intent := intents.get(row["intent_id"])) is not None
            and intent.state in _MAYBE_SENT
            and intent.provider_message_id is None
            and status_of_receipt(row["status"])
        }
        if not sids:
            return {}
        holders = await self._intents.holders_of(sids.values())
        proven: dict[str, str | None] = dict(sids)
        for intent_id, sid in sids.items():
            holder = holders.get(sid, intent_id)
            if holder != intent_id:
                proven[intent_id] = None
                log.error("a message was taken for another's", intent_id=intent_id, taken_for=holder)
        return proven

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


def _newest(
    rows: list[Document], intents: dict[str, Intent], proven: dict[str, str | None]
) -> dict[str, tuple[DeliveryStatus, Document]]:
    """By intent that there is something to write of: its status, and the receipt that says so."""
    newest: dict[str, tuple[DeliveryStatus, Document]] = {}
    for row in rows:
        status = status_of_receipt(row["status"])
        intent = intents.get(row["intent_id"])
        if status is None or intent is None or intent.state is not IntentState.SENT:
            continue
        if intent.provider_message_id not in (None, row["sid"]):
            log.warning("a receipt names another message than its intent", intent_id=intent.intent_id)
            continue
        standing = newest[intent.intent_id][0] if intent.intent_id in newest else intent.status
        if is_forward(standing, status):
            newest[intent.intent_id] = (status, row)
        elif intent.provider_message_id is None and proven.get(intent.intent_id) and standing is not None:
            newest.setdefault(intent.intent_id, (standing, row))
    return newest
