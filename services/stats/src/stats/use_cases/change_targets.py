"""Merging, erasing and linking targets.

Merging and erasing first mark the target, so that whatever comes in meanwhile goes where it belongs;
then its rows follow, a few at a time, each with the counters it moves. Interrupted, they are resumed by
doing them again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pymongo import UpdateOne

from contracts.stats import SetParent, SetTargetLink
from servicekit.conflicts import Conflict, undisputed
from servicekit.failpoints import Failpoint
from servicekit.mongo import Session
from stats.adapters.mongo_ledger import NOBODY, MongoLedger, Work, uncounted
from stats.domain.ledger import (
    ERASED,
    MOST_TARGETS,
    Erased,
    TargetKey,
    TooManyLinks,
    forgotten,
    head_id,
    last_of,
    moved,
    relink,
    survivor_of,
    target_key,
)
from stats.use_cases.record_decisions import Decisions
from stats.use_cases.transactions import Rewriting
from stats.use_cases.worlds import Worlds

_BETWEEN_MARK_AND_MOVE = Failpoint("stats.between_mark_and_move")


class Refused(Exception):
    """The command cannot be carried out; the message says why."""


class MergeTargets:
    def __init__(self, rewriting: Rewriting, decisions: Decisions) -> None:
        self._rewriting = rewriting
        self._decisions = decisions

    async def __call__(self, loser: TargetKey, survivor: TargetKey) -> int:
        """Returns how many interactions moved. Raises Refused for a circle or an erased target."""
        await undisputed(lambda: self._mark(loser, survivor), "a target")
        _BETWEEN_MARK_AND_MOVE()
        count = 0
        while heads := await self._rewriting.heads_of(loser):
            count += await self._rewriting.interactions(heads, moved, leaving=loser)
        await self._decisions.follow(loser)
        return count

    async def _mark(self, loser: TargetKey, survivor: TargetKey) -> None:
        """Looked up and marked in one transaction that writes both: another merge of either, such as the one
        in the opposite direction, and an erasure of the survivor collide with it, and one is decided again.
        """
        ledger = self._rewriting.ledger
        async with ledger.transaction() as session:
            gone = await ledger.gone([loser, survivor], session)
            last = last_of(survivor, gone)
            if gone.get(last) == ERASED:
                if loser not in (last, survivor) and last_of(loser, gone) == last:
                    # It was interrupted, and the survivor erased since: the rest goes the same way.
                    return
                raise Refused("the survivor was erased")
            if loser == last:
                raise Refused("a target cannot be merged into itself")
            if last in gone:
                raise Refused("the survivor was merged in a circle")
            if gone.get(loser) == ERASED:
                raise Refused("the target was erased")
            if loser not in gone:
                await _mark(ledger, loser, last, session)
                met = {"$inc": {"met": 1}, "$setOnInsert": uncounted(last)}
                await ledger.targets.update_one({"_id": last}, met, upsert=True, session=session)
            elif last_of(loser, gone) != last:
                raise Refused("the target was merged into another one before")


class EraseTarget:
    def __init__(self, rewriting: Rewriting, decisions: Decisions) -> None:
        self._rewriting = rewriting
        self._decisions = decisions

    async def __call__(self, target: TargetKey) -> int:
        """Returns how many interactions lost their link. Again: nothing."""
        ledger = self._rewriting.ledger
        gone = await ledger.gone([target])
        became = gone.get(target)
        if became is not None and survivor_of(target, gone) in gone:
            # A circle, which no merge makes: nobody survives, so all of it goes.
            await undisputed(lambda: self._end_circle(gone), "a target")
            return sum([await self(each) for each in gone])
        if became is None and not await self._mark(target):
            return await self(target)
        if became is not None and became != ERASED:
            # Deleting the record that was merged away does not erase the person: that is the survivor.
            async with ledger.transaction() as session:
                await ledger.targets.update_one(
                    {"_id": target, "erased": {"$exists": False}},
                    {"$inc": {"version": 1}, "$set": {"erased": True}},
                    session=session,
                )
                await ledger.mark([target], session)
            return 0
        _BETWEEN_MARK_AND_MOVE()
        count = 0
        while heads := await self._rewriting.heads_of(target):
            count += await self._rewriting.interactions(heads, forgotten, leaving=target)
        await self._decisions.follow(target)
        await ledger.targets.update_one(
            {"_id": target, "gone": ERASED}, {"$unset": {"channels": "", "listed": "", "parent": ""}}
        )
        return count

    async def _end_circle(self, circle: Iterable[TargetKey]) -> None:
        ledger = self._rewriting.ledger
        async with ledger.transaction() as session:
            await ledger.targets.update_many(
                {"_id": {"$in": list(circle)}, "gone": {"$ne": ERASED}},
                {"$inc": {"version": 1}, "$set": {"gone": ERASED}},
                session=session,
            )
            await ledger.mark(circle, session)

    async def _mark(self, target: TargetKey) -> bool:
        """False if somebody was faster, and the target may have gone another way."""
        ledger = self._rewriting.ledger
        try:
            async with ledger.transaction() as session:
                await _mark(ledger, target, ERASED, session)
        except Conflict:
            return False
        return True


async def _mark(ledger: MongoLedger, target: TargetKey, gone: TargetKey | Erased, session: Session) -> None:
    """From here on nobody gives this target a row: the next write finds the mark, or collides with it.

    A target that is gone already is a key that exists: a conflict.
    """
    await ledger.targets.update_one(
        {"_id": target, "gone": {"$exists": False}},
        {"$inc": {"version": 1}, "$set": {"gone": gone, "met": NOBODY}},
        upsert=True,
        session=session,
    )
    await ledger.mark([target], session)


class LinkTarget:
    def __init__(self, rewriting: Rewriting, worlds: Worlds) -> None:
        self._rewriting = rewriting
        self._worlds = worlds

    async def __call__(self, command: SetTargetLink) -> bool:
        """False if it changed nothing. Raises Refused if it is one link or cut too many."""
        try:
            return await undisputed(lambda: self._relink(command), "the interaction")
        except TooManyLinks:
            raise Refused(f"commands link or cut at most {MOST_TARGETS} targets of an interaction") from None

    async def _relink(self, command: SetTargetLink) -> bool:
        ledger = self._rewriting.ledger
        head = head_id(command.interaction_type, command.interaction_id)
        async with ledger.transaction() as session:
            rows = (await ledger.interactions([head], session)).get(head, [])
            target = target_key(command.target_type, command.target_id)
            world = await self._worlds.around_rows([rows] if rows else [], session, [target])
            after = relink(command, rows, world)
            if after is None:
                return False
            work = Work()
            work.change(rows, after)
            await ledger.write(work, session)
        return True


class SetParentOf:
    """Which target's numbers roll up to which: kept beside the counters, added up when read."""

    def __init__(self, rewriting: Rewriting) -> None:
        self._rewriting = rewriting

    async def __call__(self, command: SetParent) -> None:
        if (command.parent_type is None) != (command.parent_id is None):
            raise Refused("parent_type and parent_id are given together, or neither")
        target = target_key(command.target_type, command.target_id)
        parent = target_key(command.parent_type, command.parent_id or "") if command.parent_type else None
        if parent == target:
            raise Refused("a target cannot be its own parent")
        at: datetime = command.occurred_at
        targets = self._rewriting.ledger.targets
        await targets.bulk_write(
            [
                UpdateOne({"_id": target}, {"$setOnInsert": uncounted(target)}, upsert=True),
                UpdateOne(
                    {
                        "_id": target,
                        "gone": {"$exists": False},
                        "$or": [{"parent_set_at": {"$exists": False}}, {"parent_set_at": {"$lt": at}}],
                    },
                    {"$set": {"parent_set_at": at} | ({"parent": parent} if parent else {})}
                    | ({} if parent else {"$unset": {"parent": ""}}),
                ),
            ]
        )
