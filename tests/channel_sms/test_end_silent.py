"""Who may have written in vain is not taken for silent."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect

from channel_sms.adapters.mongo_inbound import MongoIntake
from channel_sms.use_cases.end_silent import EndSilent
from servicekit.clock import SystemClock
from servicekit.failpoints import FAILPOINTS, InjectedFault
from servicekit.mongo import Conflict, Mongo
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


class Looking(EndSilent):
    """Takes down who would be ended."""

    ended: tuple[Any, ...] = ()
    disputed = 0
    """Of so many commits."""
    stands_still_at = 0
    """At which commit, if at any."""
    commits = 0

    async def _end(self, silent: list[Any], _: Any) -> int:
        self.commits += 1
        if self.commits == self.stands_still_at:
            self._moved_at -= 6
        if self.commits <= self.disputed:
            raise Conflict("somebody was faster")
        self._watch()
        self.ended += tuple(silent)
        return len(silent)


def looking(conversations: Conversations, arriving: Any) -> Looking:
    there = cast(Any, conversations)
    end = Looking(there, there, there, there, there, SystemClock(), arriving, REDELIVERY)
    conversations.end = end
    return end


@pytest.mark.parametrize("what", ["held", "overdue", "unworked_from", "subjects", None])
async def test_who_was_found_before_a_standstill_is_not_ended_after_it(what: str | None) -> None:
    conversations = Conversations()
    end = looking(conversations, SimpleNamespace(failed_at=-math.inf))
    end._deaf_at = -math.inf
    somebody = SimpleNamespace(their_address="+12025550143", subject_id="s")
    conversations.waiting, conversations.stands_still = [somebody], what
    await end.step()
    assert end.ended == ((somebody,) if what is None else ())


@pytest.mark.parametrize(
    ("disputed", "stands_still_at", "ended"),
    [(0, 0, 3), (1, 0, 3), (1, 1, 0), (2, 2, 0), (1, 2, 1)],
    ids=["none", "one by one", "all together", "the first, disputed", "the first"],
)
async def test_nobody_is_ended_after_a_commit_that_stood_still(
    disputed: int, stands_still_at: int, ended: int
) -> None:
    conversations = Conversations()
    end = looking(conversations, SimpleNamespace(failed_at=-math.inf))
    end._deaf_at = -math.inf
    end.disputed, end.stands_still_at = disputed, stands_still_at
    for number in ("+12025550141", "+12025550142", "+12025550143"):
        conversations.waiting.append(SimpleNamespace(their_address=number, subject_id="s"))
    await end.step()
    assert len(end.ended) == ended


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
