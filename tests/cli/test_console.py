"""What is shown is data: whatever somebody is called, they are called that."""

from __future__ import annotations

import io
from uuid import NAMESPACE_OID, uuid5

import pytest
from rich.cells import cell_len
from rich.console import Console

from cli import console
from cli.commands.activities import _ruling, _seen
from cli.commands.contacts import _for_people

MARKED = "Ann [vip] [/b] :100: \\[x]"


def test_a_name_with_brackets_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    contact = {"first_name": MARKED, "fields": {"plan [/x]": "[red]", "born": 1993}, "last_name": ""}
    console.fields(MARKED, _for_people(contact))
    console.table(MARKED, ("who",), [(MARKED,), ([MARKED],), (None,)])
    console.say(MARKED)
    told = capsys.readouterr().out
    assert told.count(MARKED) == 5
    assert "field plan [/x]" in told
    assert "[red]" in told
    assert "1993" in told


def test_a_name_moves_nothing_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "Ann\x1b[2J\x9b31m"
    console.fields(name, {"name": name})
    console.table(name, ("who",), [(name,)])
    console.say(name)
    told = capsys.readouterr().out
    assert told.count("Ann\ufffd[2J\ufffd31m") == 5
    assert not {"\x1b", "\x9b"} & set(told)


def test_what_the_gate_said_and_saw_is_told_in_words() -> None:
    inputs = {"endpoint_enabled": True, "weekdays": [1, 2], "opted_out": [], "local_time": None}
    held = {"verdict": "defer", "reason": "outside_window", "until": "2026-11-27T13:06:00Z", "inputs": inputs}
    assert _ruling(held) == "defer: outside_window, until 2026-11-27 13:06 UTC"
    assert _ruling(held | {"verdict": "allow", "reason": "allowed", "until": None}) == "allow"
    assert _seen(held) == "endpoint enabled yes, weekdays 1 2, opted out none"


@pytest.mark.parametrize(
    ("count", "what", "told"),
    [
        (1, "rows of x.csv", "1 row of x.csv"),
        (2000, "rows of x.csv", "2,000 rows of x.csv"),
        (0, "activities", "0 activities"),
        (1, "activities", "1 activity"),
        (1, "channel-sms", "1 channel-sms"),
    ],
)
def test_one_of_a_thing_is_not_many(count: int, what: str, told: str) -> None:
    assert console.counted(count, what) == told


def test_no_line_of_what_is_piped_ends_with_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    console.fields("Of Ada", {"state": "completed", "gate_saw": "window 08:00 to 21:00, opted out none"})
    console.table("What happened", ("what", "who"), [("completed", "ada"), ("told late", "")])
    told = capsys.readouterr().out
    assert "completed" in told
    assert [line for line in told.split("\n") if line != line.rstrip()] == []


@pytest.mark.parametrize(("width", "lines"), [(200, 4), (80, 6)])
def test_what_does_not_fit_beside_each_other_stands_in_blocks(
    monkeypatch: pytest.MonkeyPatch, width: int, lines: int
) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, record=True, soft_wrap=True)
    monkeypatch.setattr(console, "out", terminal)
    ids = [str(uuid5(NAMESPACE_OID, str(number))) for number in range(2)]
    rows = [(id_, "available", "李小龍李小龍李小龍, +12025550142", "renewal", None) for id_ in ids]
    console.table(None, ("!id", "state", "contact", "subject", "owner"), rows, else_blocks=True)
    told = [line.rstrip() for line in terminal.export_text().splitlines() if line.strip()]
    assert len(told) == lines
    assert max(map(cell_len, told)) <= width
    shown = "\n".join(told)
    for id_, *cells in rows:
        assert shown.count(id_) == 1
        assert all(shown.count(cell) == 2 for cell in cells if cell)


def test_a_batch_with_brackets_is_loaded_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=160, record=True)
    monkeypatch.setattr(console, "err", terminal)
    with console.progress() as bars, console.doing(MARKED):
        bars.add_task(MARKED, total=1, note=MARKED)
    assert MARKED in terminal.export_text()
