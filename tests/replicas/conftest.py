from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.activities.builders import NOON
from tests.engines import Engines
from tests.kit import Wire, frozen_clock
from tests.replicas.processes import Replicas


@pytest.fixture
def replicas(engines: Engines, wire: Wire, tmp_path: Path) -> Iterator[Replicas]:
    made = Replicas(engines, wire, tmp_path, frozen_clock(tmp_path, NOON))
    yield made
    made.close()
