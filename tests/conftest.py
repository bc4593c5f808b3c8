"""What every test may ask for: the engines, and a namespace of its own on them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from hypothesis import HealthCheck, settings
from pymongo import MongoClient

from servicekit.service import spare_the_collector
from tests.engines import Engines, broker_kind, provide_engines
from tests.kit import Wire


def pytest_configure() -> None:
    # By default a traceback is drawn with the values of every frame, which takes seconds.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    # Other programs take the processor for as long as they like: no test fails for the time that it took.
    patient = settings(settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("patient", patient)
    settings.load_profile("patient")


def pytest_collection_finish() -> None:
    spare_the_collector()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("scenario") is None)  # the longest begin
    if broker_kind() != "embedded":
        return
    skip = pytest.mark.skip(reason="the embedded broker has no dynamic group membership; use make test-kafka")
    for item in items:
        if item.get_closest_marker("kafka_groups"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """A Kafka and a MongoDB for the whole run."""
    with provide_engines(tmp_path_factory.mktemp("engines")) as provided:
        yield provided


@pytest.fixture
async def namespace(engines: Engines) -> AsyncIterator[str]:
    """A prefix no other test has, for topics, groups and databases; they are removed afterwards."""
    prefix = f"t{uuid4().hex[:8]}-"
    yield prefix
    await _delete_topics(engines.kafka, prefix)
    _drop_databases(engines.mongo, prefix)


@pytest.fixture
async def wire(engines: Engines, namespace: str) -> AsyncIterator[Wire]:
    """The topics of this test, created, to publish on and to read from."""
    made = Wire(engines, namespace)
    await made.create_topics()
    yield made
    await made.close()


async def _delete_topics(bootstrap_servers: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        if ours := [topic for topic in await admin.list_topics() if topic.startswith(prefix)]:
            await admin.delete_topics(ours)
    finally:
        await admin.close()


def _drop_databases(url: str, prefix: str) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        for name in client.list_database_names():
            if name.startswith(prefix):
                client.drop_database(name)
