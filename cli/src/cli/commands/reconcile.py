"""`parley reconcile`: count everything again, from every side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli import console
from cli.accounts import Equation, equations
from cli.api import Api
from cli.console import Json
from cli.exits import Failure
from cli.found import find
from cli.options import Against, DataDir

Differing = Annotated[bool, typer.Option("--differing", help="Show only what differs.")]
_MARKS = {True: Text("yes", style="green"), False: Text("NO", style="bold red")}


def reconcile(
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    differing: Differing = False,
    json: Json = False,
) -> None:
    """Count everything again and compare: services, topics, the carrier's journal.

    Meant for a moment of rest: while messages are on their way, differences are normal.

    Exit code 1 if anything differs.

    Example:

      parley reconcile --against compose
    """
    with Api(find(data_dir, against)) as api:
        found = list(equations(api))
    agree = all(equation.holds for equation in found)
    shown = [equation for equation in found if not (differing and equation.holds)]
    if json:
        console.print_json([equation.document() for equation in shown])
    elif shown:
        show(shown, "Reconciled" if agree else "NOT reconciled")
    else:
        console.say(f"Reconciled: all {len(found):,} equations hold.")
    if not agree:
        raise Failure(
            "The books do not agree; see the lines marked above. While work is in hand that is normal: ask "
            "again when nothing moves."
        )


def show(found: Sequence[Equation], title: str) -> None:
    rows = [(equation.title, _sides(equation), _MARKS[equation.holds]) for equation in found]
    console.table(title, ("what", "counted", "equal"), rows)


def _sides(equation: Equation) -> str:
    text = " = ".join(console.counted(count, name) for name, count in equation.counts.items())
    if any(equation.parts.values()):
        parts = (console.counted(count, name) for name, count in equation.parts.items() if count)
        text += f"\n= {' + '.join(parts)}"
    return text
