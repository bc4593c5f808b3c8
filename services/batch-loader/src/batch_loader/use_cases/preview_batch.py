"""Whom a batch would find, before anything is loaded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from batch_loader.domain.choices import resolve_filters
from batch_loader.domain.filters import Filters
from batch_loader.ports import Audience, CatalogReader, Copies, Example, NoAnswer
from contracts.channels import NEED_AN_ADDRESS, PREFERENCE_OF_CHANNEL
from contracts.reasons import Skipped
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
    sample: list[Example]
    as_of: datetime
    behind: int | None
    """Messages that might change this and are still to be read; None if Kafka did not say."""


class PreviewBatch:
    def __init__(self, audience: Audience, catalog: CatalogReader, copies: Copies, clock: Clock) -> None:
        self._audience = audience
        self._catalog = catalog
        self._copies = copies
        self._clock = clock

    async def __call__(self, filters: Filters, channel: str | None) -> Preview:
        """Raises UnknownItem."""
        filters = resolve_filters(filters, await self._catalog())
        as_of = self._clock.now()
        behind = await self._behind(filters)
        count = await self._audience.count(filters, as_of)
        return Preview(
            count=count,
            selected=filters.capped(count),
            skipped=await self._skipped(filters, channel, as_of),
            sample=await self._audience.sample(filters, as_of, filters.capped(_SAMPLE)),
            as_of=as_of,
            behind=behind,
        )

    async def _behind(self, filters: Filters) -> int | None:
        """Before anything is counted, so that what counts as read is counted."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reading = await self._copies.look(filters.copies)
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
