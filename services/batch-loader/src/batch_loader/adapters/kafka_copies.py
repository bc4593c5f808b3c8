"""How far the copies are with the topics that feed them. One that another replica reads is here as well:
only what the group committed tells of its progress, and that is committed after it was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from batch_loader.domain.copies import Copy
from batch_loader.ports import NoAnswer, Reading
from servicekit.brokers import why_away
from servicekit.bus import Subscription
from servicekit.offsets import Offsets


class KafkaCopies:
    def __init__(self, servers: str, fed_by: Mapping[Copy, Subscription]) -> None:
        self._servers = servers
        self._offsets = {copy: Offsets(servers, each.topic, each.group) for copy, each in fed_by.items()}

    async def look(self, copies: Iterable[Copy]) -> Reading:
        asked = sorted(copies)
        async with self._asking():
            found = await asyncio.gather(*(self._offsets[copy].both() for copy in asked))
        ends = {copy: published for copy, (published, _) in zip(asked, found, strict=True)}
        return _reading(ends, {copy: handled for copy, (_, handled) in zip(asked, found, strict=True)})

    async def look_again(self, reading: Reading) -> Reading:
        asked = list(reading.behind)
        async with self._asking():
            found = await asyncio.gather(*(self._offsets[copy].both() for copy in asked))
        ends = dict(reading.ends)
        for copy, (published, _) in zip(asked, found, strict=True):
            # A topic that was made anew, or has lost its end with its broker, never gets there.
            ends[copy] = {place: min(end, published.get(place, 0)) for place, end in ends[copy].items()}
        return _reading(ends, {copy: handled for copy, (_, handled) in zip(asked, found, strict=True)})

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            yield
        except (KafkaError, OSError, TimeoutError) as error:
            raise NoAnswer(await why_away(self._servers, error)) from error


def _reading(ends: Mapping[Copy, Mapping[int, int]], handled: Mapping[Copy, Mapping[int, int]]) -> Reading:
    left = {
        copy: sum(max(end - places.get(partition, 0), 0) for partition, end in ends[copy].items())
        for copy, places in handled.items()
    }
    return Reading(ends, {copy: count for copy, count in left.items() if count})
