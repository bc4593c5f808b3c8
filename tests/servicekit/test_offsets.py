"""How far a group is, asked of a real broker."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.message import Topic
from servicekit.offsets import Offsets
from servicekit.topics import Topics
from tests.engines import Engines
from tests.kit import Wire


async def test_it_knows_how_far_everybody_is(engines: Engines, wire: Wire, namespace: str) -> None:
    await Topics(engines.kafka, wire.namespace).create([Topic("words", partitions=3)])
    topic = f"{wire.namespace}.words"
    offsets = Offsets(engines.kafka, topic, f"{namespace}readers")
    assert await offsets.published() == await offsets.handled() == {0: 0, 1: 0, 2: 0}

    for number in range(12):
        await wire.publish_raw("words", b"{}", f"key-{number}".encode())
    published = await offsets.published()
    assert sum(published.values()) == 12
    assert await offsets.handled() == {0: 0, 1: 0, 2: 0}

    reader = AIOKafkaConsumer(
        bootstrap_servers=engines.kafka, group_id=f"{namespace}readers", enable_auto_commit=False
    )
    await reader.start()
    first = TopicPartition(topic, 0)
    reader.assign([first])
    await reader.commit({first: published[0]})
    await reader.stop()
    assert await offsets.handled() == {0: published[0], 1: 0, 2: 0}
    assert await offsets.both() == (published, {0: published[0], 1: 0, 2: 0})
