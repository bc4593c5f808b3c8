"""What the demonstration says at its end can be done where it ran."""

from pathlib import Path

import pytest

from cli.commands.demo import _say_where_to_look

LIST = Path("/data/contacts.csv")


def said(capsys: pytest.CaptureFixture[str], against: str | None) -> str:
    _say_where_to_look(LIST.parent, 117.2, 2**26, "C-1", keep=False, against=against)
    return " ".join(capsys.readouterr().out.split())


def test_of_its_own_line_it_names_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, None)
    assert "at most 64 MiB of memory" in told
    assert "parley up --data-dir /data," in told
    assert "parley stats show C-1 --data-dir /data" in told


def test_of_somebody_elses_it_names_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARLEY_CLI_AGAINST", raising=False)
    told = said(capsys, "compose")
    assert "parley stats show C-1 --against compose" in told
    monkeypatch.setenv("PARLEY_CLI_AGAINST", "contacts=http://contacts:8101")
    told += said(capsys, "contacts=http://contacts:8101")
    assert told.endswith("parley reconcile")
    assert not any(word in told for word in ("--data-dir", "carrier.jsonl", "parley up", "MiB"))
