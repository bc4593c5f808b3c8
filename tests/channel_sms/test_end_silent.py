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
from servicekit.mongo import Mongo
from tests.engines import Engines
from tests.kit import eventually

REDELIVERY = 1.0


class Conversations:
    """Counts how often it was asked for those whose time is over."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def overdue(self, *_: object) -> list[Any]:
        if self.away:
            raise AutoReconnect
        self.asked += 1
        return []

    async def held(self) -> frozenset[int]:
        return frozenset({1})


async def test_nobody_is_silent_while_what_was_not_taken_may_come_again() -> None:
    conversations, arriving = Conversations(), SimpleNamespace(failed_at=-math.inf)
    there = cast(Any, conversations)
    end = EndSilent(there, there, there, there, there, SystemClock(), cast(Any, arriving), REDELIVERY)

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
