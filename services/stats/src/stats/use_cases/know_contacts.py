"""Contacts as the statistics know them: their addresses, and that nobody has contacted them yet."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import UpdateOne

from contracts.contacts import ContactChanged
from servicekit.delivery import Delivery, Tombstone
from servicekit.mongo import Document, Mongo
from servicekit.projection import Projection
from servicekit.verdict import Outcome
from stats.adapters.mongo_ledger import TARGETS, uncounted
from stats.domain.ledger import contact_key, target_key
from stats.use_cases.change_targets import EraseTarget


def addresses_of(contact: ContactChanged) -> Document:
    emails = (email.strip().lower() for email in contact.emails)
    return {"addresses": [*emails, *(phone.number for phone in contact.phones)]}


class KnowContacts:
    """Keeps the copy, and gives a contact its counters, all zero, before there is an attempt."""

    def __init__(self, contacts: Projection, mongo: Mongo, erase: EraseTarget) -> None:
        self._contacts = contacts
        self._mongo = mongo
        self._erase = erase

    async def __call__(self, batch: Sequence[Delivery[ContactChanged] | Tombstone]) -> list[Outcome]:
        outcomes = await self._contacts(batch)
        appeared = {
            contact_key(delivery.message.contact_id) for delivery in batch if isinstance(delivery, Delivery)
        }
        if appeared:
            await self._mongo[TARGETS].bulk_write(
                [
                    UpdateOne({"_id": target}, {"$setOnInsert": uncounted(target)}, upsert=True)
                    for target in appeared
                ],
                ordered=False,
            )
        for delivery in batch:
            if isinstance(delivery, Tombstone):
                await self._erase(target_key("contact", delivery.key))
        return outcomes
