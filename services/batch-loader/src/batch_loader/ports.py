"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from batch_loader.domain.audience import Candidate
from batch_loader.domain.batch import Batch
from batch_loader.domain.choices import Catalog
from batch_loader.domain.copies import Copy
from batch_loader.domain.filters import Filters
from contracts.activities import ActivityChanged
from contracts.reasons import Skipped
from contracts.vocabulary import BatchId, BatchState, ContactId


@dataclass(frozen=True, slots=True)
class Example:
    """A contact in a preview: recognisable, without personal data."""

    contact_id: ContactId
    contact_type: str
    time_zone: str | None
    phone: str | None
    """Masked."""
    skipped: Skipped | None = None
    """Why a load would pass it over now."""


class Audience(Protocol):
    """The searchable copy of contacts."""

    async def count(self, filters: Filters, as_of: datetime) -> int: ...

    async def count_without(
        self, filters: Filters, as_of: datetime, *, preference: str | None = None, address: str | None = None
    ) -> int:
        """Of those found: who opted out of something, and who did not but has no address for a channel."""
        ...

    async def page(
        self, filters: Filters, as_of: datetime, after: ContactId | None, size: int
    ) -> list[Candidate]: ...

    async def sample(self, filters: Filters, as_of: datetime, size: int) -> list[Example]: ...

    async def keep_last_completed(self, changes: Iterable[ActivityChanged]) -> int: ...


class OpenActivities(Protocol):
    """Which contact has an open activity of which subject."""

    async def taken(self, slots: Sequence[str], but_of: BatchId | None = None) -> frozenset[str]:
        """but_of: a batch whose own activities do not count."""
        ...

    async def keep(self, changes: Iterable[ActivityChanged]) -> int: ...

    async def not_yet_refused(self, batch_id: BatchId, activity_ids: Sequence[str]) -> list[str]: ...


class NoAnswer(Exception):
    """Kafka does not say how far the copies are; the text says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the copies are, all replicas together."""

    ends: Mapping[Copy, Mapping[int, int]]
    """Where the topic of each ended when it was first looked: partition -> offset."""
    behind: Mapping[Copy, int]
    """Messages before these ends that are still to be read; those copies only that have any."""


class Copies(Protocol):
    async def look(self, copies: Iterable[Copy]) -> Reading:
        """Raises NoAnswer."""
        ...

    async def look_again(self, reading: Reading) -> Reading:
        """How much is left to the same ends. Raises NoAnswer."""
        ...


class CatalogReader(Protocol):
    async def __call__(self) -> Catalog: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page before ended."""

    value: datetime | str
    """Of what the list is sorted by."""
    batch_id: BatchId


class Shelf(Protocol):
    """Batches to look through."""

    async def list(
        self, *, state: BatchState | None, sort: str, limit: int, after: Place | None
    ) -> Sequence[Batch]:
        """sort: `created_at` or `name`, with a leading `-` for the other way round."""
        ...

    async def loading(self) -> Sequence[BatchId]: ...
