"""What each process of a line is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.exits import WrongConfiguration
from cli.found import find
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


def test_topics_are_read_as_the_services_are_told_to_read_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PARLEY_KAFKA_ISOLATION", raising=False)
    assert find(tmp_path, "compose").isolation == "read_committed"
    monkeypatch.setenv("PARLEY_KAFKA_ISOLATION", "read_uncommitted")
    assert find(tmp_path, "compose").isolation == "read_uncommitted"
    monkeypatch.setenv("PARLEY_KAFKA_ISOLATION", "all")
    with pytest.raises(WrongConfiguration, match="one of read_committed, read_uncommitted"):
        find(tmp_path, "compose")
