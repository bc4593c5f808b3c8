"""Tells the operator how much the scheduler has before it."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

from activities.ports import DueActivities
from servicekit.clock import Clock
from servicekit.resting import rest

_EVERY_SECONDS = 5.0


class CountDue:
    """Every replica counts all of them."""

    def __init__(self, due: DueActivities, clock: Clock, gauge: Gauge, stopping: asyncio.Event) -> None:
        self._due = due
        self._clock = clock
        self._gauge = gauge
        self._stopping = stopping

    async def run(self) -> None:
        while not self._stopping.is_set():
            self._gauge.set(await self._due.count_due(self._clock.now()))
            await rest(self._stopping, _EVERY_SECONDS)
