"""Whom a batch would find, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from batch_loader.domain.choices import resolve_filters
from batch_loader.domain.filters import Filters
from batch_loader.ports import Audience, CatalogReader, Example
from contracts.channels import NEED_AN_ADDRESS, PREFERENCE_OF_CHANNEL
from contracts.reasons import Skipped
from servicekit.clock import Clock

_SAMPLE = 10


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


class PreviewBatch:
    def __init__(self, audience: Audience, catalog: CatalogReader, clock: Clock) -> None:
        self._audience = audience
        self._catalog = catalog
        self._clock = clock

    async def __call__(self, filters: Filters, channel: str | None) -> Preview:
        """Raises UnknownItem."""
        filters = resolve_filters(filters, await self._catalog())
        as_of = self._clock.now()
        count = await self._audience.count(filters, as_of)
        return Preview(
            count=count,
            selected=filters.capped(count),
            skipped=await self._skipped(filters, channel, as_of),
            sample=await self._audience.sample(filters, as_of, filters.capped(_SAMPLE)),
            as_of=as_of,
        )

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
