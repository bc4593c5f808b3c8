"""Tells the operator what waits to be sent, and how many sends nobody knows the result of."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

from channel_sms.adapters.mongo_intents import Intents
from channel_sms.adapters.mongo_knowledge import Knowledge
from servicekit.clock import Clock
from servicekit.resting import rest

_EVERY_SECONDS = 5.0


class CountOpen:
    """Every replica counts all of them."""

    def __init__(
        self,
        intents: Intents,
        knowledge: Knowledge,
        clock: Clock,
        due: Gauge,
        unknown: Gauge,
        stopping: asyncio.Event,
    ) -> None:
        self._intents = intents
        self._knowledge = knowledge
        self._clock = clock
        self._due = due
        self._unknown = unknown
        self._stopping = stopping

    async def run(self) -> None:
        while not self._stopping.is_set():
            at_rest = await self._knowledge.campaigns_at_rest()
            self._due.set(await self._intents.count_due(self._clock.now(), at_rest))
            self._unknown.set(await self._intents.count_unknown())
            await rest(self._stopping, _EVERY_SECONDS)
