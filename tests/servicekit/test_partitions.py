"""Whoever publishes about a contact reaches the same partition, or what is said of it has no order."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest

from contracts.catalogue import dead_letters_of
from contracts.message import Topic
from tests.kit import Wire
from tests.servicekit.conftest import SAID

HASHES = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""Murmur2 of keys as Kafka's own tests have it (org.apache.kafka.common.utils.UtilsTest)."""

KAFKAS = {key: (hash_ & 0x7FFFFFFF) % Topic("any").partitions for key, hash_ in HASHES.items()}

needs_kcat = pytest.mark.skipif(not shutil.which("kcat"), reason="needs kcat")


@pytest.fixture
async def said(wire: Wire) -> Wire:
    await wire.create_topics((SAID, dead_letters_of(SAID)))
    return wire


async def landed(wire: Wire) -> dict[str, int]:
    return {record.key.decode(): record.partition for record in await wire.records(SAID.name)}


async def tell_with_kcat(wire: Wire, *settings: str) -> None:
    told = [part for setting in settings for part in ("-X", setting)]
    await asyncio.to_thread(
        subprocess.run,
        ["kcat", "-P", "-b", wire.engines.kafka, "-t", wire.name(SAID.name), "-K", "=", *told],
        input="".join(f"{key}={{}}\n" for key in KAFKAS).encode(),
        check=True,
        timeout=60,
    )


async def test_our_keys_land_where_kafkas_default_partitioner_puts_them(said: Wire) -> None:
    for key in KAFKAS:
        await said.publish_raw(SAID.name, b"{}", key.encode())
    assert await landed(said) == KAFKAS


@needs_kcat
async def test_those_of_librdkafka_land_there_once_it_is_told(said: Wire) -> None:
    await tell_with_kcat(said, "partitioner=murmur2_random")
    assert await landed(said) == KAFKAS


@needs_kcat
async def test_those_of_librdkafka_land_elsewhere_by_default(said: Wire) -> None:
    await tell_with_kcat(said)
    assert (await landed(said)).keys() == KAFKAS.keys()
    assert await landed(said) != KAFKAS
