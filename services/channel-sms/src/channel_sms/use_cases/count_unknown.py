"""Tells the operator how many sends nobody knows the result of."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

from channel_sms.adapters.mongo_intents import Intents
from servicekit.resting import rest

_EVERY_SECONDS = 5.0


class CountUnknown:
    """Every replica counts all of them."""

    def __init__(self, intents: Intents, gauge: Gauge, stopping: asyncio.Event) -> None:
        self._intents = intents
        self._gauge = gauge
        self._stopping = stopping

    async def run(self) -> None:
        while not self._stopping.is_set():
            self._gauge.set(await self._intents.count_unknown())
            await rest(self._stopping, _EVERY_SECONDS)
