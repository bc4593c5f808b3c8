"""The decision ledger: every verdict of the policy gate once, and how many there were of each kind.

A verdict follows its contact: to the survivor of a merge, and to nobody when the contact is erased. Whoever
merges or erases marks the contact first and then moves the verdicts there are; whoever records looks for
the mark after the write. So one of the two sees the other's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from pymongo import ASCENDING, DESCENDING, IndexModel

from contracts.activities import ActivityDecided
from servicekit.conflicts import batch_undisputed
from servicekit.delivery import Delivery
from servicekit.failpoints import Failpoint
from servicekit.metrics import Metrics
from servicekit.mongo import Mongo
from servicekit.verdict import Outcome, Unchanged
from stats.adapters.mongo_cells import cell_updates
from stats.adapters.mongo_ledger import MongoLedger
from stats.domain.decisions import cells_of, row_id, row_of
from stats.domain.ledger import ERASED, Erased, TargetKey, is_contact, survivor_of, target_key, target_of

DECISION_LEDGER = "decisions"
DECISION_CELLS = "decision_cells"
_NEWEST = [("decided_at", DESCENDING), ("_id", DESCENDING)]
LEDGER_INDEXES = (
    IndexModel(_NEWEST, name="newest"),
    IndexModel([("contact_id", ASCENDING), *_NEWEST], name="of_a_contact"),
    IndexModel([("campaign_id", ASCENDING), *_NEWEST], name="of_a_campaign"),
    IndexModel([("activity_id", ASCENDING), *_NEWEST], name="of_an_activity"),
)
_OF_THE_PERSON = ("contact_id", "activity_id", "inputs")


class Decisions:
    """What becomes of the verdicts about a contact that is no more."""

    def __init__(self, mongo: Mongo, ledger: MongoLedger) -> None:
        self._rows = mongo[DECISION_LEDGER]
        self._ledger = ledger

    async def follow(self, contact: TargetKey) -> None:
        """Again: nothing. Other types of target have no verdicts.

        Looked at again after each step, and at everybody on the way: who survives may be merged or erased
        between the look and the write, and a crash between them leaves verdicts with somebody on the way.
        """
        moved_to: TargetKey | None = None
        while is_contact(contact):
            gone = await self._ledger.gone([contact])
            now = survivor_of(contact, gone)
            if now in (contact, moved_to):
                return
            for each in filter(is_contact, gone):
                if each != now:
                    await self._move(each, now)
            moved_to = now

    async def _move(self, contact: TargetKey, now: TargetKey | Erased) -> None:
        id_ = target_of(contact)[1]
        if now == ERASED:
            forget = {"$unset": dict.fromkeys(_OF_THE_PERSON, ""), "$set": {"erased": True}}
            await self._rows.update_many({"contact_id": id_}, forget)
        else:
            await self._rows.update_many({"contact_id": id_}, {"$set": {"contact_id": target_of(now)[1]}})


class RecordDecisions:
    """A batch is one transaction; a verdict that is known already changes nothing."""

    def __init__(
        self, mongo: Mongo, ledger: MongoLedger, decisions: Decisions, instance: str, metrics: Metrics
    ) -> None:
        self._before_commit = Failpoint("stats.decisions.before_commit")
        self._before_following = Failpoint("stats.decisions.before_following")
        self._mongo = mongo
        self._ledger = ledger
        self._decisions = decisions
        self._shard = f"decisions-{crc32(instance.encode()) % 64}"
        self._conflicts = metrics.conflicts.labels("stats.decisions")

    async def __call__(self, batch: Sequence[Delivery[ActivityDecided]]) -> list[Outcome]:
        messages = [delivery.message for delivery in batch]

        async def attempt() -> list[Outcome]:
            outcomes = await self._attempt(messages)
            self._before_following()
            await self._follow({target_key("contact", message.contact_id) for message in messages})
            return outcomes

        return await batch_undisputed(attempt, len(batch), self._conflicts, "decisions")

    async def _attempt(self, messages: Sequence[ActivityDecided]) -> list[Outcome]:
        rows = {row_id(message): row_of(message) for message in messages}
        async with self._mongo.transaction() as session:
            found = self._mongo[DECISION_LEDGER].find(
                {"_id": {"$in": list(rows)}}, {"_id": 1}, session=session
            )
            known = {row["_id"] async for row in found}
            fresh = [row for id_, row in rows.items() if id_ not in known]
            if fresh:
                await self._mongo[DECISION_LEDGER].insert_many(fresh, ordered=False, session=session)
                await self._mongo[DECISION_CELLS].bulk_write(
                    cell_updates(cells_of(fresh), self._shard), ordered=False, session=session
                )
            self._before_commit()
        return _outcomes(messages, known)

    async def _follow(self, contacts: set[TargetKey]) -> None:
        for contact in contacts & (await self._ledger.gone(contacts)).keys():
            await self._decisions.follow(contact)


def _outcomes(messages: Sequence[ActivityDecided], known: set[str]) -> list[Outcome]:
    """The first of several deliveries of a verdict is news, if it was not known."""
    told = set(known)
    outcomes: list[Outcome] = []
    for message in messages:
        id_ = row_id(message)
        outcomes.append(Unchanged() if id_ in told else None)
        told.add(id_)
    return outcomes
