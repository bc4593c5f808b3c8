"""The line as processes that may be killed, stopped and multiplied, on engines that may be taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx

from cli.engines import ports
from cli.engines.broker import EmbeddedBroker
from cli.engines.database import EmbeddedDatabase
from cli.engines.process import follow_parent
from cli.found import Parley
from cli.line import environment
from cli.line.chosen_engines import make_topics
from cli.line.members import CARRIER, MEMBERS, Member
from cli.line.state import CLOCK, LineState, MemberState

_LOOK_EVERY = 0.25
_ANSWERED_SECONDS = 1.0
_DRAIN_SECONDS = 40.0
_CONFIGURATION = 78


class Switch(Protocol):
    """Takes an engine away and brings it back, with everything that it had confirmed."""

    def down(self) -> None: ...

    def up(self) -> None: ...


@dataclass
class EmbeddedBrokerSwitch:
    broker: EmbeddedBroker

    def down(self) -> None:
        """SIGTERM: the embedded broker keeps its last second in memory only."""
        self.broker.stop()

    def up(self) -> None:
        self.broker.start()


@dataclass
class EmbeddedDatabaseSwitch:
    database: EmbeddedDatabase

    def down(self) -> None:
        """SIGKILL: whatever it acknowledged is in its journal."""
        self.database.process.kill()

    def up(self) -> None:
        self.database.start()


@dataclass
class CommandSwitch:
    """An engine of somebody else, by two shell commands (`docker kill NAME`, `docker start NAME`)."""

    down_command: str
    up_command: str

    def down(self) -> None:
        subprocess.run(self.down_command, shell=True, check=True)

    def up(self) -> None:
        subprocess.run(self.up_command, shell=True, check=True)


@dataclass
class FaultEngines:
    """The engines of a run. A switch is missing where nobody said how to take that engine away."""

    kafka: str = ""
    mongo: str = ""
    switches: dict[str, Switch] = field(default_factory=dict)
    closers: list[Callable[[], None]] = field(default_factory=list)

    @classmethod
    def started(
        cls, directory: Path, kafka: str | None, mongo: str | None, switches: dict[str, Switch]
    ) -> FaultEngines:
        engines = cls(kafka or "", mongo or "", switches)
        if not engines.kafka:
            broker = EmbeddedBroker(directory / "broker", ports.choose("broker"))
            broker.start()
            engines.kafka = broker.bootstrap_servers
            engines.switches["broker"] = EmbeddedBrokerSwitch(broker)
            engines.closers.append(broker.stop)
        if not engines.mongo:
            database = EmbeddedDatabase(directory / "database", ports.choose("database"))
            database.start()
            engines.mongo = database.url
            engines.switches["database"] = EmbeddedDatabaseSwitch(database)
            engines.closers.append(database.stop)
        return engines

    def stop(self) -> None:
        for close in reversed(self.closers):
            close()


@dataclass
class Replica:
    """One process of a service."""

    member: Member
    number: int
    port: int
    environment: dict[str, str]
    log: Path
    journal: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    """Started again when it dies."""
    stopped_until: float | None = None
    down_since: float | None = None
    arm: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.member.name}-{self.number}"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        armed = {"PARLEY_FAILPOINTS": ",".join(f"{name}=kill" for name in self.arm)} if self.arm else {}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.member.command(),
                env=self.environment | armed,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=follow_parent(),
            )

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def journal_lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []


class ConfigurationRefused(RuntimeError):
    """A process ended with the code that says: starting again will not help."""


@dataclass(frozen=True)
class Recovery:
    """From the end of a fault to the moment when what it hit worked again."""

    what: str
    seconds: float


class FaultLine:
    """All processes of a run. Everything is called from the main thread, `tend` as often as possible."""

    def __init__(
        self, directory: Path, engines: FaultEngines, *, replicas: int = 1, namespace: str = ""
    ) -> None:
        self.directory = directory
        self.engines = engines
        self.state = LineState(
            clock_file=directory / CLOCK,
            namespace=namespace,
            kafka_bootstrap_servers=engines.kafka,
            mongo_url=engines.mongo,
        )
        self.recoveries: list[Recovery] = []
        self.on_death: Callable[[Replica, int], None] = lambda replica, code: None
        self._looked = 0.0
        self._http = httpx.Client(timeout=1)
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        self.replicas: list[Replica] = []
        for member in MEMBERS:
            port = ports.choose(member.name)
            log = directory / "logs" / f"{member.name}.log"
            url = f"http://{ports.LOOPBACK}:{port}"
            self.state.services[member.name] = MemberState(url=url, port=port, log=log)
        for member in MEMBERS:
            for number in range(1 if member.name == CARRIER else replicas):
                self.replicas.append(self._replica(member, number))

    @property
    def parley(self) -> Parley:
        urls = {name: service.url for name, service in self.state.services.items()}
        return Parley(urls, self.engines.kafka, self.state.namespace)

    @property
    def carrier_journal(self) -> Path:
        return self.directory / "carrier.jsonl"

    @property
    def services(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.member.name != CARRIER]

    def named(self, name: str) -> Replica:
        return next(replica for replica in self.replicas if replica.name == name)

    def add(self, service: str) -> Replica:
        """One more replica, started."""
        member = next(member for member in MEMBERS if member.name == service)
        number = max(r.number for r in self.replicas if r.member.name == service) + 1
        replica = self._replica(member, number)
        self.replicas.append(replica)
        replica.start()
        replica.down_since = time.monotonic()
        return replica

    def start(self, patience: float = 120.0) -> None:
        make_topics(self.engines.kafka, self.state.namespace)
        for replica in self.replicas:
            replica.start()
            replica.down_since = time.monotonic()
        self.wait(lambda: all(replica.down_since is None for replica in self.replicas), "readiness", patience)
        self.recoveries.clear()

    def wait(self, until: Callable[[], bool], what: str, patience: float) -> None:
        deadline = time.monotonic() + patience
        while not until():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {patience:g} s for {what}")
            self.tend()
            time.sleep(0.05)

    def kill(self, replica: Replica) -> None:
        replica.signal(signal.SIGKILL)

    def freeze(self, replica: Replica, seconds: float) -> None:
        replica.signal(signal.SIGSTOP)
        replica.stopped_until = time.monotonic() + seconds

    @contextmanager
    def silent(self) -> Iterator[None]:
        """All services frozen, and a moment for what they had written to a socket to be answered."""
        awake = [replica for replica in self.services if replica.alive and replica.stopped_until is None]
        for replica in awake:
            replica.signal(signal.SIGSTOP)
        try:
            time.sleep(_ANSWERED_SECONDS)
            yield
        finally:
            for replica in awake:
                replica.signal(signal.SIGCONT)

    def tend(self) -> None:
        """Start again what died, wake what was frozen long enough, notice what is well again."""
        now = time.monotonic()
        for replica in self.replicas:
            if replica.stopped_until is not None and now >= replica.stopped_until:
                replica.stopped_until = None
                replica.signal(signal.SIGCONT)
                replica.down_since = replica.down_since or now
            if (
                replica.wanted
                and replica.process is not None
                and (code := replica.process.poll()) is not None
            ):
                if code == _CONFIGURATION:
                    raise ConfigurationRefused(f"{replica.name} refuses to start (log: {replica.log})")
                replica.stopped_until = None
                replica.down_since = replica.down_since or now
                self.on_death(replica, code)
                replica.start()
        if now - self._looked > _LOOK_EVERY:
            self._looked = now
            self._notice_recoveries()

    def stop(self) -> None:
        """Drain the services, then the carrier."""
        for replica in self.replicas:
            replica.wanted = False
            replica.signal(signal.SIGCONT)
        self._end(self.services)
        self._end([replica for replica in self.replicas if replica.member.name == CARRIER])

    def stop_services(self) -> None:
        for replica in self.services:
            replica.wanted = False
        self._end(self.services)

    def start_services(self) -> None:
        for replica in self.services:
            replica.wanted = True
            replica.start()
            replica.down_since = time.monotonic()
        self.wait(lambda: all(r.down_since is None for r in self.services), "readiness", 120)

    def _end(self, replicas: Sequence[Replica]) -> None:
        for replica in replicas:
            replica.signal(signal.SIGTERM)
        deadline = time.monotonic() + _DRAIN_SECONDS
        for replica in replicas:
            if replica.process is None:
                continue
            try:
                replica.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                replica.process.kill()
                replica.process.wait()

    def _replica(self, member: Member, number: int) -> Replica:
        place = self.state.services[member.name]
        port = place.port if number == 0 else ports.choose(member.name)
        name = f"{member.name}-{number}"
        journal = self.directory / "logs" / f"{name}.failpoints"
        env = environment.of(member, port, self.state, self.directory)
        if member.name != CARRIER:
            env |= {"PARLEY_INSTANCE": name, "PARLEY_FAILPOINT_JOURNAL": str(journal)}
        return Replica(member, number, port, env, self.directory / "logs" / f"{name}.log", journal)

    def _notice_recoveries(self) -> None:
        for replica in self.replicas:
            if replica.down_since is not None and replica.alive and self._is_well(replica):
                self.recoveries.append(Recovery(replica.name, time.monotonic() - replica.down_since))
                replica.down_since = None

    def _is_well(self, replica: Replica) -> bool:
        path = "control/stats" if replica.member.name == CARRIER else "readyz"
        try:
            answer = self._http.get(f"http://{ports.LOOPBACK}:{replica.port}/{path}")
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json().get("consuming", True) is True


def external(name: str) -> str | None:
    return os.environ.get(name) or None
