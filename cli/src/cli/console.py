"""What a person sees on the terminal, and what a program reads from standard output."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")

_UNSEEN_WIDTH = 140
"""Of output that goes to no terminal."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _UNSEEN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns whose name starts with `#` hold numbers, those with `!` are never wrapped."""
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix("#").removeprefix("!")
        shown.add_column(
            name.replace("_", " "),
            justify="right" if column.startswith("#") else "left",
            no_wrap=column.startswith("!"),
            overflow="fold",
        )
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    out.print(shown)


def fields(title: str, values: Mapping[str, object]) -> None:
    shown = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    for name, value in values.items():
        if value not in (None, "", {}, []):
            shown.add_row(f"[dim]{name.replace('_', ' ')}[/]", _cell(value))
    out.print(shown)


def say(text: str) -> None:
    out.print(text)


def progress() -> Progress:
    """Bars on standard error, so that standard output stays clean."""
    return Progress(
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}[/]"),
        console=err,
    )


def _cell(value: object) -> str:
    match value:
        case None:
            return "[dim]-[/]"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case dict() | list() | tuple():
            return json.dumps(value, default=_plain, ensure_ascii=False).replace("[", r"\[")
        case str() if _TIME.match(value):
            return value[:16].replace("T", " ")
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case bytes():
            return value.decode("utf-8", "replace")
        case _:
            return str(value)
