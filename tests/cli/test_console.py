"""What is shown is data: whatever somebody is called, they are called that."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli import console
from cli.commands.contacts import _for_people

MARKED = "Ann [vip] [/b] :100: \\[x]"


def test_a_name_with_brackets_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    contact = {"first_name": MARKED, "fields": {"plan [/x]": "[red]"}, "last_name": ""}
    console.fields(MARKED, _for_people(contact))
    console.table(MARKED, ("who",), [(MARKED,), ([MARKED],), (None,)])
    console.say(MARKED)
    told = capsys.readouterr().out
    assert told.count(MARKED) == 5
    assert "field plan [/x]" in told
    assert "[red]" in told


def test_a_batch_with_brackets_is_loaded_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=160, record=True)
    monkeypatch.setattr(console, "err", terminal)
    with console.progress() as bars, console.doing(MARKED):
        bars.add_task(MARKED, total=1, note=MARKED)
    assert MARKED in terminal.export_text()
