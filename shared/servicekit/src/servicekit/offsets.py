"""How far a consumer group is with a topic, as the broker knows it: the work of every replica together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer

from servicekit.topics import partitions_of


class Offsets:
    """Asks anew each time, over a connection of its own: for questions that are rare. Takes part in no group.

    Raises KafkaError while the broker is away.
    """

    def __init__(self, servers: str, topic: str, group: str) -> None:
        self._servers = servers
        self._topic = topic
        self._group = group

    async def published(self) -> dict[int, int]:
        """Partition -> the offset behind its newest record."""
        async with self._looking() as consumer:
            ends = await consumer.end_offsets(list(consumer.assignment()))
        return {place.partition: end for place, end in ends.items()}

    async def handled(self) -> dict[int, int]:
        """Partition -> the offset up to which the group has handled everything."""
        async with self._looking() as consumer:
            places = list(consumer.assignment())
            committed = {place: await consumer.committed(place) for place in places}
            # Nothing was committed where nothing was read; what went with the retention will not be either.
            unread = [place for place, offset in committed.items() if offset is None]
            starts = await consumer.beginning_offsets(unread) if unread else {}
        return {place.partition: max(committed[place] or 0, starts.get(place, 0)) for place in places}

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[AIOKafkaConsumer]:
        places = await partitions_of(self._servers, [self._topic])
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers, group_id=self._group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign(places)
            yield consumer
        finally:
            await consumer.stop()
