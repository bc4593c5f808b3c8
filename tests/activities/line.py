"""One running service for a module of tests; each test has its own contact and campaign on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from pymongo import MongoClient

from activities.main import build
from activities.settings import Settings
from contracts.activities import ActivityCreated, ActivityOutcome, ActivityProgressed, ActivityReturned
from contracts.campaigns import CampaignChanged
from contracts.contacts import ContactChanged
from contracts.message import Message
from servicekit.clock import DrivenClock
from servicekit.service import Service
from tests.activities import builders
from tests.activities.builders import NOON
from tests.engines import Engines
from tests.kit import Wire, eventually, frozen_clock, running, settled

M = TypeVar("M", bound=Message)


class Case:
    """One test's own corner: everything it builds and reads is about its contact and campaign."""

    def __init__(self, service: Service, wire: Wire, clock: DrivenClock) -> None:
        self.service = service
        self.wire = wire
        self.clock = clock
        self.name = uuid4().hex[:8]
        self.contact_id = f"contact-{self.name}"
        self.campaign_id = f"campaign-{self.name}"
        self.at(NOON)

    def at(self, moment: datetime) -> None:
        self.clock.set(moment, rate=0)

    def after(self, **passed: float) -> None:
        self.at(self.clock.now() + timedelta(**passed))

    def id(self, name: str = "one") -> str:
        return f"{self.name}-{name}"

    def contact(self, version: int = 1, **changes: Any) -> ContactChanged:
        return builders.contact_changed(self.contact_id, version, **changes)

    def campaign(self, version: int = 1, state: str = "running", **changes: Any) -> CampaignChanged:
        return builders.campaign(version, state, campaign_id=self.campaign_id, **changes)

    def created(self, name: str = "one", **changes: Any) -> ActivityCreated:
        own = {"contact_id": self.contact_id, "campaign_id": self.campaign_id}
        return builders.created(self.id(name), **own | changes)

    def manual(self, name: str = "one", **changes: Any) -> ActivityCreated:
        own = {"contact_id": self.contact_id, "campaign_id": self.campaign_id}
        return builders.manual(self.id(name), **own | changes)

    def outcome(self, name: str = "one", outcome_id: str = "first", **changes: Any) -> ActivityOutcome:
        return builders.outcome(
            self.id(name), self.id(outcome_id), **{"contact_id": self.contact_id} | changes
        )

    def progressed(self, name: str = "one", state: str = "in_progress") -> ActivityProgressed:
        return builders.progressed(self.id(name), state, contact_id=self.contact_id)

    def returned(self, dispatch_number: int = 1, name: str = "one") -> ActivityReturned:
        return builders.returned(dispatch_number, activity_id=self.id(name), contact_id=self.contact_id)

    async def know(self, *messages: Message) -> None:
        """Publish foreign state and wait until the service keeps it."""
        await self.wire.publish(*messages)
        for message in messages:
            where = "contacts" if isinstance(message, ContactChanged) else "catalog"
            version = getattr(message, "version")  # noqa: B009
            kept = partial(
                self.service.mongo[where].find_one, {"_id": message.key(), "version": {"$gte": version}}
            )
            await eventually(kept, message.event_id())

    async def open(self, **contact: Any) -> None:
        """A running campaign and a contact who may be reached."""
        await self.know(self.campaign(), self.contact(**contact))

    async def stored(self, name: str = "one") -> Any:
        return await self.service.mongo["activities"].find_one({"_id": self.id(name)})

    async def becomes(self, name: str = "one", **expected: Any) -> Any:
        """Wait until the stored activity has these values."""
        return await eventually(
            lambda: self.service.mongo["activities"].find_one({"_id": self.id(name), **expected}),
            f"{name} to become {expected}",
        )

    async def settle(self) -> None:
        await settled(self.service)

    async def said(self, message_class: type[M], topic: str | None = None) -> list[M]:
        """What was announced about this contact, once everything has settled."""
        await self.settle()
        return [m for m in await self.wire.messages(message_class, topic) if m.key() == self.contact_id]

    async def dead_letters(self, topic: str) -> dict[str, dict[str, str]]:
        """By what tells the facts of a type apart."""
        await self.settle()
        letters = {each["ce_id"].partition(":")[2]: each for each in await self.wire.dead_letters(topic)}
        return {identity: letter for identity, letter in letters.items() if identity.startswith(self.name)}


@asynccontextmanager
async def serving(engines: Engines, directory: Path) -> AsyncIterator[tuple[Service, Wire, DrivenClock]]:
    """The service with a catalogue, on a namespace of its own."""
    clock = frozen_clock(directory, NOON)
    wire = Wire(engines, f"t{uuid4().hex[:8]}-")
    try:
        async with running(build, Settings, engines, wire.namespace, clock=clock) as service:
            await wire.publish(*builders.catalog_messages())
            await settled(service)
            yield service, wire, clock
    finally:
        await wire.close()
        await _forget(engines, wire.namespace)


async def _forget(engines: Engines, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=engines.kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic for topic in await admin.list_topics() if topic.startswith(prefix)])
    finally:
        await admin.close()
    with MongoClient[dict[str, Any]](engines.mongo) as client:
        client.drop_database(f"{prefix}-parley-activities")
