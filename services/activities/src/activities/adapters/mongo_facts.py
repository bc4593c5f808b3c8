"""What decisions look at besides the message and the state, read once a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from activities.domain.activity import slot_of
from activities.domain.creation import CreationFacts, crowded_in, unknown_in
from activities.domain.missing import Missing
from activities.domain.outcomes import OutcomeFacts, Report
from activities.ports import Catalogs, Contacts
from contracts.activities import ActivityCreated, ActivityOutcome
from servicekit.clock import Clock
from servicekit.mongo import Collection


class MongoFacts:
    def __init__(
        self,
        clock: Clock,
        catalogs: Catalogs,
        contacts: Contacts,
        slots: Collection,
        channels: frozenset[str],
    ) -> None:
        self._clock = clock
        self._catalogs = catalogs
        self._contacts = contacts
        self._slots = slots
        self._channels = channels
        self._missing = Missing()

    async def for_creation(self, batch: Sequence[ActivityCreated]) -> CreationFacts:
        catalog = await self._catalogs.read()
        unknown = {id_ for message in batch for _, id_ in unknown_in(message, catalog)}
        contacts, holders = await asyncio.gather(
            self._contacts.read(message.contact_id for message in batch), self._holders(batch)
        )
        return CreationFacts(
            self._clock.now(),
            catalog,
            contacts,
            self._channels,
            holders,
            crowded_in(batch),
            self._missing.too_long(unknown, time.monotonic()),
        )

    async def for_outcomes(self, batch: Sequence[Report]) -> OutcomeFacts:
        ended = [message.contact_id for message in batch if isinstance(message, ActivityOutcome)]
        return OutcomeFacts(self._clock.now(), await self._catalogs.read(), await self._contacts.read(ended))

    async def _holders(self, batch: Sequence[ActivityCreated]) -> Mapping[str, Sequence[str]]:
        slots = {slot_of(m.contact_id, m.subject_id) for m in batch if m.exclusive}
        if not slots:
            return {}
        found = self._slots.find({"_id": {"$in": list(slots)}})
        return {row["_id"]: row["holders"] async for row in found}
