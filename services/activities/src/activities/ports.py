"""What the use cases need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from activities.domain.activity import Activity
from activities.domain.catalog import Catalog, Contact
from activities.domain.creation import CreationFacts
from contracts.activities import ActivityCreated


class Catalogs(Protocol):
    async def read(self) -> Catalog:
        """All of the catalogue, at most half a second old."""
        ...


class Contacts(Protocol):
    async def read(self, ids: Iterable[str]) -> Mapping[str, Contact]:
        """What is known of these, erased ones included."""
        ...


class Facts(Protocol):
    async def for_creation(self, batch: Sequence[ActivityCreated]) -> CreationFacts: ...


class Creations(Protocol):
    """The topic that activities are made from."""

    async def published(self) -> Mapping[int, int]:
        """Partition -> the offset behind its newest record."""
        ...

    async def handled(self) -> Mapping[int, int]:
        """Partition -> the offset up to which everything was handled, by whichever replica."""
        ...


class ActivitiesOfContacts(Protocol):
    async def to_forget(self, contact_ids: Iterable[str]) -> list[str]:
        """Ids of all activities of these contacts that may still say what was said."""
        ...


class DueActivities(Protocol):
    async def due(
        self, buckets: Iterable[int], now: datetime, limit: int, released: Sequence[str]
    ) -> list[Activity]:
        """Scheduled activities whose time has come, the urgent first, and then by time.

        released: items of the catalogue that hold nothing back any longer.
        """
        ...

    async def set_aside(self, activity_id: str, version: object) -> None:
        """It is due no more until somebody has mended what is wrong with it, unless it changed meanwhile."""
        ...
