"""Where there is no terminal, progress is lines on standard error, and not many of them."""

import pytest

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
