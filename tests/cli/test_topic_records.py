"""A topic is read whole, from its first record, each time."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import BrokerResponseError

from cli.found import Parley
from cli.topic_records import for_each_record
from contracts.message import Topic
from tests.batches import NO_CODEC, packed, put
from tests.engines import Engines
from tests.kit import Wire

TOPIC = Topic("words")


async def test_every_reading_begins_at_the_beginning(engines: Engines, wire: Wire) -> None:
    await wire.create_topics([TOPIC])
    for number in range(24):
        await wire.publish_raw(TOPIC.name, b"word", key=str(number).encode())
    parley = Parley({}, engines.kafka, wire.namespace)
    for _ in range(5):
        found: list[object] = []
        await asyncio.to_thread(for_each_record, parley, TOPIC.name, found.append)
        assert len(found) == 24


async def test_what_nobody_can_unpack_is_passed_over(engines: Engines, wire: Wire) -> None:
    await wire.create_topics([TOPIC])
    for number in range(24):
        await wire.publish_raw(TOPIC.name, b"word", key=str(number).encode())
    try:
        broken = packed([(b"k", b"lost", [])], codec=NO_CODEC)
        await put(engines, TopicPartition(wire.name(TOPIC.name), 5), broken)
    except BrokerResponseError as refused:
        pytest.skip(f"this broker looks into what it is given: {refused!r}")
    for number in range(24):
        await wire.publish_raw(TOPIC.name, b"more", key=str(number).encode())
    found: list[object] = []
    parley = Parley({}, engines.kafka, wire.namespace)
    assert await asyncio.to_thread(for_each_record, parley, TOPIC.name, found.append)
    assert len(found) == 48
