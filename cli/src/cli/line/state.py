"""The file by which other commands find a running line, and a restart finds its ports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

import psutil
from pydantic import BaseModel, ValidationError

from cli.exits import WrongConfiguration

FILE = "parley.json"
CLOCK = "clock.json"


class MemberState(BaseModel):
    """Where one process is."""

    url: str
    port: int
    pid: int | None = None
    log: Path


class LineState(BaseModel):
    """What is known about the line on one data directory."""

    pid: int | None = None
    """The supervisor; null when nothing runs."""
    ready: bool = False
    kafka_bootstrap_servers: str = ""
    mongo_url: str = ""
    namespace: str = ""
    kafka_port: int | None = None
    mongo_port: int | None = None
    channels: tuple[str, ...] = ()
    """Worked by services of others; a data directory keeps those that it was told once."""
    clock_file: Path
    services: dict[str, MemberState] = {}

    @property
    def isolation(self) -> Literal["read_committed", "read_uncommitted"]:
        """The embedded broker does not tell rightly which records of a transaction were taken back."""
        return "read_committed" if self.kafka_port is None else "read_uncommitted"

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        """None when there is no state, or none of ours."""
        try:
            return cls.model_validate_json((data_dir / FILE).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        except PermissionError:
            raise WrongConfiguration(f"{data_dir / FILE} belongs to another user.") from None

    def write(self, data_dir: Path) -> None:
        fresh = data_dir / f"{FILE}.{os.getpid()}.new"
        try:
            # MONGO_URL may carry a login.
            fresh.touch(mode=0o600)
            fresh.write_text(self.model_dump_json(indent=2) + "\n")
            fresh.replace(data_dir / FILE)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def running(self) -> bool:
        return self.pid is not None and is_running(self.pid)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
