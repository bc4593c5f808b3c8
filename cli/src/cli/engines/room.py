"""Whether the disk has room for the engines: one that runs out of it while starting says so badly."""

import shutil
from pathlib import Path

from cli.engines.errors import DiskFull

LEAST_FREE = 300 * 2**20
"""MongoDB lays out journal files of a hundred megabytes before anything is stored; with 230 free it did not
start, with 330 it did."""


def check_room(data_dir: Path, least: int = LEAST_FREE) -> None:
    """Raise `DiskFull` unless that many bytes are free where the data directory is, or will be."""
    there = next(place for place in (data_dir, *data_dir.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < least:
        raise DiskFull(data_dir, free, least)
