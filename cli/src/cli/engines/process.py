"""One engine's operating-system process: started, watched, stopped, and never left behind."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from cli.engines.errors import EngineDidNotStart, EngineDied

_PR_SET_PDEATHSIG = 1

_FULL = "the disk is full"
_MISSING = {
    "libcurl.so.4": "the system library libcurl 4 is missing, on Debian: apt-get install libcurl4",
    "libssl.so.3": "OpenSSL 3 is missing, on Debian 12 or newer: apt-get install libssl3",
    "libcrypto.so.3": "OpenSSL 3 is missing, on Debian 12 or newer: apt-get install libssl3",
    "GLIBC_2.34' not found": "it needs glibc 2.34, which Debian has since release 12",
    "No space left on device": _FULL,
}

_LAST_BREATH = 5.0
"""Seconds in which a program that broke off talking has ended, if it is going to."""


class EngineProcess:
    """A program that keeps its data in one directory.

    The process gets a session of its own, so that a Ctrl-C in the terminal reaches only its parent, which
    stops the services first. If the parent is killed, Linux terminates the engine; elsewhere the next start
    on the same directory does, guided by the process file.
    """

    def __init__(self, engine: str, directory: Path, *, patience: float = 30.0) -> None:
        self.engine = engine
        self.directory = directory
        self.log = directory.with_suffix(".log")
        self._pid_file = directory.with_suffix(".pid")
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while the program runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, command: Sequence[str]) -> None:
        """Start the program; its data directory must be among the arguments."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=follow_parent(),
            )
        self._pid_file.write_text(str(self._process.pid))

    def wait_until(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        """Ask `ready` until it says yes; `EngineDidNotStart` if the program ends or time is up."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self._process is None or self._process.poll() is not None:
                raise EngineDidNotStart(self.engine, self._last_words(), self.log)
            if time.monotonic() > deadline:
                raise EngineDidNotStart(self.engine, f"{what} within {timeout:.0f} s", self.log)
            time.sleep(0.02)

    def did_not_start(self, reason: str) -> EngineDidNotStart:
        """The error of a start that broke off: the program's last words if it ended, else the reason."""
        with suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(_LAST_BREATH)
                reason = self._last_words()
        return EngineDidNotStart(self.engine, reason, self.log)

    def check(self) -> None:
        """Raise `EngineDied` if the program ended without being asked to."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise EngineDied(self.engine, code, self.log, _explained(self._said()) or self._no_room())

    def stop(self) -> None:
        """Let the program save and end; kill it when its patience runs out."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def kill(self) -> None:
        """End the program as a power cut would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._forget()

    def stop_leftover(self) -> None:
        """Stop the program that an earlier parent started on this directory and left running."""
        if (leftover := self._leftover()) is None:
            return
        with suppress(psutil.NoSuchProcess):
            leftover.terminate()
            try:
                leftover.wait(self._patience)
            except psutil.TimeoutExpired:
                leftover.kill()
                leftover.wait()
        self._pid_file.unlink(missing_ok=True)

    def _leftover(self) -> psutil.Process | None:
        with suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int(self._pid_file.read_text()))
            if str(self.directory) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _forget(self) -> None:
        self._process = None
        self._pid_file.unlink(missing_ok=True)

    def _last_words(self) -> str:
        said = self._said()
        lines = said.strip().splitlines()
        return _explained(said) or (
            f"it ended, saying {lines[-1][-200:]!r}" if lines else "it ended without a word"
        )

    def _no_room(self) -> str | None:
        """On a full disk the log breaks off before the program could say so."""
        return _FULL if shutil.disk_usage(self.directory).free < 2**20 else None

    def _said(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")


def _explained(said: str) -> str | None:
    return next((explanation for sign, explanation in _MISSING.items() if sign in said), None)


def follow_parent() -> Callable[[], None] | None:
    """What the child does before the program starts so that Linux terminates it with its parent."""
    # The kernel watches the thread that started the child, so this suits only the one that lives longest.
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl

    def follow() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return follow
