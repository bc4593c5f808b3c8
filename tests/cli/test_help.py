"""Every command can be understood from its help alone."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.main import app
from contracts.vocabulary import ActivityState, BatchState


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    for name, each in (below or {}).items():
        yield from commands(each, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands(typer.main.get_command(app), "parley")))
def test_a_command_has_an_example_with_options_that_it_has(path: str, command: Any) -> None:
    lines = [line.strip() for line in (command.help or "").splitlines()]
    examples = [line.split() for line in lines if line.startswith(path)]
    assert examples, f"{path} --help shows no example"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word for words in examples for word in words if word.startswith("--")}
    assert used <= known


@pytest.mark.parametrize(("path", "command"), list(commands(typer.main.get_command(app), "parley")))
def test_nothing_is_cut_on_a_terminal_of_80_columns(path: str, command: Any) -> None:
    shown = CliRunner().invoke(app, [*path.split()[1:], "--help"], env={"COLUMNS": "80"}).output
    names = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert {name for name in names if name not in shown} == set()
    assert "…" not in shown


@pytest.mark.parametrize(("group", "states"), [("activities", ActivityState), ("batch", BatchState)])
def test_a_list_by_state_says_which_there_are(group: str, states: type[StrEnum]) -> None:
    shown = CliRunner().invoke(app, [group, "list", "--help"], env={"COLUMNS": "200"}).output
    assert [state for state in states if state not in shown] == []


@pytest.mark.parametrize(("path", "command"), list(commands(typer.main.get_command(app), "parley")))
def test_an_example_has_whole_ids(path: str, command: Any) -> None:
    assert "..." not in (command.help or ""), path
