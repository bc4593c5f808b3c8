"""The broker and the database that a machine without Docker runs Parley on."""

from cli.engines.embedded import EmbeddedEngines, Endpoints
from cli.engines.errors import (
    DataDirectoryInUse,
    DiskFull,
    EngineDidNotStart,
    EngineDied,
    EngineError,
    EngineNotInstalled,
    NoDataDirectory,
    PortTaken,
)
from cli.engines.room import check_room, claiming

__all__ = [
    "DataDirectoryInUse",
    "DiskFull",
    "EmbeddedEngines",
    "Endpoints",
    "EngineDidNotStart",
    "EngineDied",
    "EngineError",
    "EngineNotInstalled",
    "NoDataDirectory",
    "PortTaken",
    "check_room",
    "claiming",
]
