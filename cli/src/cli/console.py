"""What a person sees on the terminal, and what a program reads from standard output."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")

_EVERY = 15.0
"""Seconds between two lines about the same step, where there is no terminal."""

_UNSEEN_WIDTH = 1000
"""Of output that goes to no terminal."""

_UNBOUNDED = 10_000
_INDENT = "  "
_ROOM_FOR_BARS = 112
"""Columns of a terminal; on a narrower one the counts beside the bars would be cut."""

_ONE = {"rows": "row", "contacts": "contact", "activities": "activity"}
"""Of each noun that is counted."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Shown(Console):
    """Lets nobody's name clear a terminal or move about in it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_still(segment.text), segment.style)


def _still(text: str) -> str:
    return _CONTROLS.sub("\ufffd", text)


# What is shown is other people's: a name with brackets or colons is a name, and what has a style is a Text.
_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
out = _Shown(width=None if sys.stdout.isatty() else _UNSEEN_WIDTH, **_PLAIN)
err = _Shown(stderr=True, **_PLAIN)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    else_blocks: bool = False,
) -> None:
    """Columns whose name starts with `#` hold numbers, those with `!` are never wrapped.

    else_blocks: where a terminal is too narrow for it, each row is a block of lines under its first cell.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix("#").removeprefix("!")
        shown.add_column(
            name.replace("_", " "),
            justify="right" if column.startswith("#") else "left",
            no_wrap=column.startswith("!"),
            overflow="fold",
        )
    for row_of_cells in cells:
        shown.add_row(*row_of_cells)
    room = out.options.update(max_width=_UNBOUNDED)
    if else_blocks and out.is_terminal and out.measure(shown, options=room).maximum > out.width:
        for row_of_cells in cells:
            _block(columns, row_of_cells)
    else:
        _print(shown)


def _block(columns: Sequence[str], row: Sequence[str | Text]) -> None:
    """The first cell on a line of its own, the others with their names, none of them parted."""
    out.print(Text(str(row[0]), style="bold"))
    line = Text(_INDENT)
    for column, cell in zip(columns[1:], row[1:], strict=True):
        name = column.removeprefix("#").removeprefix("!").replace("_", " ")
        part = Text.assemble((name, "dim"), " ", cell)
        if len(line) > len(_INDENT) and line.cell_len + len(_INDENT) + part.cell_len > out.width:
            out.print(line)
            line = Text(_INDENT)
        line.append(_INDENT if len(line) > len(_INDENT) else "").append(part)
    out.print(line)


def fields(title: str, values: Mapping[str, object], as_named: bool = False) -> None:
    """as_named: the names are other people's, such as headers, and stay as they are."""
    shown = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    for name, value in values.items():
        if value not in (None, "", {}, []):
            shown.add_row(Text(name if as_named else name.replace("_", " "), style="dim"), _cell(value))
    _print(shown)


def _print(shown: Table) -> None:
    """A table pads each line to its longest, which nobody sees on a terminal and everybody in a file."""
    if out.is_terminal:
        out.print(shown)
        return
    with out.capture() as printed:
        out.print(shown)
    out.file.write("\n".join(line.rstrip(" ") for line in printed.get().split("\n")))


def say(text: str | Text) -> None:
    out.print(text)


def counted(count: int, what: str) -> str:
    """`1 row of it`, `2,000 rows of it`."""
    noun, _, rest = what.partition(" ")
    return " ".join(filter(None, (f"{count:,}", _ONE.get(noun, noun) if count == 1 else noun, rest)))


def say_cut(limit: int) -> None:
    say(f"There are more than these {limit:,}: give a larger --limit.")


class _Lines(Progress):
    """For whoever reads a log: a line when a step begins, now and then, and when it is done."""

    def __init__(self) -> None:
        super().__init__(console=err, disable=True)
        self._said: dict[TaskID, float] = {}
        self._done: set[TaskID] = set()

    def add_task(self, description: str, *arguments: Any, **fields: Any) -> TaskID:
        task = super().add_task(description, *arguments, **fields)
        self._say(task, f"{description} ...")
        return task

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._look(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._look(task_id)

    def _look(self, task_id: TaskID) -> None:
        ended = self._tasks[task_id].finished and task_id not in self._done
        if ended or time.monotonic() - self._said[task_id] >= _EVERY:
            self._say(task_id, self._state(task_id))
        if ended:
            self._done.add(task_id)

    def _state(self, task_id: TaskID) -> str:
        task = self._tasks[task_id]
        of = f" of {task.total:,.0f}" if task.total is not None else ""
        note = f" ({task.fields['note']})" if task.fields.get("note") else ""
        return f"{task.description}: {task.completed:,.0f}{of}{note}"

    def _say(self, task_id: TaskID, line: str) -> None:
        self._said[task_id] = time.monotonic()
        err.print(line)


def progress() -> Progress:
    """Bars on standard error, so that standard output stays clean; lines where that is no terminal."""
    if not err.is_terminal:
        return _Lines()
    return Progress(
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=30)] if err.width >= _ROOM_FOR_BARS else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=False)),
        console=err,
    )


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Says so while it lasts; a line where there is no terminal."""
    if not err.is_terminal:
        err.print(what)
        yield
        return
    with err.status(Text(what)):
        yield


def _cell(value: object) -> str | Text:
    match value:
        case Text():
            return value
        case None:
            return Text("-", style="dim")
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case dict() | list() | tuple():
            return json.dumps(value, default=_plain, ensure_ascii=False)
        case str() if _TIME.match(value):
            return time_of(value)
        case _:
            # Here too, because they have no width in a column.
            return _still(str(value))


def time_of(written: str, seconds: bool = False) -> str:
    """`2026-07-01 10:00 UTC`, of the time that an API writes."""
    return f"{written[: 19 if seconds else 16].replace('T', ' ')} UTC"


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
