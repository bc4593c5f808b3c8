"""The broker and the database that a machine without Docker runs Parley on."""

from cli.engines.embedded import EmbeddedEngines, Endpoints
from cli.engines.errors import (
    DataDirectoryInUse,
    EngineDidNotStart,
    EngineDied,
    EngineError,
    EngineNotInstalled,
    PortTaken,
)

__all__ = [
    "DataDirectoryInUse",
    "EmbeddedEngines",
    "Endpoints",
    "EngineDidNotStart",
    "EngineDied",
    "EngineError",
    "EngineNotInstalled",
    "PortTaken",
]
