"""What a long step shows: bars on a terminal, a few lines on standard error where there is none."""

import io

import pytest
from rich.console import Console

from cli import console


def test_a_step_is_a_line_when_it_begins_and_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress() as bars:
        step = bars.add_task("Importing people.csv", total=None, note="")
        for done in range(200):
            bars.update(step, total=200, completed=done, note=f"{done} imported")
        bars.update(step, completed=200, note="200 imported")
        bars.update(step, completed=200)
    told = capsys.readouterr()
    assert not told.out
    assert told.err.splitlines() == [
        "Importing people.csv ...",
        "Importing people.csv: 200 of 200 (200 imported)",
    ]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_counts_are_whole_on_a_terminal_of_any_usual_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, record=True)
    monkeypatch.setattr(console, "err", terminal)
    with console.progress() as bars:
        step = bars.add_task("Loading the automatic batch", total=10_000, note="")
        bars.update(step, completed=10_000, note="9,532 imported, 468 rejected")
    shown = terminal.export_text()
    assert "10000/10000 0:00:00 9,532 imported, 468 rejected" in shown
