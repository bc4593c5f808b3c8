"""The programs of docs/integrating.md, run as an integrator would run them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import eventually
from tests.stats.conftest import Line
from tests.stats.samples import name

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
KAFKAJS = os.environ.get("PARLEY_TEST_NODE_MODULES")
"""A node_modules folder with kafkajs in it."""


async def counted(line: Line, *program: str) -> None:
    contact = name()
    environment = os.environ | {"TOPIC": line.wire.name("interaction-recorded")}
    for direction, call in (("incoming", name("call")), ("outgoing", name("call"))):
        called = [*program, line.wire.engines.kafka, contact, call, direction]
        for _ in range(2):
            done = await asyncio.to_thread(
                subprocess.run, called, env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr

    async def both() -> bool:
        return await line.counts(contact) == (1, 1)

    await eventually(both, "one call in each direction, once")
    await line.at_rest()
    assert await line.counts(contact) == (1, 1)


async def test_the_python_example_counts_once_however_often_it_runs(line: Line) -> None:
    await counted(line, sys.executable, str(EXAMPLES / "record_interaction.py"))


@pytest.mark.skipif(not (KAFKAJS and shutil.which("node")), reason="needs Node.js and kafkajs")
async def test_the_node_example_counts_once_however_often_it_runs(line: Line, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(Path(KAFKAJS or "").resolve())
    shutil.copy(EXAMPLES / "record_interaction.mjs", tmp_path)
    await counted(line, "node", str(tmp_path / "record_interaction.mjs"))
