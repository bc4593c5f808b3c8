"""The embedded broker: noida-db, one small program that speaks Kafka."""

import socket
import struct
from importlib.util import find_spec
from pathlib import Path

from cli.engines import ports
from cli.engines.errors import EngineNotInstalled
from cli.engines.process import EngineProcess

_SNAPSHOT_SECONDS = 180.0
"""It reads its whole log when it starts and writes it when told to end: a gigabyte on a busy machine."""
_API_VERSIONS_REQUEST = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class EmbeddedBroker:
    """A Kafka broker in one process, its log in memory with a snapshot on disk."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.process = EngineProcess("broker", directory, patience=_SNAPSHOT_SECONDS)

    @property
    def bootstrap_servers(self) -> str:
        """What a Kafka client connects to."""
        return f"{ports.LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start and return when the broker answers."""
        program = _find_program()
        self.process.stop_leftover()
        # It would refuse to start when the process id in here now belongs to another program.
        (self.process.directory / "noida.control.json").unlink(missing_ok=True)
        self.process.start(
            [
                str(program),
                "start",
                *("--only", "kafka"),
                *("--host", ports.LOOPBACK),
                *("--kafka-port", str(self.port)),
                *("--data-dir", str(self.process.directory)),
            ]
        )
        self.process.wait_until(self._answers, "it did not answer", timeout=_SNAPSHOT_SECONDS)

    def stop(self) -> None:
        """Save everything and end."""
        self.process.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((ports.LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(_API_VERSIONS_REQUEST)
                return len(connection.recv(8)) == 8
        except OSError:
            return False


def _find_program() -> Path:
    spec = find_spec("noida_db")
    # The console script of the package does not pass signals on, so the program inside is run itself.
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).with_name("noida-db")
        if program.is_file():
            return program
    raise EngineNotInstalled("broker", "pip install 'parley-cli[embedded]', or name a Kafka broker to use")
