"""How far a consumer group is with a topic, as the broker knows it: the work of every replica together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from servicekit.topics import partitions_of

_ANSWER_SECONDS = 10.0


class Offsets:
    """Over a connection of its own each time, for questions that are rare. Fetches nothing, and takes part in
    no group. Raises KafkaError or TimeoutError while the broker is away.
    """

    def __init__(self, servers: str, topic: str, group: str) -> None:
        self._servers = servers
        self._topic = topic
        self._group = group
        self._places: list[TopicPartition] = []

    async def published(self) -> dict[int, int]:
        """Partition -> the offset behind its newest record."""
        async with self._looking() as consumer:
            return await self._published(consumer)

    async def handled(self) -> dict[int, int]:
        """Partition -> the offset up to which the group has handled everything that is still there."""
        async with self._looking() as consumer:
            return await self._handled(consumer)

    async def both(self) -> tuple[dict[int, int], dict[int, int]]:
        """What was published, and what had been handled a moment before: never more, unless the topic was
        made anew. For the price of one connection."""
        async with self._looking() as consumer:
            handled = await self._handled(consumer)
            return await self._published(consumer), handled

    async def _published(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        ends = await consumer.end_offsets(self._places)
        return {place.partition: end for place, end in ends.items()}

    async def _handled(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        starts, *committed = await asyncio.gather(
            consumer.beginning_offsets(self._places), *map(consumer.committed, self._places)
        )
        return {
            place.partition: max(offset or 0, starts[place])
            for place, offset in zip(self._places, committed, strict=True)
        }

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with asyncio.timeout(_ANSWER_SECONDS):
            self._places = self._places or await partitions_of(self._servers, [self._topic])
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._servers, group_id=self._group, enable_auto_commit=False
            )
            try:
                await consumer.start()
                yield consumer
            finally:
                await consumer.stop()
