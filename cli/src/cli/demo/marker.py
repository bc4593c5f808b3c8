"""The demo's own mark on a data directory: what it made it may also remove, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from cli import console
from cli.engines import NoDataDirectory, claiming
from cli.exits import WrongConfiguration, WrongUsage
from cli.line.state import LineState

FILE = "demo.json"
LIST = "contacts.csv"
WHOLE_WEEK = 4.5
"""Days: Monday morning to Friday evening."""
_PATIENCE = 45.0


class Marker(BaseModel):
    """How far a demo got; written after each step, so that the next run goes on from there."""

    format: Literal[1] = 1
    contacts: int
    seed: int
    days: float = WHOLE_WEEK
    began_at: datetime
    """In the demo's own time."""
    shown_at: datetime
    """The latest time that its clock showed."""
    steps: dict[str, str] = {}
    """Finished steps and the id that each gave."""
    agents_completed: int = 0
    finished: bool = False

    def write(self, data_dir: Path) -> None:
        fresh = data_dir / f"{FILE}.{os.getpid()}.new"
        fresh.write_text(self.model_dump_json(indent=2) + "\n")
        fresh.replace(data_dir / FILE)


def prepare(data_dir: Path, contacts: int, seed: int, days: float = WHOLE_WEEK) -> tuple[Marker, bool]:
    """The marker to work with, and whether an earlier run goes on.

    A demo that ended is removed, one that did not is continued. Raises WrongUsage for a directory that
    holds anything else, another demo that did not end included, and WrongConfiguration where none can be.
    """
    try:
        with claiming(data_dir):
            return _prepared(data_dir, contacts, seed, days)
    except NoDataDirectory as error:
        raise WrongConfiguration(str(error)) from error


def _prepared(data_dir: Path, contacts: int, seed: int, days: float) -> tuple[Marker, bool]:
    if not data_dir.exists() or not any(data_dir.iterdir()):
        return _fresh(data_dir, contacts, seed, days), False
    standing = _read(data_dir)
    if standing is None:
        raise WrongUsage(f"{data_dir} holds something that the demo did not make: choose another --data-dir.")
    _wait_until_stopped(data_dir)
    if not standing.finished and (standing.contacts, standing.seed, standing.days) == (
        contacts,
        seed,
        days,
    ):
        return standing, True
    if not standing.finished and standing.steps:
        raise WrongUsage(
            f"{data_dir} holds a demo of {standing.contacts:,} contacts that has not ended: go on with "
            f"--contacts {standing.contacts} --seed {standing.seed} --days {standing.days:g}, "
            "choose another --data-dir, or remove that folder."
        )
    for path in data_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return _fresh(data_dir, contacts, seed, days), False


def _fresh(data_dir: Path, contacts: int, seed: int, days: float) -> Marker:
    data_dir.mkdir(parents=True, exist_ok=True)
    began = next_monday(datetime.now(UTC))
    marker = Marker(contacts=contacts, seed=seed, days=days, began_at=began, shown_at=began)
    marker.write(data_dir)
    return marker


def next_monday(now: datetime) -> datetime:
    """04:00 UTC of the next Monday: a working day everywhere, and early in Europe."""
    days = 7 - now.weekday()
    return (now + timedelta(days=days)).replace(hour=4, minute=0, second=0, microsecond=0)


def _read(data_dir: Path) -> Marker | None:
    try:
        return Marker.model_validate_json((data_dir / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def _wait_until_stopped(data_dir: Path) -> None:
    """A demo that was ended leaves a line that is still draining. One that runs is not waited for."""
    state = _running(data_dir)
    if state is None:
        return
    if state.ready:
        raise _in_use(data_dir, state)
    deadline = time.monotonic() + _PATIENCE
    with console.doing(f"Waiting for the Parley on {data_dir} (process {state.pid}) to stop ..."):
        while (state := _running(data_dir)) is not None:
            if time.monotonic() > deadline:
                raise _in_use(data_dir, state)
            time.sleep(0.2)


def _in_use(data_dir: Path, state: LineState) -> WrongUsage:
    return WrongUsage(
        f"A Parley (process {state.pid}) is running on {data_dir}: stop it or choose another --data-dir."
    )


def _running(data_dir: Path) -> LineState | None:
    state = LineState.read(data_dir)
    return state if state is not None and state.running() else None
