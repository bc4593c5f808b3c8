"""What can go wrong with an embedded engine; each error reads as one plain sentence."""

from pathlib import Path


class EngineError(Exception):
    """Any failure of an embedded engine."""


class DataDirectoryInUse(EngineError):
    """Another process holds the data directory."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        self.data_dir = data_dir
        self.pid = pid
        holder = f" (process {pid})" if pid else ""
        super().__init__(
            f"Another Parley{holder} is running on {data_dir}: stop it or choose another data directory."
        )


class PortTaken(EngineError):
    """The port asked for is in use."""

    def __init__(self, engine: str, port: int) -> None:
        self.engine = engine
        self.port = port
        option = {"broker": "--kafka-port", "database": "--mongo-port"}.get(engine, "port")
        taken = f"Port {port} for the {engine} is taken by another program"
        super().__init__(f"{taken}: choose another {option}.")


class DiskFull(EngineError):
    """Too little is free where the engines keep their data."""

    def __init__(self, data_dir: Path, free: int, least: int) -> None:
        self.data_dir = data_dir
        super().__init__(
            f"Only {free / 2**20:,.0f} MiB are free on the disk of {data_dir}, and the engines need "
            f"{least / 2**20:,.0f} MiB to start: make room or choose another data directory."
        )


class NoDataDirectory(EngineError):
    """It cannot be made, or nothing can be written into it."""

    def __init__(self, data_dir: Path, reason: str) -> None:
        self.data_dir = data_dir
        super().__init__(f"{data_dir} cannot be the data directory ({reason}): choose another --data-dir.")


class EngineNotInstalled(EngineError):
    """There is no program to start."""

    def __init__(self, engine: str, remedy: str) -> None:
        self.engine = engine
        super().__init__(f"The embedded {engine} is not installed: {remedy}.")


class EngineDidNotStart(EngineError):
    """The program ended, or did not answer in time, while starting."""

    def __init__(self, engine: str, reason: str, log: Path) -> None:
        self.engine = engine
        self.log = log
        super().__init__(f"The embedded {engine} did not start: {reason} (its log: {log}).")


class EngineDied(EngineError):
    """A running engine ended without being asked to."""

    def __init__(self, engine: str, exit_code: int, log: Path, why: str | None = None) -> None:
        self.engine = engine
        self.exit_code = exit_code
        self.log = log
        reason = f": {why}" if why else ""
        super().__init__(
            f"The embedded {engine} ended by itself with code {exit_code}{reason} (its log: {log})."
        )
