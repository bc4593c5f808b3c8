"""Processes that are started, watched, started again when they die, and never left behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cli.engines.process import follow_parent
from cli.exits import ExitCode, WrongConfiguration
from cli.line.members import CARRIER, Member

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_STEADY_SECONDS = 60.0
_PATIENCE = 30.0
_LOG_LIMIT = 50 * 1024 * 1024

Say = Callable[[str], None]


@dataclass
class Supervised:
    """One member and the process that it is at the moment."""

    member: Member
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    again_at: float | None = None
    log_start: int = field(default=0, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.log_start = output.tell()
            # A session of its own: a Ctrl-C in the terminal is for the supervisor, which stops in order.
            self.process = subprocess.Popen(
                self.member.command(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=follow_parent(),
            )
        self.started_at = time.monotonic()
        self.again_at = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def last_words(self) -> str:
        """The sentence with which a process gave up, from its log."""
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        said = [line for line in lines if line.startswith(self.member.program)] or lines[-1:]
        return said[-1].strip() if said else f"{self.member.program} ended without a word"


class Supervisor:
    """Keeps a set of members running. Call `watch` often, from the thread that called `start`."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._all: list[Supervised] = []

    def add(self, member: Member, environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        self._all.append(Supervised(member, environment, log))

    def start(self) -> None:
        for supervised in self._all:
            supervised.start()

    def pids(self) -> dict[str, int]:
        return {each.member.name: each.pid for each in self._all if each.pid is not None}

    def watch(self) -> bool:
        """Look once; true if a process is another one than before.

        Raises WrongConfiguration with the sentence of a member that only a person can help.
        """
        changed = False
        for each in self._all:
            if each.again_at is not None:
                if time.monotonic() >= each.again_at:
                    each.start()
                    changed = True
            elif each.process is not None and (code := each.process.poll()) is not None:
                self._after_death(each, code)
                changed = True
        return changed

    def _after_death(self, each: Supervised, code: int) -> None:
        if code == ExitCode.CONFIGURATION:
            raise WrongConfiguration(each.last_words())
        steady = time.monotonic() - each.started_at > _STEADY_SECONDS
        each.failures = 1 if steady else each.failures + 1
        delay = min(_FIRST_DELAY * 2 ** (each.failures - 1), _LONGEST_DELAY)
        each.again_at = time.monotonic() + delay
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._say(f"{each.member.name} {how}; it starts again in {delay:g} s (log: {each.log})")

    def stop(self) -> None:
        """Services first, all at once and with time to drain; the carrier, which they talk to, last."""
        _stop([each for each in self._all if each.member.name != CARRIER])
        _stop([each for each in self._all if each.member.name == CARRIER])

    def hurry(self) -> None:
        """Kill what still runs."""
        for each in self._all:
            if each.pid is not None and each.process is not None:
                each.process.kill()


def _stop(members: Sequence[Supervised]) -> None:
    for each in members:
        each.again_at = None
        if each.pid is not None and each.process is not None:
            each.process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for each in members:
        if each.process is None:
            continue
        try:
            each.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()


def stop_leftovers(pids: Mapping[str, int]) -> None:
    """End what an earlier supervisor left running: only processes that are still what they were."""
    leftovers: list[psutil.Process] = []
    for name, pid in pids.items():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if any(part.endswith(f"parley-{name}") for part in process.cmdline()):
                process.terminate()
                leftovers.append(process)
    _, alive = psutil.wait_procs(leftovers, timeout=_PATIENCE)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
