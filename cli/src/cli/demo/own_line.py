"""`parley up` as a child of the demo: the same command that everybody uses."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from cli.engines.process import follow_parent
from cli.exits import ExitCode, Failure, Unavailable, WrongConfiguration
from cli.found import Parley, find
from cli.line.state import LineState

_START_SECONDS = 660.0
"""Longer than `parley up` waits itself, engines included: it says why."""
_STOP_SECONDS = 300.0
_ENDING_SECONDS = 20.0


class OwnLine:
    """A running line and the process that supervises it; it ends with this process, however that ends."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.parley = Parley()

    @classmethod
    def started(cls, data_dir: Path) -> Self:
        """Returns when every service is ready; nothing is left behind when it raises."""
        log = data_dir / "logs" / "up.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))  # why the run before ended
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=follow_parent(),
            )
        line = cls(process, log)
        try:
            _wait_until_ready(data_dir, process, log)
            line.parley = find(data_dir, None)
        except BaseException:
            line.stop()
            raise
        return line

    def check(self) -> None:
        """Raise a Failure if it ended by itself."""
        if (code := self._process.poll()) is not None:
            raise _ended(code, self._log)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Within the block, a service that does not answer because the line ends says why it does."""
        try:
            yield
        except Unavailable:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_SECONDS)
            self.check()
            raise

    def hurry(self) -> None:
        """A second request to end: services are not waited for."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _wait_until_ready(data_dir: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        state = LineState.read(data_dir)
        if state is not None and state.ready and state.pid == process.pid:
            return
        if (code := process.poll()) is not None:
            raise _ended(code, log)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The services were not ready within {_START_SECONDS:.0f} seconds (log: {log})."
            )
        time.sleep(0.1)


def _ended(code: int, log: Path) -> Failure:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("parley: ")]
    sentence = (
        said[-1].removeprefix("parley: ") if said else f"`parley up` ended with code {code} (log: {log})."
    )
    match code:
        case ExitCode.CONFIGURATION:
            return WrongConfiguration(sentence)
        case ExitCode.UNAVAILABLE:
            return Unavailable(sentence)
        case _:
            return Failure(sentence)
