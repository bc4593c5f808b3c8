"""Our own copy of the contacts: what the gate needs, and no names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from activities.domain.catalog import Contact
from contracts.contacts import ContactChanged
from contracts.vocabulary import Lifecycle, PhoneType, PreferenceKind
from servicekit.clock import Clock
from servicekit.delivery import Delivery, Tombstone
from servicekit.failpoints import Failpoint
from servicekit.lookouts import Lookouts
from servicekit.mongo import Collection, Document
from servicekit.projection import ERASED, Projection
from servicekit.verdict import Outcome

_BEFORE_WAKE = Failpoint("activities.before_wake")


def keep_contact(message: ContactChanged) -> Document:
    return {
        "lifecycle": message.lifecycle.value,
        "phones": [[phone.number, phone.type.value] for phone in message.phones],
        "emails": list(message.emails),
        "time_zone": message.time_zone,
        "opted_out": [preference.value for preference in message.preferences],
    }


def contact_of(row: Document) -> Contact:
    if row.get("erased"):
        return Contact(row["_id"], row["version"], erased=True)
    return Contact(
        row["_id"],
        row["version"],
        Lifecycle(row["lifecycle"]),
        tuple((number, PhoneType(type_)) for number, type_ in row["phones"]),
        tuple(row["emails"]),
        row["time_zone"],
        frozenset(map(PreferenceKind, row["opted_out"])),
    )


class MongoContacts:
    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    async def read(self, ids: Iterable[str]) -> Mapping[str, Contact]:
        wanted = list(set(ids))
        if not wanted:
            return {}
        found = self._projection.collection.find({"_id": {"$in": wanted}})
        return {row["_id"]: contact_of(row) async for row in found}


class KnowContacts:
    """Keeps the copy, notes who was erased before the copy forgets it, and wakes the activities that only
    waited for a newer contact."""

    def __init__(
        self, projection: Projection, erasures: Lookouts, activities: Collection, clock: Clock
    ) -> None:
        self._projection = projection
        self._erasures = erasures
        self._activities = activities
        self._clock = clock

    async def __call__(self, batch: Sequence[Delivery[Any] | Tombstone]) -> Sequence[Outcome]:
        if erased := {each.key for each in batch if isinstance(each, Tombstone)}:
            again = await self._known_as_erased(erased)
            await self._erasures.announce({contact_id: {} for contact_id in erased}, again)
        outcomes = await self._projection(batch)
        _BEFORE_WAKE()
        told: dict[str, int] = {}
        for each in batch:
            id_, version = _told(each)
            told[id_] = max(version, told.get(id_, 0))
        await self._wake(told)
        return outcomes

    async def _wake(self, told: Mapping[str, int]) -> None:
        """What was judged by an older contact, or by none. A repeat wakes nobody: each look is a verdict."""
        waiting = self._activities.find(
            {"awaits_contact": True, "contact_id": {"$in": list(told)}},
            {"contact_id": 1, "last_verdict.inputs.contact_version": 1},
        )
        late = [row["_id"] async for row in waiting if told[row["contact_id"]] > _judged_by(row)]
        if late:
            # Without a version: it only makes the scheduler look earlier. A lost wake costs an hour at most.
            await self._activities.update_many(
                {"_id": {"$in": late}, "awaits_contact": True}, {"$min": {"due_at": self._clock.now()}}
            )

    async def _known_as_erased(self, contact_ids: Iterable[str]) -> set[str]:
        known = self._projection.collection.find({"_id": {"$in": list(contact_ids)}, "erased": True})
        return {row["_id"] async for row in known}


def _told(each: Delivery[Any] | Tombstone) -> tuple[str, int]:
    if isinstance(each, Tombstone):
        return each.key, ERASED
    return each.message.contact_id, each.message.version


def _judged_by(activity: Document) -> int:
    """Version of the contact that the last verdict looked at; 0 if it knew none."""
    version: int = (activity.get("last_verdict") or {}).get("inputs", {}).get("contact_version", 0)
    return version
