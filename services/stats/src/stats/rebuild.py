"""Rebuild everything from the beginning of the topics into a fresh database, and compare.

    parley-stats-rebuild --into rebuilt

reads the same settings as the service, writes the database `<namespace>-parley-stats-rebuilt`, publishes
nothing, and exits with 0 only if every target's numbers are the same there and in the live database. Topics
keep events for their retention; what is older than that is only in the live ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.channel_sms import InteractionRecorded
from contracts.contacts import ContactChanged
from contracts.message import Message
from contracts.stats import Recalculate
from servicekit.bus import all_messages
from servicekit.clock import clock_from
from servicekit.delivery import Delivery, Reader, Tombstone
from servicekit.logs import configure_logs
from servicekit.mongo import Mongo
from servicekit.pipeline import BatchHandler
from servicekit.settings import BadSettings
from stats.adapters.mongo_ledger import TARGETS
from stats.composition import Books
from stats.domain.counters import canonical
from stats.settings import Settings
from stats.use_cases.obey_commands import COMMANDS

log = structlog.get_logger()

_BATCH = 1000


async def rebuild(settings: Settings, fresh: Mongo) -> int:
    """Replays the topics into `fresh`, which should be empty; returns how many messages there were.

    Contacts first, because directions need their addresses; commands last, because their effect does not
    depend on what came before.
    """
    books = Books(settings, fresh, clock_from(settings.clock_file))
    await fresh.ensure_indexes(books.indexes)
    replayed = 0
    reads: Sequence[tuple[tuple[type[Message], ...], BatchHandler]] = (
        ((ContactChanged,), books.know_contacts),
        ((InteractionRecorded,), books.record_interactions),
        (COMMANDS, books.obey),
    )
    for messages, handler in reads:
        topic = settings.prefixed(messages[0].wire.topic.name)
        known = tuple(m for m in all_messages() if m.wire.topic.name == messages[0].wire.topic.name)
        read = Reader(messages, known)
        async for records in _everything(settings.kafka_bootstrap_servers, topic):
            deliveries = [
                delivery
                for delivery in map(read, records)
                if isinstance(delivery, Delivery | Tombstone) and not _recalculates(delivery)
            ]
            if deliveries:
                await handler(deliveries)
                replayed += len(deliveries)
        log.info("topic replayed", topic=topic, messages=replayed)
    await books.settle.settle()
    return replayed


def _recalculates(delivery: Any) -> bool:
    return isinstance(delivery, Delivery) and isinstance(delivery.message, Recalculate)


async def _everything(servers: str, topic: str) -> AsyncIterator[list[Any]]:
    """All records that are in the topic now, in batches, each partition in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        if not partitions:
            return
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        while [part for part in partitions if await consumer.position(part) < ends[part]]:
            batch = await consumer.getmany(timeout_ms=500, max_records=_BATCH)
            records = [record for found in batch.values() for record in found]
            if records:
                yield records
    finally:
        await consumer.stop()


async def differences(live: Mongo, fresh: Mongo) -> AsyncIterator[tuple[str, Any, Any]]:
    """(target, live numbers, rebuilt numbers) for every target that is not the same in both."""
    ours, theirs = _numbers(live), _numbers(fresh)
    one, other = await anext(ours, None), await anext(theirs, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], one[1], {}
            one = await anext(ours, None)
        elif one is None or other[0] < one[0]:
            yield other[0], {}, other[1]
            other = await anext(theirs, None)
        else:
            if one[1] != other[1]:
                yield one[0], one[1], other[1]
            one, other = await anext(ours, None), await anext(theirs, None)


async def _numbers(mongo: Mongo) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    async for row in mongo[TARGETS].find({}, {"channels": 1}).sort("_id", 1):
        if numbers := canonical(row.get("channels")):
            yield row["_id"], numbers


async def rebuild_and_compare(settings: Settings, into: str) -> int:
    """How many targets differ; writes one line for each of the first hundred."""
    live = Mongo(settings.mongo_url, settings.database("stats"), settings.mongo_driver)
    fresh = Mongo(settings.mongo_url, settings.database(f"stats-{into}"), settings.mongo_driver)
    try:
        if await fresh[TARGETS].find_one() is not None:
            raise BadSettings(f"the database {settings.database(f'stats-{into}')} is not empty")
        replayed = await rebuild(settings, fresh)
        count = 0
        async for target, ours, theirs in differences(live, fresh):
            count += 1
            if count <= 100:
                sys.stdout.write(f"{target}: live {dict(ours)} rebuilt {dict(theirs)}\n")
        sys.stdout.write(f"{replayed} messages replayed, {count} targets differ\n")
        return count
    finally:
        await live.close()
        await fresh.close()


def run() -> None:
    parser = argparse.ArgumentParser("parley-stats-rebuild", description=__doc__)
    parser.add_argument("--into", default="rebuilt", help="last part of the name of the fresh database")
    into = parser.parse_args().into
    try:
        settings = Settings.from_environment()
        configure_logs("stats", settings.instance, settings.log_format, settings.log_level)
        sys.exit(1 if asyncio.run(rebuild_and_compare(settings, into)) else 0)
    except BadSettings as wrong:
        sys.stderr.write(f"parley-stats-rebuild: {wrong}\n")
        sys.exit(78)
