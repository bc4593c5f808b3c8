"""What each process of a line is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.line import LineState, environment
from cli.line.members import MEMBERS


@pytest.mark.parametrize(("kafka_port", "told"), [(22418, "gzip"), (None, None)])
def test_messages_are_compressed_where_the_broker_keeps_its_log_in_memory(
    kafka_port: int | None, told: str | None
) -> None:
    state = LineState(clock_file=Path("clock.json"), kafka_port=kafka_port)
    for member in MEMBERS:
        env = environment.of(member, 8100, state, Path())
        assert env.get("PARLEY_KAFKA_COMPRESSION") == (None if member.name == "carrier" else told)
        reads = "read_committed" if told is None else "read_uncommitted"
        assert env.get("PARLEY_KAFKA_ISOLATION") == (None if member.name == "carrier" else reads)
