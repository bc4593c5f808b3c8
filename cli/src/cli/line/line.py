"""Everything that `parley up` runs, as one thing that starts, is watched, and stops."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.engines import ports
from cli.exits import Failure, Unavailable, WrongConfiguration
from cli.line import environment
from cli.line.chosen_engines import ChosenEngines, make_topics
from cli.line.members import CARRIER, Member
from cli.line.state import CLOCK, LineState, MemberState
from cli.line.supervisor import Say, Supervisor, stop_leftovers

_READY_SECONDS = 300.0
"""A service that ends by itself is told at once; this is for a machine that is too busy."""
_EMBEDDED_RETENTION_BYTES = 1024**3
"""The embedded broker gets slow with what it keeps."""


@dataclass(frozen=True)
class Wanted:
    """What the person asked for."""

    members: Sequence[Member]
    kafka_port: int | None = None
    mongo_port: int | None = None
    ports_from: int | None = None
    namespace: str = ""
    channels: Sequence[str] = ()
    """Further than Parley's own: worked by services that somebody else runs."""


class Line:
    """The engines and the services on one data directory.

    Call everything from the main thread: the processes end with it, however it ends.
    """

    def __init__(self, data_dir: Path, wanted: Wanted, say: Say) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._wanted = wanted
        self._say = say
        self._before = LineState.read(self.data_dir)
        self._engines = ChosenEngines(
            self.data_dir,
            wanted.kafka_port or self._free_again("kafka_port"),
            wanted.mongo_port or self._free_again("mongo_port"),
        )
        self._supervisor = Supervisor(say)
        channels = (*(self._before.channels if self._before else ()), *wanted.channels)
        self.state = LineState(
            clock_file=self.data_dir / CLOCK,
            namespace=wanted.namespace,
            channels=tuple(dict.fromkeys(channels)),
        )

    def start(self) -> None:
        """Returns when every service consumes; nothing is left behind when it raises a Failure."""
        self._check_ports()
        try:
            self._start_engines()
            self._start_services()
            self._wait_until_ready()
        except WrongConfiguration as failure:
            taken = self._taken_meanwhile()
            self.stop()
            if taken is None:
                raise
            raise taken from failure
        except BaseException:
            self.stop()
            raise

    def watch(self) -> None:
        """Look once at everything; raises a Failure when it cannot go on."""
        self._engines.check()
        if self._supervisor.watch():
            self._remember()

    def stop(self) -> None:
        """Services first, with time to drain; then the carrier; then the engines, which save."""
        if self.state.pid is not None:
            self.state.ready = False
            self._tell_state()
        self._supervisor.stop()
        if self.state.pid is not None:
            self.state.pid = None
            for service in self.state.services.values():
                service.pid = None
            self._tell_state()
        self._engines.stop()

    def _tell_state(self) -> None:
        """On a full disk the old state stays: its processes are gone, and every reader looks for them."""
        with suppress(OSError):
            self.state.write(self.data_dir)

    def hurry(self) -> None:
        """Do not wait for services to drain."""
        self._supervisor.hurry()

    def _check_ports(self) -> None:
        """Before time goes into engines. What an earlier run holds is looked at once that is stopped."""
        if self._wanted.ports_from is None:
            return
        before = self._before.services if self._before else {}
        ours = {service.port for service in before.values() if service.pid is not None}
        for member in self._wanted.members:
            port = _asked_port(member, self._wanted.ports_from)
            if port not in ours:
                _check_free(member, port)

    def _start_engines(self) -> None:
        endpoints = self._engines.start()
        # Only the holder of the data directory may touch what an earlier run left there.
        if self._before is not None:
            stop_leftovers({name: s.pid for name, s in self._before.services.items() if s.pid is not None})
        self.state.pid = os.getpid()
        self.state.kafka_bootstrap_servers = endpoints.bootstrap_servers
        self.state.mongo_url = endpoints.mongo_url
        self.state.kafka_port, self.state.mongo_port = self._engines.kafka_port, self._engines.mongo_port
        made = make_topics(
            endpoints.bootstrap_servers,
            self.state.namespace,
            channels=self.state.channels,
            retention_bytes=_EMBEDDED_RETENTION_BYTES if self._engines.kafka_port is not None else None,
        )
        if made.keep_less:
            self._say(str(made))

    def _start_services(self) -> None:
        taken: set[int] = set()
        for member in self._wanted.members:
            port = self._port_of(member, taken)
            taken.add(port)
            self.state.services[member.name] = MemberState(
                url=f"http://{ports.LOOPBACK}:{port}",
                port=port,
                log=self.data_dir / "logs" / f"{member.name}.log",
            )
        for member in self._wanted.members:
            where = self.state.services[member.name]
            env = environment.of(member, where.port, self.state, self.data_dir)
            self._supervisor.add(member, env, where.log)
        self._supervisor.start()
        self._remember()

    def _wait_until_ready(self) -> None:
        waiting = [member.name for member in self._wanted.members]
        deadline = time.monotonic() + _READY_SECONDS
        with httpx.Client(timeout=2) as client:
            while waiting:
                self.watch()
                pids = self._supervisor.pids()
                waiting = [
                    name
                    for name in waiting
                    if not _ready(client, name, self.state.services[name], pids.get(name))
                ]
                if waiting and time.monotonic() > deadline:
                    raise Unavailable(_not_ready(waiting, self.state.services[waiting[0]].log))
                time.sleep(0.1)
        self.state.ready = True
        self._remember()

    def _taken_meanwhile(self) -> Failure | None:
        """A port that was free when it was chosen may belong to another program when a service listens."""
        pids = self._supervisor.pids()
        for name, service in self.state.services.items():
            if self._wanted.ports_from is None and name not in pids and not ports.is_free(service.port):
                return Unavailable(
                    f"Another program took port {service.port} while {name} started: "
                    "the same command again takes another one."
                )
        return None

    def _remember(self) -> None:
        pids = self._supervisor.pids()
        for name, service in self.state.services.items():
            service.pid = pids.get(name)
        self.state.write(self.data_dir)

    def _port_of(self, member: Member, taken: set[int]) -> int:
        if self._wanted.ports_from is not None:
            port = _asked_port(member, self._wanted.ports_from)
            _check_free(member, port)
            return port
        before = self._before.services.get(member.name) if self._before else None
        for port in filter(None, (before.port if before else None, member.port)):
            if port not in taken and ports.is_free(port):
                return port
        while (port := ports.choose(member.name)) in taken:
            pass
        return port

    def _free_again(self, name: str) -> int | None:
        port: int | None = getattr(self._before, name, None)
        return port if port is not None and ports.is_free(port) else None


def _asked_port(member: Member, ports_from: int) -> int:
    return ports_from + member.port % 100


def _check_free(member: Member, port: int) -> None:
    if not ports.is_free(port):
        raise WrongConfiguration(
            f"Port {port} for {member.name} is taken by another program: choose another --ports-from."
        )


def _not_ready(waiting: Sequence[str], log: Path) -> str:
    return (
        f"Not ready after {_READY_SECONDS:.0f} seconds: {', '.join(waiting)} (log of the first: {log}). "
        "If that shows no fault, the machine is very busy; the same command starts again from here."
    )


def _ready(client: httpx.Client, name: str, where: MemberState, pid: int | None) -> bool:
    """Whether it is there, and it is ours: another line may have taken the port meanwhile."""
    if pid is None or not ports.listens(pid, where.port):
        return False
    try:
        answer = client.get(f"{where.url}/control/stats" if name == CARRIER else f"{where.url}/readyz")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.json().get("consuming", True) is True
