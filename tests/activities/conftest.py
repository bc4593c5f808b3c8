from collections.abc import AsyncIterator

import pytest

from servicekit.clock import DrivenClock
from servicekit.service import Service
from tests.activities.line import Case, serving
from tests.engines import Engines
from tests.kit import Wire


@pytest.fixture(scope="package")
async def line(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Service, Wire, DrivenClock]]:
    async with serving(engines, tmp_path_factory.mktemp("clock")) as line:
        yield line


@pytest.fixture
def case(line: tuple[Service, Wire, DrivenClock]) -> Case:
    return Case(*line)
