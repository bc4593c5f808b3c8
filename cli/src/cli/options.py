"""Options and arguments that many commands share."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli.exits import WrongUsage

_DATA_DIR = "PARLEY_CLI_DATA_DIR"
_AGAINST = "PARLEY_CLI_AGAINST"
_CHANNEL = re.compile(r"^[a-z][a-z0-9-]{0,30}$")


def an_id(text: str) -> str:
    """What can stand in an address as one step; typer hands over every id that a person gives."""
    if not text.strip() or text.strip(".") == "" or any(mark in text for mark in "/?#\\"):
        raise WrongUsage(f"{text!r} cannot be an id; the `list` commands show the ids.")
    return text


def a_folder(path: Path) -> Path:
    """It need not be there, but it must be one place."""
    try:
        path.expanduser().resolve()
    except (RuntimeError, OSError) as error:  # a link to itself, somebody who is not known here
        raise WrongUsage(f"--data-dir {path}: {str(error).rstrip('.')}.") from error
    return path


def _a_channel(name: str) -> str:
    if not _CHANNEL.match(name):
        raise WrongUsage(f"--channel {name!r}: small letters, digits and -, beginning with a letter.")
    return name


def same_again(data_dir: Path, against: str | None = None) -> str:
    """What the next command needs to find the same Parley: options with a space before, or nothing."""
    if against:
        return "" if os.environ.get(_AGAINST) == against else f" --against {shlex.quote(against)}"
    if data_dir.expanduser().resolve() == Path(os.environ.get(_DATA_DIR) or ".parley").expanduser().resolve():
        return ""
    return f" --data-dir {shlex.quote(str(data_dir))}"


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar=_DATA_DIR,
        help="Where `parley up` keeps everything.",
        file_okay=False,
        callback=a_folder,
    ),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        help="A further channel, worked by a service of yours: it gets the topic `activity-dispatched.NAME`. "
        "May be given several times; a data directory keeps what it was told.",
        callback=lambda names: [_a_channel(name) for name in names or ()],
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        envvar=_AGAINST,
        help="Which running Parley: `compose` (the usual ports on this machine), a host, "
        "or NAME=URL pairs, comma separated. Without it: the one on the data directory.",
    ),
]
