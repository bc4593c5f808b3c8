"""Who may have written in vain is not taken for silent."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect

from channel_sms.adapters.mongo_inbound import MongoIntake
from channel_sms.domain.conversation import Conversation, ConversationState
from channel_sms.use_cases.end_silent import EndSilent
from servicekit.clock import SystemClock
from servicekit.conflicts import Conflict
from servicekit.failpoints import FAILPOINTS, InjectedFault
from servicekit.mongo import Mongo
from servicekit.unit_of_work import Changes
from tests.engines import Engines
from tests.kit import eventually

REDELIVERY = 1.0


class Conversations:
    """Counts how often it was asked for those whose time is over."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.holds = frozenset({1})
        self.stands_still: str | None = None
        self.end: EndSilent | None = None
        self.waiting: list[Any] = []
        self.subjects = SimpleNamespace(get=self.get)

    def called(self, what: str) -> None:
        """The first call of what stands still takes longer than anything may."""
        assert self.end is not None
        if self.stands_still == what:
            self.stands_still = None
            self.end._moved_at -= 6

    async def overdue(self, *_: object) -> list[Any]:
        if self.away:
            raise AutoReconnect
        self.called("overdue")
        self.asked += 1
        return self.waiting

    async def unworked_from(self, *_: object) -> set[str]:
        self.called("unworked_from")
        return set()

    async def get(self, *_: object) -> dict[str, Any]:
        self.called("subjects")
        return {}

    async def held(self) -> frozenset[int]:
        self.called("held")
        return self.holds


class Writing:
    """Commits conversations that ended, or stands still, or is disputed."""

    outbox = SimpleNamespace(rows=lambda _: [])

    def __init__(self, disputed: int = 0, stands_still_at: int = 0) -> None:
        """disputed: so many of its first commits. stands_still_at: at which one, if at any."""
        self.disputed, self.stands_still_at, self.commits = disputed, stands_still_at, 0
        self.end: EndSilent | None = None
        self.ended: list[str] = []

    async def commit(self, changes: Changes) -> None:
        assert self.end is not None
        self.commits += 1
        if self.commits == self.stands_still_at:
            self.end._moved_at -= 6
        if self.commits <= self.disputed:
            raise Conflict("somebody was faster")
        self.ended += [concluded.their_address for _, _, concluded in changes.replaced]


def looking(conversations: Conversations, arriving: Any, writing: Writing | None = None) -> EndSilent:
    there, writing = cast(Any, conversations), writing or Writing()
    end = EndSilent(there, there, there, cast(Any, writing), there, SystemClock(), arriving, REDELIVERY)
    conversations.end = writing.end = end
    return end


def somebody(number: str = "+12025550143") -> Conversation:
    now = SystemClock().now()
    return Conversation(
        activity_id=f"of {number}",
        version=3,
        contact_id="ann",
        subject_id="s",
        endpoint_id="endpoint",
        our_address="+12025550100",
        their_address=number,
        dispatch_number=1,
        state=ConversationState.AWAITING_REPLY,
        opened_at=now,
        changed_at=now,
    )


@pytest.mark.parametrize("what", ["held", "overdue", "unworked_from", "subjects", None])
async def test_who_was_found_before_a_standstill_is_not_ended_after_it(what: str | None) -> None:
    conversations, writing = Conversations(), Writing()
    end = looking(conversations, SimpleNamespace(failed_at=-math.inf), writing)
    end._deaf_at = -math.inf
    conversations.waiting, conversations.stands_still = [somebody()], what
    await end.step()
    assert writing.ended == (["+12025550143"] if what is None else [])


@pytest.mark.parametrize(
    ("disputed", "stands_still_at", "ended"),
    [(0, 0, 3), (1, 0, 3), (1, 1, 0), (2, 2, 0), (1, 2, 1)],
    ids=["none", "one by one", "all together", "the first, disputed", "the first"],
)
async def test_nobody_is_ended_after_a_commit_that_stood_still(
    disputed: int, stands_still_at: int, ended: int
) -> None:
    conversations, writing = Conversations(), Writing(disputed, stands_still_at)
    end = looking(conversations, SimpleNamespace(failed_at=-math.inf), writing)
    end._deaf_at = -math.inf
    conversations.waiting = [somebody(f"+1202555014{n}") for n in range(3)]
    await end.step()
    assert len(writing.ended) == ended


@pytest.mark.parametrize("what", ["held", "overdue"])
async def test_nobody_is_silent_after_a_standstill_that_nothing_failed_of(what: str) -> None:
    conversations = Conversations()
    end = looking(conversations, SimpleNamespace(failed_at=-math.inf))
    end._deaf_at = -math.inf
    await end.step()
    assert conversations.asked == 1
    conversations.stands_still = what
    await end.step()
    asked = conversations.asked
    await end.step()
    assert conversations.asked == asked, "it stood still"

    async def asks_again() -> bool:
        await end.step()
        return conversations.asked > asked

    await eventually(asks_again, "it to look again")


async def test_a_standstill_counts_also_for_whom_nobody_is_looked_after() -> None:
    """Its leases took too long to be believed."""
    conversations = Conversations()
    end = looking(conversations, SimpleNamespace(failed_at=-math.inf))
    end._deaf_at = -math.inf
    conversations.stands_still, conversations.holds = "held", frozenset()
    await end.step()
    conversations.holds = frozenset({1})
    await end.step()
    assert conversations.asked == 0


async def test_nobody_is_silent_while_what_was_not_taken_may_come_again() -> None:
    conversations, arriving = Conversations(), SimpleNamespace(failed_at=-math.inf)
    end = looking(conversations, arriving)

    async def asks_again() -> bool:
        asked = conversations.asked
        await end.step()
        return conversations.asked > asked

    assert not await asks_again(), "it has just started"
    await eventually(asks_again, "it to look once the provider has had its time")
    arriving.failed_at = time.monotonic()
    assert not await asks_again(), "a text could not be stored"
    await eventually(asks_again, "it to look again")
    conversations.away = True
    with pytest.raises(AutoReconnect):
        await end.step()
    conversations.away = False
    assert not await asks_again(), "the database was away"
    await eventually(asks_again, "it to look again")


async def test_what_could_not_be_stored_is_remembered(engines: Engines, namespace: str) -> None:
    mongo = Mongo(engines.mongo, f"{namespace}-intake")
    intake = MongoIntake(mongo, "inbound")
    await intake.store({"_id": "one"})
    assert intake.failed_at == -math.inf
    began = time.monotonic()
    FAILPOINTS.arm("channel-sms.before_store_inbound=error@1")
    try:
        with pytest.raises(InjectedFault):
            await intake.store({"_id": "two"})
    finally:
        FAILPOINTS.disarm()
    assert intake.failed_at >= began
    await mongo.close()
