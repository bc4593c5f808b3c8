"""Batches of records as they go over the wire, and what no client library would send."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tests.engines import Engines

GZIP, NO_CODEC = 1, 5
_BASE_OFFSET, _CRC, _ATTRIBUTES = 0, 17, 21


def packed(records: Sequence[tuple[bytes, bytes, list[Any]]], base: int = 0, codec: int = GZIP) -> bytes:
    """A record batch as it goes over the wire; with a right checksum, whatever the codec is said to be."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=GZIP,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2**20,
    )
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, timestamp=1_800_000_000_000, key=key, value=value, headers=headers)
    batch = bytearray(builder.build())
    struct.pack_into(">q", batch, _BASE_OFFSET, base)
    attributes: int = struct.unpack_from(">h", batch, _ATTRIBUTES)[0]
    struct.pack_into(">h", batch, _ATTRIBUTES, attributes & ~7 | codec)
    struct.pack_into(">I", batch, _CRC, calc_crc32c(bytes(batch[_ATTRIBUTES:])))
    return bytes(batch)


async def put(engines: Engines, partition: TopicPartition, batch: bytes) -> None:
    """As no client library would: byte for byte. Raises what the broker answers."""
    client = AIOKafkaClient(bootstrap_servers=engines.kafka)
    await client.bootstrap()
    try:
        await client.set_topics([partition.topic])
        leader = client.cluster.leader_for_partition(partition)
        asked = ProduceRequest(None, -1, 5000, [(partition.topic, [(partition.partition, batch)])])
        answer = await client.send(leader, asked)
    finally:
        await client.close()
    ((_, ((_, code, *_),)),) = answer.topics
    if code:
        raise for_code(code)
