from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.batch_loader.line import Line, line
from tests.engines import Engines


@pytest.fixture(scope="package")
async def shared(engines: Engines) -> AsyncIterator[Line]:
    async with line(engines, f"t{uuid4().hex[:8]}-batch-loader", batch_loader_page_size=20) as running:
        yield running


@pytest.fixture
def here(shared: Line) -> Line:
    """The running service, with a crowd of its own for this test."""
    return Line(shared.service, shared.wire, shared.api)
