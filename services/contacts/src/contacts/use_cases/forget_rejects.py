"""Rejected rows of somebody who is erased: those there are, and those that an import was just writing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from contacts.domain.contact import Contact
from contacts.domain.importing import identifiers
from contacts.ports import Contacts, Imports
from servicekit.clock import real_now
from servicekit.leases import Leases
from servicekit.lookouts import Lookouts
from servicekit.resting import repeat

Identifiers = Sequence[str]
"""By which rejected rows are found."""

_BATCH = 50
_REST_SECONDS = 0.5


class ForgetRejects:
    """Again is harmless: what is gone stays so."""

    def __init__(self, erasures: Lookouts, imports: Imports, contacts: Contacts, leases: Leases) -> None:
        self._erasures = erasures
        self._imports = imports
        self._contacts = contacts
        self._leases = leases

    async def announce(self, contact: Contact) -> Identifiers:
        """While it still says by what its rows are found, which is returned: they are looked for from now
        on, and taken away once it is gone."""
        found_by = sorted(identifiers(contact.details()))
        told = {contact.contact_id: {"$addToSet": {"identifiers": {"$each": found_by}}}}
        await self._erasures.announce(told, () if contact.erased_at is None else told.keys())
        return found_by

    async def __call__(self, contact_id: str, found_by: Identifiers) -> None:
        await self._imports.erase_rejects(contact_id, found_by)

    async def run(self, stopping: asyncio.Event) -> None:
        await repeat(stopping, self.step, self._leases, _REST_SECONDS)

    async def step(self) -> int:
        """One batch. Returns how many people were looked for."""
        buckets = await self._leases.held()
        if not buckets:
            return 0
        due = await self._erasures.due(real_now(), buckets, _BATCH)
        # An erasure that was refused, or has not come that far, takes nothing from who is still there.
        erased = await self._contacts.erased([erasure.id for erasure in due])
        for erasure in due:
            if erasure.id in erased:
                await self._imports.erase_rejects(erasure.id, erasure.document["identifiers"])
            await self._erasures.look_again_or_end(erasure, False, real_now())
        return len(due)
