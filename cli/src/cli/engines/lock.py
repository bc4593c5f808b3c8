"""One Parley per data directory."""

import fcntl
import os
from pathlib import Path

from cli.engines.errors import DataDirectoryInUse
from cli.engines.room import claiming


class DataDirectoryLock:
    """An exclusive claim on a directory that ends with the process holding it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Claim the directory or raise `DataDirectoryInUse` or `NoDataDirectory`."""
        with claiming(self._data_dir):
            self._data_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._data_dir / "parley.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode()
            os.close(descriptor)
            raise DataDirectoryInUse(self._data_dir, int(holder) if holder.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the directory up; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
