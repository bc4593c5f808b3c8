"""Rebuild everything from the beginning of the topics into a fresh database, and compare.

    parley-stats-rebuild --into rebuilt

reads the same settings as the service, writes the database `<namespace>-parley-stats-rebuilt`, publishes
nothing, and exits with 0 only if every ledger row, every target's numbers, every report cell and every
verdict are the same, byte for byte, there and in the live database. Topics keep events for their retention;
what is older than that is only in the live ledger, and of a contact's addresses the compacted topic has only
the newest.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from heapq import heappop, heappush
from typing import Any

import bson
import orjson
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.activities import ActivityChanged, ActivityCompleted, ActivityDecided
from contracts.channel_sms import InteractionRecorded
from contracts.contacts import ContactChanged
from contracts.message import Message
from contracts.stats import Recalculate, SetCounting
from servicekit.bus import all_messages
from servicekit.clock import clock_from
from servicekit.delivery import Delivery, Reader, Tombstone
from servicekit.fetching import read_whatever_comes
from servicekit.logs import configure_logs
from servicekit.metrics import Metrics
from servicekit.mongo import Mongo
from servicekit.settings import BadSettings
from servicekit.topics import partitions_of
from stats.adapters.mongo_cells import AGENT_CELLS, CELLS
from stats.adapters.mongo_ledger import LEDGER, TARGETS
from stats.composition import Books
from stats.domain.counters import canonical
from stats.domain.reports import Cell, DecisionCell
from stats.settings import Settings
from stats.use_cases import record_decisions
from stats.use_cases.obey_commands import COMMANDS
from stats.use_cases.record_activities import RecordActivities

log = structlog.get_logger()

_BATCH = 1000
_FETCH = 500


class MissingTopics(Exception):
    """What is to be replayed does not exist."""


async def rebuild(settings: Settings, fresh: Mongo) -> int:
    """Replays the topics into `fresh`, which should be empty; returns how many messages there were.

    Contacts first, because directions need their addresses. Interactions and commands in the order of their
    times, because what counted before a command came may count differently after it.
    """
    books = Books(settings, fresh, clock_from(settings.clock_file))
    await fresh.ensure_indexes(books.indexes)

    async def obey(deliveries: Sequence[Any]) -> None:
        for delivery in deliveries:
            if isinstance(delivery.message, Recalculate):
                continue
            await books.obey([delivery])
            if isinstance(delivery.message, SetCounting):
                # The background would have caught up before the next command.
                await books.settle.settle()

    replayed = 0
    for reads in (
        (((ContactChanged,), books.know_contacts),),
        (((InteractionRecorded,), books.record_interactions[0]), (COMMANDS, obey)),
        (((ActivityChanged,), RecordActivities("activities", fresh, settings.instance, Metrics())),),
        (((ActivityCompleted,), RecordActivities("completions", fresh, settings.instance, Metrics())),),
        (((ActivityDecided,), books.record_decisions),),
    ):
        replayed += await _replay(settings, reads)
    await books.settle.settle()
    return replayed


Handler = Callable[[Sequence[Any]], Awaitable[object]]
Reads = Sequence[tuple[tuple[type[Message], ...], Handler]]


async def _replay(settings: Settings, reads: Reads) -> int:
    """Topics together, as if they were one; each handler gets what follows one another in a batch."""
    handlers: dict[str, Handler] = {}
    readers: dict[str, Reader] = {}
    for messages, handler in reads:
        topic = messages[0].wire.topic
        known = tuple(m for m in all_messages() if m.wire.topic.name == topic.name)
        name = settings.prefixed(topic.name)
        handlers[name], readers[name] = handler, Reader(messages, known)
    replayed = 0
    waiting: list[Any] = []
    topic_of_waiting = ""
    async for record in _everything(settings, list(handlers)):
        if waiting and (record.topic != topic_of_waiting or len(waiting) == _BATCH):
            await handlers[topic_of_waiting](waiting)
            waiting = []
        topic_of_waiting = record.topic
        delivery = readers[record.topic](record)
        if isinstance(delivery, Delivery | Tombstone):
            waiting.append(delivery)
            replayed += 1
    if waiting:
        await handlers[topic_of_waiting](waiting)
    log.info("topics replayed", topics=list(handlers), messages=replayed)
    return replayed


async def _everything(settings: Settings, topics: Sequence[str]) -> AsyncIterator[Any]:
    """All records that are in the topics now, by time; those of a partition stay in their order."""
    servers = settings.kafka_bootstrap_servers
    found = await partitions_of(servers, topics)
    if missing := set(topics) - {partition.topic for partition in found}:
        raise MissingTopics(f"There are no topics {', '.join(sorted(missing))} on {servers}.")
    partitions = sorted(found, key=lambda partition: (topics.index(partition.topic), partition.partition))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, auto_offset_reset="earliest", isolation_level=settings.kafka_isolation
    )
    await consumer.start()
    read_whatever_comes(consumer)
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        # At equal times the earlier of `topics` comes first.
        heads: list[tuple[int, int, deque[Any]]] = []
        for place, partition in enumerate(partitions):
            if records := await _some(consumer, partition, ends[partition]):
                heappush(heads, (records[0].timestamp, place, records))
        while heads:
            time, place, records = heappop(heads)
            yield records.popleft()
            if not records:
                records = await _some(consumer, partitions[place], ends[partitions[place]])
            if records:
                heappush(heads, (max(time, records[0].timestamp), place, records))
    finally:
        await consumer.stop()


async def _some(consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> deque[Any]:
    """The next records of a partition; none at its end."""
    while await consumer.position(partition) < end:
        found = await consumer.getmany(partition, timeout_ms=500, max_records=_FETCH)
        if records := deque(record for record in found.get(partition, ()) if record.offset < end):
            return records
    return deque()


Part = tuple[str, bytes]
"""What it is, and its bytes."""


async def differences(live: Mongo, fresh: Mongo) -> AsyncIterator[tuple[str, Any, Any]]:
    """(what, live, rebuilt) for every target, ledger row and report cell that is not the same in both."""
    for parts in (_numbers, _rows, _report_cells, _agent_cells, _decisions, _decision_cells):
        async for what, ours, theirs in _unlike(parts(live), parts(fresh)):
            yield what, _readable(ours), _readable(theirs)


async def _unlike(
    live: AsyncIterator[Part], fresh: AsyncIterator[Part]
) -> AsyncIterator[tuple[str, bytes | None, bytes | None]]:
    one, other = await anext(live, None), await anext(fresh, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], one[1], None
            one = await anext(live, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = await anext(fresh, None)
        else:
            if one[1] != other[1]:
                yield one[0], one[1], other[1]
            one, other = await anext(live, None), await anext(fresh, None)


def _readable(part: bytes | None) -> dict[str, Any]:
    return {} if part is None else dict(bson.decode(part))


async def _numbers(mongo: Mongo) -> AsyncIterator[Part]:
    async for row in mongo[TARGETS].find({}, {"channels": 1}).sort("_id", 1):
        if numbers := canonical(row.get("channels")):
            yield row["_id"], bson.encode(numbers)


async def _rows(mongo: Mongo) -> AsyncIterator[Part]:
    async for row in mongo[LEDGER].find({}).sort("_id", 1):
        yield f"ledger row {row['_id']}", bson.encode(dict(sorted(row.items())))


async def _decisions(mongo: Mongo) -> AsyncIterator[Part]:
    async for row in mongo[record_decisions.DECISION_LEDGER].find({}).sort("_id", 1):
        yield f"decision {row['_id']}", bson.encode(dict(sorted(row.items())))


def _report_cells(mongo: Mongo) -> AsyncIterator[Part]:
    return _cells(mongo, CELLS, Cell, "report cell")


def _agent_cells(mongo: Mongo) -> AsyncIterator[Part]:
    return _cells(mongo, AGENT_CELLS, Cell, "agent cell")


def _decision_cells(mongo: Mongo) -> AsyncIterator[Part]:
    return _cells(mongo, record_decisions.DECISION_CELLS, DecisionCell, "decision cell")


async def _cells(
    mongo: Mongo, collection: str, cell: type[Cell | DecisionCell], what: str
) -> AsyncIterator[Part]:
    """Added up over the replicas that wrote them, without what is zero."""
    sums: dict[str, dict[str, int]] = {}
    async for row in mongo[collection].find({}):
        _, *parts = orjson.loads(row["_id"])
        numbers = sums.setdefault(str(list(cell(*parts))), {})
        for quarter, measures in row["quarters"].items():
            for measure, value in measures.items():
                name = f"{quarter}.{measure}"
                numbers[name] = numbers.get(name, 0) + value
    for cell_id in sorted(sums):
        if numbers := {name: value for name, value in sorted(sums[cell_id].items()) if value}:
            yield f"{what} {cell_id}", bson.encode(numbers)


async def rebuild_and_compare(settings: Settings, into: str) -> int:
    """How many differences there are; writes one line for each of the first hundred."""
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
                sys.stdout.write(f"{target}: live {ours} rebuilt {theirs}\n")
        sys.stdout.write(f"{replayed} messages replayed, {count} differences\n")
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
    except (BadSettings, MissingTopics) as wrong:
        sys.stderr.write(f"parley-stats-rebuild: {wrong}\n")
        sys.exit(78)
