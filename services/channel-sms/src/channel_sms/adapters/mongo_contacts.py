"""Our own copy of the contacts, and the note of who was erased, which comes before the copy goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from servicekit.delivery import Delivery, Tombstone
from servicekit.lookouts import Lookouts
from servicekit.mongo import Document
from servicekit.projection import Projection
from servicekit.verdict import Outcome


class KnowContacts:
    """Keeps the copy, and notes who was erased before the copy forgets their numbers."""

    def __init__(self, projection: Projection, erasures: Lookouts) -> None:
        self._projection = projection
        self._erasures = erasures

    async def __call__(self, batch: Sequence[Delivery[Any] | Tombstone]) -> Sequence[Outcome]:
        if erased := {each.key for each in batch if isinstance(each, Tombstone)}:
            numbers = {contact_id: set[str]() for contact_id in erased}
            again = set()
            async for row in self._projection.collection.find({"_id": {"$in": list(erased)}}):
                numbers[row["_id"]].update(row.get("numbers", ()))
                if "erased" in row:
                    again.add(row["_id"])
            for each in batch:
                if not isinstance(each, Tombstone) and each.message.contact_id in erased:
                    kept: Document = self._projection.document(each.message)
                    numbers[each.message.contact_id].update(kept["numbers"])
            told = {id_: {"$addToSet": {"addresses": {"$each": sorted(of)}}} for id_, of in numbers.items()}
            await self._erasures.announce(told, again)
        return await self._projection(batch)
