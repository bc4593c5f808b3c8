"""The engines do what Parley relies on, and say clearly when they cannot."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import AsyncMongoClient, MongoClient

from cli.engines import (
    DataDirectoryInUse,
    DiskFull,
    EmbeddedEngines,
    EngineDidNotStart,
    EngineDied,
    PortTaken,
)
from cli.engines.database import EmbeddedDatabase
from cli.engines.ports import choose
from cli.engines.process import EngineProcess
from tests.engines import Engines
from tests.engines.choice import database_kind


@asynccontextmanager
async def producer(bootstrap_servers: str) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def member(bootstrap_servers: str, topic: str, name: str) -> AsyncIterator[AIOKafkaConsumer]:
    client = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=f"{topic}-group",
        group_instance_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def create_topic(bootstrap_servers: str, topic: str, partitions: int = 3) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


async def take(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    taken: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(taken) < count and time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            taken += [record.value for record in records]
    return taken


async def test_a_static_member_takes_everything_produced_and_goes_on_after_what_it_committed(
    engines: Engines, namespace: str
) -> None:
    topic = f"{namespace}greetings"
    await create_topic(engines.kafka, topic)
    async with producer(engines.kafka) as sender:
        for number in range(100):
            await sender.send(topic, f"{number}".encode(), key=f"{number % 7}".encode())
        await sender.flush()
        async with member(engines.kafka, topic, "first") as consumer:
            assert sorted(map(int, await take(consumer, 100))) == list(range(100))
            await consumer.commit()
        await sender.send_and_wait(topic, b"later", key=b"1")
        async with member(engines.kafka, topic, "first") as consumer:
            assert await take(consumer, 1) == [b"later"]


@pytest.mark.kafka_groups
async def test_dynamic_members_share_the_partitions(engines: Engines, namespace: str) -> None:
    topic = f"{namespace}shared"
    await create_topic(engines.kafka, topic, partitions=4)
    consumers = [
        AIOKafkaConsumer(topic, bootstrap_servers=engines.kafka, group_id=f"{topic}-group") for _ in range(2)
    ]
    for consumer in consumers:
        await consumer.start()
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for consumer in consumers:
                await consumer.getmany(timeout_ms=100)
            if [len(consumer.assignment()) for consumer in consumers] == [2, 2]:
                break
        assert [len(consumer.assignment()) for consumer in consumers] == [2, 2]
    finally:
        for consumer in consumers:
            await consumer.stop()


async def test_a_transaction_leaves_all_of_its_writes_or_none(engines: Engines, namespace: str) -> None:
    client = AsyncMongoClient[dict[str, Any]](engines.mongo)
    database = client[f"{namespace}ledger"]
    try:
        async with client.start_session() as session:
            async with await session.start_transaction():
                await database.rows.insert_one({"_id": 1}, session=session)
                await database.counters.insert_one({"_id": "rows", "count": 1}, session=session)
            with pytest.raises(LookupError):  # noqa: PT012 (the transaction is what must not survive)
                async with await session.start_transaction():
                    await database.rows.insert_one({"_id": 2}, session=session)
                    raise LookupError
        assert [row["_id"] async for row in database.rows.find()] == [1]
    finally:
        await client.close()


HALF_A_TRANSACTION = """
import os, signal, sys
from pymongo import MongoClient
client = MongoClient(sys.argv[1])
session = client.start_session()
session.start_transaction()
client[sys.argv[2]].rows.update_one({"_id": 1}, {"$set": {"by": "killed"}}, session=session)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(database_kind() == "external", reason="how long is a setting of that database")
def test_what_a_killed_process_left_half_written_is_given_up_in_seconds(
    engines: Engines, namespace: str
) -> None:
    with MongoClient[dict[str, Any]](engines.mongo) as client:
        rows = client[f"{namespace}half"].rows
        rows.insert_one({"_id": 1, "by": "nobody"})
        command = [sys.executable, "-c", HALF_A_TRANSACTION, engines.mongo, f"{namespace}half"]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        began = time.monotonic()
        # Outside a transaction the server waits for the lock instead of refusing.
        rows.update_one({"_id": 1}, {"$set": {"by": "the next"}})
        assert time.monotonic() - began < 40
        assert [row["by"] for row in rows.find()] == ["the next"]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    assert [found for found in psutil.process_iter() if _works_on(found, tmp_path)] == []


def _works_on(process: psutil.Process, directory: Path) -> bool:
    try:
        return any(str(directory) in argument for argument in process.cmdline()[1:])
    except psutil.Error:
        return False


async def test_a_restart_on_other_ports_keeps_topics_and_documents(data_dir: Path) -> None:
    with EmbeddedEngines(data_dir) as engines:
        first = engines.endpoints
        await create_topic(first.bootstrap_servers, "kept")
        async with producer(first.bootstrap_servers) as sender:
            await sender.send_and_wait("kept", b"message", key=b"key")
        with MongoClient[dict[str, Any]](first.mongo_url) as client:
            client.kept.rows.insert_one({"_id": 1})

    with EmbeddedEngines(data_dir) as engines:
        second = engines.endpoints
        assert first.bootstrap_servers != second.bootstrap_servers
        assert first.mongo_url != second.mongo_url
        async with member(second.bootstrap_servers, "kept", "reader") as consumer:
            assert await take(consumer, 1) == [b"message"]
        with MongoClient[dict[str, Any]](second.mongo_url) as client:
            assert client.kept.rows.count_documents({}) == 1


def test_a_second_start_on_the_same_directory_is_refused_and_disturbs_nothing(data_dir: Path) -> None:
    with EmbeddedEngines(data_dir) as engines:
        with pytest.raises(DataDirectoryInUse, match=rf"process {os.getpid()}\) is running on {data_dir}"):
            EmbeddedEngines(data_dir).start()
        engines.check()


@pytest.mark.parametrize(("option", "engine"), [("kafka_port", "broker"), ("mongo_port", "database")])
def test_a_taken_port_is_named_and_nothing_stays_running(data_dir: Path, option: str, engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} for the {engine} is taken"):
            EmbeddedEngines(data_dir, **{option: port}).start()
    with EmbeddedEngines(data_dir, **{option: port}) as engines:
        engines.check()


def test_an_engine_that_died_is_noticed(data_dir: Path) -> None:
    with EmbeddedEngines(data_dir) as engines:
        assert engines.broker.process.pid is not None
        os.kill(engines.broker.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        with pytest.raises(EngineDied, match="The embedded broker ended by itself with code -9"):  # noqa: PT012
            while time.monotonic() < deadline:
                engines.check()
    with EmbeddedEngines(data_dir) as engines:
        engines.check()


def test_an_engine_that_died_of_a_full_disk_says_so(data_dir: Path) -> None:
    program = EngineProcess("database", data_dir / "database")
    program.start([sys.executable, "-c", "raise SystemExit('write: No space left on device')", str(data_dir)])
    deadline = time.monotonic() + 10
    with pytest.raises(EngineDied, match=r"ended by itself with code 1: the disk is full \(its log: "):  # noqa: PT012
        while time.monotonic() < deadline:
            program.check()
    program.stop()


def test_a_program_that_cannot_load_its_libraries_says_which_package_is_missing(data_dir: Path) -> None:
    engines = EmbeddedEngines(data_dir)
    complaint = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    engines.database.process.start(["sh", "-c", f"echo '{complaint}'; exit 127"])
    with pytest.raises(EngineDidNotStart, match="apt-get install libcurl4"):
        engines.database.process.wait_until(lambda: False, "it did not answer", timeout=5)
    engines.stop()


def test_too_little_room_is_told_before_anything_is_written(data_dir: Path) -> None:
    with pytest.raises(DiskFull, match=rf"MiB are free on the disk of {data_dir}, and the engines need"):
        EmbeddedEngines(data_dir, least_free=2**60).start()
    assert not data_dir.exists()


BREAKS_OFF = """#!{python}
import socketserver, struct, sys
import bson

OP_MSG = 2013

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

class Client(socketserver.StreamRequestHandler):
    def handle(self):
        while header := self.rfile.read(16):
            length, request, _, _ = struct.unpack("<iiii", header)
            if b"replSetGetConfig" in self.rfile.read(length - 16):
                print("No space left on device", flush=True)
                self.server.shutdown()
                return
            answer = bson.encode({{"ok": 1.0, "isWritablePrimary": True, "maxWireVersion": 17}})
            body = struct.pack("<iB", 0, 0) + answer
            self.wfile.write(struct.pack("<iiii", 16 + len(body), 1, request, OP_MSG) + body)

Server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Client).serve_forever()
"""


def test_the_databases_log_does_not_show_what_is_written_slowly(data_dir: Path) -> None:
    database = EmbeddedDatabase(data_dir / "database", choose("database"))
    database.start()
    try:
        with MongoClient[dict[str, Any]](database.url) as client:
            client["people"].command("profile", 0, slowms=-1)  # everything is slow now
            client["people"]["contacts"].update_one(
                {"_id": 1}, {"$set": {"first_name": "Zebediah"}}, upsert=True
            )
    finally:
        database.stop()
    assert "Zebediah" not in (data_dir / "database.log").read_text()


def test_a_database_that_breaks_off_while_the_replica_set_is_formed_is_one_sentence(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "mongod"
    program.parent.mkdir()
    program.write_text(BREAKS_OFF.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    database = EmbeddedDatabase(data_dir / "database", choose("database"))
    try:
        with pytest.raises(
            EngineDidNotStart, match=r"did not start: the disk is full \(its log: .*database.log"
        ):
            database.start()
    finally:
        database.stop()


ABANDON = """
import os, signal, sys, threading
from pathlib import Path
from cli.engines import EmbeddedEngines
engines = EmbeddedEngines(Path(sys.argv[1]))
def start_and_die():
    engines.start()
    print(engines.broker.process.pid, engines.database.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
{run}
"""


def abandoned_engines(data_dir: Path, run: str) -> list[int]:
    parent = subprocess.run(
        [sys.executable, "-c", ABANDON.format(run=run), str(data_dir)], stdout=subprocess.PIPE, check=False
    )
    assert parent.returncode == -signal.SIGKILL
    return [int(pid) for pid in parent.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_engines_end_with_a_parent_that_was_killed(data_dir: Path) -> None:
    for pid in abandoned_engines(data_dir, "start_and_die()"):
        try:
            psutil.Process(pid).wait(timeout=20)
        except psutil.NoSuchProcess:
            continue


def test_engines_left_behind_are_stopped_by_the_next_start(data_dir: Path) -> None:
    run = "thread = threading.Thread(target=start_and_die); thread.start(); thread.join()"
    left_behind = abandoned_engines(data_dir, run)
    assert all(psutil.pid_exists(pid) for pid in left_behind)
    with EmbeddedEngines(data_dir) as engines:
        engines.check()
        assert not any(
            _works_on(psutil.Process(pid), data_dir) for pid in left_behind if psutil.pid_exists(pid)
        )
