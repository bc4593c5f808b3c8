"""The broker and the database of a run: embedded, unless the environment names others."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError

from cli.engines import (
    DataDirectoryInUse,
    DiskFull,
    EmbeddedEngines,
    Endpoints,
    EngineError,
    EngineNotInstalled,
    NoDataDirectory,
    PortTaken,
    check_room,
    ports,
)
from cli.engines.broker import EmbeddedBroker
from cli.engines.database import EmbeddedDatabase
from cli.engines.lock import DataDirectoryLock
from cli.exits import Failure, Unavailable, WrongConfiguration
from contracts.catalogue import CHANNELS, topics
from servicekit.settings import MONGO_URL_RULE, BadSettings, brokers_named, without_login
from servicekit.topics import Topics, WrongTopics

_MENDED_BY_A_PERSON = (DataDirectoryInUse, NoDataDirectory, DiskFull, PortTaken, EngineNotInstalled)


class ChosenEngines:
    """`KAFKA_BOOTSTRAP_SERVERS` and `MONGO_URL` win, each for its engine; the rest is embedded."""

    def __init__(self, data_dir: Path, kafka_port: int | None, mongo_port: int | None) -> None:
        self._data_dir = data_dir
        self._kafka = chosen_brokers()
        self._mongo = os.environ.get("MONGO_URL", "")
        self._kafka_port, self._mongo_port = kafka_port, mongo_port
        self._stack = ExitStack()
        self._broker: EmbeddedBroker | None = None
        self._database: EmbeddedDatabase | None = None

    @property
    def kafka_port(self) -> int | None:
        return self._broker.port if self._broker else None

    @property
    def mongo_port(self) -> int | None:
        return self._database.port if self._database else None

    def pids(self) -> dict[str, int]:
        processes = {"broker": self._broker, "database": self._database}
        return {
            name: engine.process.pid for name, engine in processes.items() if engine and engine.process.pid
        }

    def start(self) -> Endpoints:
        """Claim the data directory, start what is embedded, and ask what is not."""
        with _one_sentence():
            try:
                if not self._kafka and not self._mongo:
                    return self._start_both()
                return self._start_rest()
            except BaseException:
                self.stop()
                raise

    def check(self) -> None:
        """Raise a Failure if an embedded engine ended by itself."""
        with _one_sentence():
            for engine in (self._broker, self._database):
                if engine is not None:
                    engine.process.check()

    def stop(self) -> None:
        self._stack.close()

    def _start_both(self) -> Endpoints:
        engines = EmbeddedEngines(self._data_dir, kafka_port=self._kafka_port, mongo_port=self._mongo_port)
        endpoints = engines.start()
        self._stack.callback(engines.stop)
        self._broker, self._database = engines.broker, engines.database
        return endpoints

    def _start_rest(self) -> Endpoints:
        if not self._kafka or not self._mongo:
            check_room(self._data_dir)
        lock = DataDirectoryLock(self._data_dir)
        lock.acquire()
        self._stack.callback(lock.release)
        if not self._kafka:
            broker = EmbeddedBroker(self._data_dir / "broker", ports.choose("broker", self._kafka_port))
            self._stack.callback(broker.stop)
            broker.start()
            self._broker, self._kafka = broker, broker.bootstrap_servers
        if not self._mongo:
            database = EmbeddedDatabase(
                self._data_dir / "database", ports.choose("database", self._mongo_port)
            )
            self._stack.callback(database.stop)
            database.start()
            self._database, self._mongo = database, database.url
        else:
            ask_database(self._mongo)
        return Endpoints(self._kafka, self._mongo)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except _MENDED_BY_A_PERSON as error:
        raise WrongConfiguration(str(error)) from error
    except EngineError as error:
        raise Unavailable(str(error)) from error


def ask_database(url: str) -> None:
    """Raise a Failure unless a replica set answers there."""
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they may name a part of a password
                client = MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=5000)
        except OSError as error:  # a certificate that it names is not there
            raise WrongConfiguration(f"MONGO_URL cannot be used: {str(error).rstrip('.')}.") from error
        with client:
            hello = client.admin.command("hello")
    except (InvalidURI, ValueError) as error:
        raise WrongConfiguration(f"MONGO_URL={without_login(url)!r}: {MONGO_URL_RULE}.") from error
    except ConfigurationError as error:
        raise WrongConfiguration(f"MONGO_URL cannot be used: {str(error).rstrip('.')}.") from error
    except PyMongoError as error:
        raise Unavailable(
            f"No MongoDB answers at {without_login(url)}: is it running, and is MONGO_URL right?"
        ) from error
    if not hello.get("setName"):
        raise WrongConfiguration(
            f"The MongoDB at {without_login(url)} is not a replica set; Parley needs transactions."
        )


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a deployment's topics."""

    created: list[str]
    keep_less: list[str]
    """In words, which of the others keep less than the contracts say, or than was asked for."""

    def __str__(self) -> str:
        told = [f"Created {len(self.created)} topics." if self.created else "All topics are there."]
        if self.keep_less:
            told += [f"{each}." for each in self.keep_less]
            told.append(
                "To change one: kafka-configs.sh --bootstrap-server SERVER --entity-type topics"
                " --entity-name TOPIC --alter --add-config NAME=VALUE"
            )
        return "\n".join(told)


def make_topics(
    bootstrap_servers: str,
    namespace: str,
    replication: int = 1,
    channels: Sequence[str] = (),
    retention_bytes: int | None = None,
) -> Made:
    """Create the topics that are missing and check the others.

    channels: further ones than Parley's own, each of which gets a topic for its dispatches. retention_bytes:
    the most that a partition keeps, read or not; -1 for all that comes in its days; None leaves that to the
    broker, and takes any.
    """
    wanted = tuple(topics((*CHANNELS, *channels)))

    async def make() -> Made:
        ours = Topics(bootstrap_servers, namespace)
        created = await ours.create(wanted, replication, retention_bytes)
        limits = {} if retention_bytes is None else {"retention.bytes": str(retention_bytes)}
        return Made(created, await ours.verify(wanted, limits))

    try:
        return asyncio.run(make())
    except WrongTopics as wrong:
        raise WrongConfiguration(f"The topics are not as the contracts say: {wrong}.") from wrong
    except (KafkaError, OSError, TimeoutError) as error:
        raise no_broker(bootstrap_servers) from error


def chosen_brokers() -> str:
    """`KAFKA_BOOTSTRAP_SERVERS`, which may be empty. Raises a Failure if it is none."""
    try:
        return brokers_named()
    except BadSettings as wrong:
        raise WrongConfiguration(f"{wrong}.") from wrong


def no_broker(bootstrap_servers: str) -> Failure:
    return Unavailable(
        f"No Kafka broker answers at {bootstrap_servers}: "
        "is it running, and is KAFKA_BOOTSTRAP_SERVERS right?"
    )
