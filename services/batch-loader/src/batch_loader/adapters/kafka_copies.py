"""How far the copies are with the topics that feed them. One that another replica reads is here as well:
only what the group committed tells of its progress, and that is committed after it was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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
        return await self._read(sorted(copies), {})

    async def look_again(self, reading: Reading) -> Reading:
        return await self._read(list(reading.behind), reading.ends)

    async def _read(self, asked: Sequence[Copy], ends: Mapping[Copy, Mapping[int, int]]) -> Reading:
        async with self._asking():
            found = await asyncio.gather(*(self._offsets[copy].both() for copy in asked))
        wanted, behind = dict(ends), {}
        for copy, (published, handled) in zip(asked, found, strict=True):
            wanted[copy] = still_there(ends.get(copy, published), published)
            if left := left_to_read(wanted[copy], published, handled):
                behind[copy] = left
        return Reading(wanted, behind)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            yield
        except (KafkaError, OSError, TimeoutError) as error:
            raise NoAnswer(await why_away(self._servers, error)) from error


def still_there(ends: Mapping[int, int], published: Mapping[int, int]) -> dict[int, int]:
    """A topic that was made anew, or has lost its end with its broker, never gets to where it ended."""
    return {place: min(end, published.get(place, 0)) for place, end in ends.items()}


def left_to_read(ends: Mapping[int, int], published: Mapping[int, int], handled: Mapping[int, int]) -> int:
    """Messages before these ends. More than was published was handled of an earlier topic of that name."""
    left = 0
    for place, end in ends.items():
        reached = handled.get(place, 0)
        left += max(end - (reached if reached <= published.get(place, 0) else 0), 0)
    return left
