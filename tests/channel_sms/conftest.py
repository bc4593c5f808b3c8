"""One stage for all: starting a service for every test would be most of the time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from servicekit.failpoints import FAILPOINTS
from servicekit.mongo import Mongo
from tests.channel_sms.world import Stage, standing
from tests.engines import Engines


@pytest.fixture(scope="package")
async def stage(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    namespace = f"t{uuid4().hex[:8]}-"
    async with standing(engines, namespace, tmp_path_factory.mktemp("stage")) as built:
        yield built
    database = built.service.settings.database("channel-sms")
    mongo = Mongo(engines.mongo, database)
    await mongo.database.client.drop_database(database)
    await mongo.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=engines.kafka)
    await admin.start()
    await admin.delete_topics([t for t in await admin.list_topics() if t.startswith(namespace)])
    await admin.close()


@pytest.fixture(autouse=True)
def _failpoints() -> Iterator[None]:
    yield
    FAILPOINTS.disarm()
