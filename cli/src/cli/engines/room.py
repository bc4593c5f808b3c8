"""Whether there is a place for the engines: one that has none, or runs out of it, says so badly."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.engines.errors import DiskFull, NoDataDirectory

LEAST_FREE = 300 * 2**20
"""MongoDB lays out journal files of a hundred megabytes before anything is stored; with 230 free it did not
start, with 330 it did."""


def check_room(data_dir: Path, least: int = LEAST_FREE) -> None:
    """Raise `DiskFull` unless that many bytes are free where the data directory is, or will be."""
    there = next(place for place in (data_dir, *data_dir.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < least:
        raise DiskFull(data_dir, free, least)


@contextmanager
def claiming(data_dir: Path) -> Iterator[None]:
    """Raise `NoDataDirectory` for what hinders its making; a full disk has a sentence of its own."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise NoDataDirectory(data_dir, error.strerror or str(error)) from error
