"""A producer whose broker goes away leaves nothing behind that asyncio would complain of."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.engines import ports
from cli.engines.broker import EmbeddedBroker
from contracts.message import Topic
from servicekit.producer import Outgoing, Producer
from servicekit.topics import Topics
from tests.kit import eventually

SAID = Topic("word-said")
RECORDS = [Outgoing(SAID.name, str(n).encode(), b"word" * 1000, []) for n in range(300)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path, ports.choose("broker"))
    broker.start()
    yield broker
    broker.stop()


def kill(broker: EmbeddedBroker) -> None:
    broker.process.kill()


def freeze(broker: EmbeddedBroker) -> None:
    assert broker.process.pid
    os.kill(broker.process.pid, signal.SIGSTOP)


def thaw(broker: EmbeddedBroker) -> None:
    assert broker.process.pid
    os.kill(broker.process.pid, signal.SIGCONT)


@pytest.mark.asyncio(loop_scope="function")  # with a loop of its own every task is the producer's
@pytest.mark.parametrize(("away", "back"), [(kill, EmbeddedBroker.start), (freeze, thaw)])
async def test_a_broker_that_went_away_leaves_no_task_and_no_error_unread(
    broker: EmbeddedBroker,
    away: Callable[[EmbeddedBroker], None],
    back: Callable[[EmbeddedBroker], None],
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    await Topics(broker.bootstrap_servers).create([SAID])
    producer = Producer(broker.bootstrap_servers, "test")
    await producer.publish_all(RECORDS)
    before = asyncio.all_tasks()
    away(broker)
    cut_off = asyncio.create_task(asyncio.wait_for(producer.publish(RECORDS), 0.2))
    another = asyncio.create_task(producer.publish(RECORDS))
    assert all(await producer.publish(RECORDS, timeout=0.5))
    assert all(await another)
    with pytest.raises(TimeoutError):
        await cut_off
    back(broker)

    async def published() -> bool:
        return not any(await producer.publish(RECORDS, timeout=5))

    await eventually(published, "the broker to take records again")
    await producer.close()

    async def alone() -> bool:
        return not asyncio.all_tasks() - before

    await eventually(alone, "everything to end that was begun")
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
