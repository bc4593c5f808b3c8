"""Reading a whole topic once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from cli.found import Parley
from cli.line.chosen_engines import no_broker
from servicekit.fetching import UnreadableRecord, read_whatever_comes
from servicekit.topics import partitions_of


def for_each_record(parley: Parley, topic: str, take: Callable[[Any], None]) -> bool:
    """Everything in the topic now that can be unpacked; records of one key in their order.

    Returns whether that is everything there ever was: a topic that is kept for days forgets its beginning.
    """
    name = f"{parley.namespace}.{topic}" if parley.namespace else topic

    async def read() -> bool:
        async with _consumer(parley) as consumer:
            places = await partitions_of(parley.kafka_bootstrap_servers, [name])
            if not places:
                return True
            consumer.assign(places)
            whole = not any((await consumer.beginning_offsets(places)).values())
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        if not isinstance(record, UnreadableRecord):
                            take(record)
            return whole

    try:
        return asyncio.run(read())
    except (KafkaError, OSError) as error:
        raise no_broker(parley.kafka_bootstrap_servers) from error


@asynccontextmanager
async def _consumer(parley: Parley) -> AsyncIterator[AIOKafkaConsumer]:
    # Where to begin is said once: a seek beside the consumer's own first look can lose against it.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=parley.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level=parley.isolation,
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        read_whatever_comes(consumer)
        yield consumer
    finally:
        await consumer.stop()
