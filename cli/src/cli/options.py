"""Options and arguments that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.exits import WrongUsage


def an_id(text: str) -> str:
    """What can stand in an address as one step; typer hands over every id that a person gives."""
    if not text.strip() or text.strip(".") == "" or any(mark in text for mark in "/?#\\"):
        raise WrongUsage(f"{text!r} cannot be an id; the `list` commands show the ids.")
    return text


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="PARLEY_CLI_DATA_DIR",
        help="Where `parley up` keeps everything.",
        file_okay=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        envvar="PARLEY_CLI_AGAINST",
        help="Which running Parley: `compose` (the usual ports on this machine), a host, "
        "or NAME=URL pairs, comma separated. Without it: the one on the data directory.",
    ),
]
