"""The running service as these tests see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx

from batch_loader.main import build
from batch_loader.settings import Settings
from contracts.activities import ActivityChanged, ActivityCreated
from contracts.batch_loader import BatchProgressed
from contracts.contacts import ContactChanged
from contracts.vocabulary import ActivityState, ContactId, PreferenceKind
from servicekit.bus import Subscription
from servicekit.clock import DrivenClock
from servicekit.service import Service
from tests.batch_loader.builders import AUTOMATIC, CATALOG, changed, contact, contact_id
from tests.engines import Engines
from tests.kit import Wire, eventually, running, settled


class Line:
    """One service, its topics and its API, and a crowd of contacts that no other test has."""

    def __init__(self, service: Service, wire: Wire, api: httpx.AsyncClient) -> None:
        self.service = service
        self.wire = wire
        self.api = api
        self.crowd = f"c{uuid4().hex[:8]}"

    def contact(self, number: int, *opted_out: PreferenceKind, **told: Any) -> ContactChanged:
        return contact(number, opted_out, self.crowd, **told)

    def id(self, number: int) -> ContactId:
        return contact_id(number, self.crowd)

    def changed(
        self, number: int, activity: str, version: int, state: ActivityState, **told: Any
    ) -> ActivityChanged:
        return changed(self.id(number), activity, version, state, **told)

    def subscription(self, name: str) -> Subscription:
        (found,) = [each for each in self.service.bus.subscriptions if each.name == f"batch-loader.{name}"]
        return found

    async def knows(self, contacts: Iterable[ContactChanged]) -> None:
        """The catalogue and these contacts have arrived."""
        contacts = list(contacts)
        await self.wire.publish(*CATALOG, *contacts)
        known = {"_id": {"$in": [one.contact_id for one in contacts]}, "lifecycle": {"$exists": True}}
        copy = self.service.mongo["contacts"]

        async def arrived() -> bool:
            found: int = await copy.count_documents(known)
            return found >= len(contacts) and await self._knows_the_catalogue()

        await eventually(arrived, "the contacts to arrive")

    async def _knows_the_catalogue(self) -> bool:
        known = 0
        for collection in ("campaigns", "subjects", "endpoints", "agent_profiles"):
            known += await self.service.mongo[collection].count_documents({})
        return known == len(CATALOG)

    async def draft(self, name: str = "A batch", filters: Any = None, **choices: Any) -> dict[str, Any]:
        answer = await self.api.post(
            "/v1/batches",
            json={
                "name": name,
                "filters": {"contact_type": self.crowd} | (filters or {}),
                "choices": AUTOMATIC | choices,
            },
        )
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def tell(self, batch: dict[str, Any], move: str, status: int = 200) -> dict[str, Any]:
        answer = await self.api.post(f"/v1/batches/{batch['batch_id']}/{move}")
        assert answer.status_code == status, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def get(self, batch: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.api.get(f"/v1/batches/{batch['batch_id']}")).json()
        assert shown["selected"] == shown["loaded"] + sum(shown["skipped"].values())
        return shown

    async def becomes(self, batch: dict[str, Any], state: str) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            shown = await self.get(batch)
            return shown if shown["state"] == state else None

        return await eventually(there, f"the batch to be {state}")  # type: ignore[no-any-return]

    async def activities(self, batch: dict[str, Any]) -> list[ActivityCreated]:
        """What was asked for in the name of a batch; the same id twice is one."""
        await settled(self.service)
        found = await self.wire.messages(ActivityCreated)
        return list({one.activity_id: one for one in found if one.batch_id == batch["batch_id"]}.values())

    async def progress(self, batch: dict[str, Any]) -> list[BatchProgressed]:
        await settled(self.service)
        told = [one for one in await self.wire.messages(BatchProgressed) if one.batch_id == batch["batch_id"]]
        return sorted(told, key=lambda message: message.version)


@asynccontextmanager
async def line(
    engines: Engines, namespace: str, clock: DrivenClock | None = None, **settings: Any
) -> AsyncIterator[Line]:
    wire = Wire(engines, namespace)
    try:
        async with (
            running(build, Settings, engines, namespace, clock=clock, **settings) as service,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as api,
        ):
            yield Line(service, wire, api)
    finally:
        await wire.close()
