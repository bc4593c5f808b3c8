"""Which engines the environment asks for.

`KAFKA_BOOTSTRAP_SERVERS` and `MONGO_URL` always win, each for its engine. What they leave open is decided by
`PARLEY_TEST_ENGINES`: `embedded` (the default), `containers`, or `kafka` (Apache Kafka in a container, the
embedded database).
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cli.engines import ports
from cli.engines.broker import EmbeddedBroker
from cli.engines.database import EmbeddedDatabase
from tests.engines import containers

Kind = Literal["embedded", "containers", "external"]


@dataclass(frozen=True)
class Engines:
    """Where the engines are, and whose broker it is."""

    kafka: str
    mongo: str
    kind: Kind


def broker_kind() -> Kind:
    """Who provides the broker."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return "external"
    return "embedded" if _asked_for() == "embedded" else "containers"


def database_kind() -> Kind:
    """Who provides the database."""
    if os.environ.get("MONGO_URL"):
        return "external"
    return "containers" if _asked_for() == "containers" else "embedded"


@contextmanager
def provide_engines(directory: Path) -> Iterator[Engines]:
    """Engines as asked for; what was started for it is gone afterwards."""
    with ExitStack() as stack:
        yield Engines(_kafka(stack, directory), _mongo(stack, directory), broker_kind())


def _asked_for() -> str:
    asked = os.environ.get("PARLEY_TEST_ENGINES") or "embedded"
    if asked not in {"embedded", "containers", "kafka"}:
        raise pytest.UsageError(f"PARLEY_TEST_ENGINES is {asked!r}; it can be embedded, containers or kafka")
    return asked


def _kafka(stack: ExitStack, directory: Path) -> str:
    match broker_kind():
        case "external":
            return os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        case "containers":
            return stack.enter_context(containers.kafka())
        case "embedded":
            broker = EmbeddedBroker(directory / "broker", ports.choose("broker"))
            stack.callback(broker.stop)
            broker.start()
            return broker.bootstrap_servers


def _mongo(stack: ExitStack, directory: Path) -> str:
    match database_kind():
        case "external":
            return os.environ["MONGO_URL"]
        case "containers":
            return stack.enter_context(containers.mongo())
        case "embedded":
            database = EmbeddedDatabase(directory / "database", ports.choose("database"))
            stack.callback(database.stop)
            database.start()
            return database.url
