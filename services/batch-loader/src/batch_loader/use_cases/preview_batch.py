"""Whom a batch would find, before anything is loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from batch_loader.domain.audience import Candidate
from batch_loader.domain.choices import resolve_filters, resolve_subject
from batch_loader.domain.copies import Copy
from batch_loader.domain.filters import Filters
from batch_loader.domain.page import slot_of, why_not
from batch_loader.ports import Audience, CatalogReader, Copies, Example, NoAnswer, OpenActivities
from contracts.channels import NEED_AN_ADDRESS, PREFERENCE_OF_CHANNEL
from contracts.reasons import Skipped
from contracts.vocabulary import BatchId, SubjectId
from servicekit.clock import Clock

_SAMPLE = 10
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Preview:
    count: int
    """Contacts that the filters find."""
    selected: int
    """The same, but no more than the limit."""
    skipped: dict[str, int]
    """Of `count`, those that would be passed over for reasons that are known beforehand."""
    looked_at: int | None
    """How many of `count` were looked at for an open activity; None if no subject was given."""
    sample: list[Example]
    as_of: datetime
    behind: int | None
    """Messages that might change this and are still to be read; None if Kafka did not say."""


class PreviewBatch:
    def __init__(
        self,
        audience: Audience,
        open_activities: OpenActivities,
        catalog: CatalogReader,
        copies: Copies,
        clock: Clock,
        page_size: int,
        looking_seconds: float = 5.0,
    ) -> None:
        """looking_seconds: after that many no further contacts are looked at one by one."""
        self._audience = audience
        self._open_activities = open_activities
        self._catalog = catalog
        self._copies = copies
        self._clock = clock
        self._page_size = page_size
        self._looking_seconds = looking_seconds

    async def __call__(
        self, filters: Filters, channel: str | None, subject: str | None, loading: BatchId | None = None
    ) -> Preview:
        """subject: nobody gets an activity who has an open one of it; None if that does not matter.
        loading: the batch, if its load has begun and not ended: who has an activity of it is no duplicate.

        Raises UnknownItem.
        """
        catalog = await self._catalog()
        filters = resolve_filters(filters, catalog)
        subject_id = None if subject is None else resolve_subject(subject, catalog)
        as_of = self._clock.now()
        behind = await self._behind(filters, subject_id)
        count = await self._audience.count(filters, as_of)
        skipped = await self._skipped(filters, channel, as_of)
        looked_at = None
        if subject_id is not None:
            looked_at, duplicates = await self._duplicates(filters, channel, subject_id, loading, as_of)
            skipped |= {Skipped.DUPLICATE.value: duplicates} if duplicates else {}
        return Preview(
            count=count,
            selected=filters.capped(count),
            skipped=skipped,
            looked_at=looked_at,
            sample=await self._sample(filters, channel, subject_id, loading, as_of),
            as_of=as_of,
            behind=behind,
        )

    async def _behind(self, filters: Filters, subject_id: SubjectId | None) -> int | None:
        """Before anything is counted, so that what counts as read is counted."""
        copies: frozenset[Copy] = filters.copies | (frozenset() if subject_id is None else {"activities"})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reading = await self._copies.look(copies)
        except (NoAnswer, TimeoutError):
            return None
        return sum(reading.behind.values())

    async def _skipped(self, filters: Filters, channel: str | None, as_of: datetime) -> dict[str, int]:
        preference = None if filters.include_opted_out else PREFERENCE_OF_CHANNEL.get(channel or "")
        skipped = {}
        if preference:
            skipped[Skipped.OPTED_OUT.value] = await self._audience.count_without(
                filters, as_of, preference=preference
            )
        if channel in NEED_AN_ADDRESS:
            skipped[Skipped.NO_ADDRESS.value] = await self._audience.count_without(
                filters, as_of, preference=preference, address=channel
            )
        return {reason: count for reason, count in skipped.items() if count}

    async def _duplicates(
        self,
        filters: Filters,
        channel: str | None,
        subject_id: SubjectId,
        loading: BatchId | None,
        as_of: datetime,
    ) -> tuple[int, int]:
        """How many were looked at, page by page as a load does, and how many of them are duplicates."""
        until = time.monotonic() + self._looking_seconds
        looked_at = duplicates = 0
        after = None
        while True:
            page = await self._audience.page(filters, as_of, after, self._page_size)
            reasons = await self._why_not(page, filters, channel, subject_id, loading)
            looked_at += len(page)
            duplicates += reasons.count(Skipped.DUPLICATE)
            if len(page) < self._page_size or time.monotonic() >= until:
                return looked_at, duplicates
            after = page[-1].contact_id

    async def _sample(
        self,
        filters: Filters,
        channel: str | None,
        subject_id: SubjectId | None,
        loading: BatchId | None,
        as_of: datetime,
    ) -> list[Example]:
        size = filters.capped(_SAMPLE)
        page = await self._audience.page(filters, as_of, None, size)
        reasons = await self._why_not(page, filters, channel, subject_id, loading)
        of = {each.contact_id: reason for each, reason in zip(page, reasons, strict=True)}
        sample = await self._audience.sample(filters, as_of, size)
        return [replace(each, skipped=of.get(each.contact_id)) for each in sample]

    async def _why_not(
        self,
        page: Sequence[Candidate],
        filters: Filters,
        channel: str | None,
        subject_id: SubjectId | None,
        loading: BatchId | None,
    ) -> list[Skipped | None]:
        slots = [] if subject_id is None else [slot_of(each.contact_id, subject_id) for each in page]
        taken = await self._open_activities.taken(slots, loading) if slots else frozenset()
        busy = [slot in taken for slot in slots] or [False] * len(page)
        return [why_not(each, filters, channel, is_busy) for each, is_busy in zip(page, busy, strict=True)]
