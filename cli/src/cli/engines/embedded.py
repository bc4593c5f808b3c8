"""Both engines on one data directory."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.engines import ports
from cli.engines.broker import EmbeddedBroker
from cli.engines.database import EmbeddedDatabase
from cli.engines.lock import DataDirectoryLock
from cli.engines.room import LEAST_FREE, check_room


@dataclass(frozen=True)
class Endpoints:
    """Where the engines of a run can be reached."""

    bootstrap_servers: str
    mongo_url: str


class EmbeddedEngines:
    """A broker and a database that keep everything in `data_dir`.

    Start it from the main thread: on Linux the engines then end with this process, however it ends.
    A later start on the same directory finds all topics and databases, on other ports if need be.

    Raises (all `EngineError`, each with one sentence as its text): `DataDirectoryInUse`, `NoDataDirectory`,
    `DiskFull`, `PortTaken`, `EngineNotInstalled`, `EngineDidNotStart`; nothing is left running after any of
    them.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        kafka_port: int | None = None,
        mongo_port: int | None = None,
        least_free: int = LEAST_FREE,
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._lock = DataDirectoryLock(self.data_dir)
        self._least_free = least_free
        self._wanted_kafka_port = kafka_port
        self._wanted_mongo_port = mongo_port
        self.broker = EmbeddedBroker(self.data_dir / "broker", kafka_port or 0)
        self.database = EmbeddedDatabase(self.data_dir / "database", mongo_port or 0)

    def start(self) -> Endpoints:
        """Start both and return when both answer."""
        # First, since even the lock is a file.
        check_room(self.data_dir, self._least_free)
        self._lock.acquire()
        try:
            # An engine that an earlier run left behind may still hold the port it is about to be given.
            self.broker.process.stop_leftover()
            self.database.process.stop_leftover()
            self.broker.port = ports.choose("broker", self._wanted_kafka_port)
            self.database.port = ports.choose("database", self._wanted_mongo_port)
            self.broker.start()
            self.database.start()
        except BaseException:
            self.stop()
            raise
        return Endpoints(self.broker.bootstrap_servers, self.database.url)

    def check(self) -> None:
        """Raise `EngineDied` if an engine ended by itself; cheap enough to be asked every second."""
        self.broker.process.check()
        self.database.process.check()

    def stop(self) -> None:
        """Stop both, let them save, and give the directory up; harmless when nothing runs."""
        try:
            self.broker.stop()
            self.database.stop()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoints(self) -> Endpoints:
        """Where the started engines can be reached."""
        return Endpoints(self.broker.bootstrap_servers, self.database.url)
