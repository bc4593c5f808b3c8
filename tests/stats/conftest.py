"""One statistics service for all tests of this folder; each test talks about contacts of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError

from contracts import Message
from servicekit.clock import DrivenClock
from servicekit.mongo import Document
from servicekit.service import Service
from stats.domain.counters import canonical
from stats.main import build
from stats.settings import Settings
from tests.engines import Engines
from tests.kit import Wire, eventually, frozen_clock, running, settled
from tests.stats.parts import recount

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@dataclass
class Line:
    """The running service, its topics, its API and its clock."""

    service: Service
    wire: Wire
    http: httpx.AsyncClient
    clock: DrivenClock
    looker: AIOKafkaConsumer

    async def tell(self, *messages: Message) -> None:
        """Publish, and wait until all of it had its effect and was announced."""
        await self.wire.publish(*messages)
        await self.at_rest()

    async def at_rest(self) -> None:
        await eventually(self._has_told_everything, "all commands to be told")
        await eventually(self._has_taken_everything, "all topics to be taken")
        await settled(self.service)

        async def announced() -> bool:
            return not await self.service.mongo["changed_targets"].find_one({})

        await eventually(announced, "everything to be announced")

    async def _has_told_everything(self) -> bool:
        return await self.service.mongo["outbox"].find_one({}) is None

    async def _has_taken_everything(self) -> bool:
        """Asks the broker where the topics end; a consumer knows it only after its next fetch."""
        assigned: Counter[str] = Counter()
        for subscription in self.service.bus.subscriptions:
            consumer = subscription.consumer
            assert consumer is not None
            ends = await self.looker.end_offsets(list(consumer.assignment()))
            assigned[subscription.group] += len(ends)
            try:
                for partition, end in ends.items():
                    if await consumer.position(partition) < end:
                        return False
            except IllegalStateError:
                return False  # it has just gone to the other consumer of the group
        return set(assigned.values()) == {12}

    async def rewind(self) -> None:
        for subscription in self.service.bus.subscriptions:
            assert subscription.consumer is not None
            await subscription.consumer.seek_to_beginning()
        await self.at_rest()

    async def statistics(self, contact: str, zone: str = "UTC") -> dict[str, Any]:
        answer = await self.http.get(f"/v1/contacts/{contact}/stats", params={"zone": zone})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def counts(self, contact: str) -> tuple[int, int]:
        total = (await self.statistics(contact))["total"]
        return total["contact_count_in"], total["contact_count_out"]

    async def everything(self) -> tuple[list[Document], ...]:
        """All that is kept, for before and after."""
        mongo = self.service.mongo
        return (
            [row async for row in mongo["ledger"].find().sort("_id", 1)],
            [row async for row in mongo["targets"].find().sort("_id", 1)],
            [row async for row in mongo["report_cells"].find().sort("_id", 1)],
            [row async for row in mongo["agent_cells"].find().sort("_id", 1)],
        )

    async def differences(self) -> list[str]:
        """Targets whose counters are not what the ledger says: the test's own look, not the service's."""
        rows = [row async for row in self.service.mongo["ledger"].find()]
        counted = recount(rows)
        kept = {row["_id"]: row.get("channels") async for row in self.service.mongo["targets"].find()}
        return [
            target
            for target in kept.keys() | counted.keys()
            if canonical(kept.get(target)) != canonical(counted.get(target))
        ]


@pytest.fixture(scope="session")
async def line(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    namespace = f"stats{uuid4().hex[:8]}"
    clock = frozen_clock(tmp_path_factory.mktemp("stats"), NOW)
    async with (
        running(
            build,
            Settings,
            engines,
            namespace,
            clock=clock,
            stats_announce_every=0.02,
            stats_settle_every=0.1,
        ) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as http,
    ):
        wire = Wire(engines, namespace)
        looker = AIOKafkaConsumer(bootstrap_servers=engines.kafka)
        await looker.start()
        yield Line(service, wire, http, clock, looker)
        await looker.stop()
        await wire.close()
