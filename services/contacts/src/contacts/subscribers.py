"""What arrives on topics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from contacts.adapters.mongo_contacts import (
    MongoContacts,
    MongoContactTypes,
    MongoHandledUpserts,
    MongoLedger,
)
from contacts.domain.commands import Command, Known
from contracts.contacts import SetPreference, UpsertContact
from servicekit.clock import Clock


def known_for_commands(
    contacts: MongoContacts,
    types: MongoContactTypes,
    ledger: MongoLedger,
    handled: MongoHandledUpserts,
    clock: Clock,
) -> Callable[[Sequence[Command]], Awaitable[Known]]:
    async def known(commands: Sequence[Command]) -> Known:
        upserts = [command for command in commands if isinstance(command, UpsertContact)]
        preferences = [command for command in commands if isinstance(command, SetPreference)]
        entries, upserted, known_types, owners = await asyncio.gather(
            ledger.known([command.command_id for command in preferences]),
            handled.known([command.command_id for command in upserts]),
            types.load({command.contact_type for command in upserts}),
            contacts.owners({(c.contact_type, c.external_id.strip()) for c in upserts if c.external_id}),
        )
        return Known(clock.now(), frozenset(entries | upserted), known_types, owners)

    return known
