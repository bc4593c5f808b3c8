"""The running Parley that a command talks to."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.exits import Unavailable, WrongConfiguration, WrongUsage
from cli.line.chosen_engines import chosen_brokers
from cli.line.members import MEMBERS
from cli.line.state import LineState

_USUAL_KAFKA = "127.0.0.1:9092"


@dataclass(frozen=True)
class Parley:
    """Where everything is."""

    urls: dict[str, str] = field(default_factory=dict)
    kafka_bootstrap_servers: str = _USUAL_KAFKA
    namespace: str = ""
    isolation: str = "read_committed"
    """What its services read of the topics (`PARLEY_KAFKA_ISOLATION`)."""

    def url(self, service: str) -> str:
        try:
            return self.urls[service]
        except KeyError:
            raise Unavailable(f"The {service} service is not part of the running Parley.") from None


def find(data_dir: Path, against: str | None) -> Parley:
    """Raises a Failure when nothing can be found."""
    kafka = chosen_brokers()
    namespace = os.environ.get("PARLEY_NAMESPACE", "")
    if against:
        return Parley(_urls(against), kafka or _USUAL_KAFKA, namespace, _isolation())
    state = LineState.read(data_dir.expanduser())
    if state is None or not state.running():
        raise Unavailable(f"No Parley is running on {data_dir}; is `parley up` running there?")
    return Parley(
        {name: service.url for name, service in state.services.items()},
        state.kafka_bootstrap_servers,
        state.namespace,
        state.isolation,
    )


def _isolation() -> str:
    told = os.environ.get("PARLEY_KAFKA_ISOLATION", "read_committed")
    if told not in ("read_committed", "read_uncommitted"):
        raise WrongConfiguration(
            f"PARLEY_KAFKA_ISOLATION is {told!r}; it is one of read_committed, read_uncommitted."
        )
    return told


def listening(ports: range) -> int:
    """Docker gives a replica any port of the range, another one after each restart."""
    for port in ports:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return port
    return ports[0]


def _urls(against: str) -> dict[str, str]:
    """`compose`, a host, or NAME=URL pairs, which go over the usual ports."""
    host = "127.0.0.1"
    ports = {member.name: member.port for member in MEMBERS}
    named: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in against.split(","))):
        name, equals, url = part.partition("=")
        if name == "compose" and not equals:
            ports |= {m.name: listening(m.ports_of_compose) for m in MEMBERS if m.ports_of_compose}
        elif not equals:
            host = name
        elif not url.startswith(("http://", "https://")):
            raise WrongUsage(f"--against {part!r}: after the = comes a URL that begins with http.")
        elif name not in ports:
            raise WrongUsage(f"--against {part!r}: there is no service {name!r}.")
        elif name in named:
            raise WrongUsage(f"--against names the service {name!r} more than once; it is at one place.")
        else:
            named[name] = url.rstrip("/")
    scheme, _, bare = host.rpartition("://")
    usual = {name: f"{scheme or 'http'}://{bare.rstrip('/')}:{port}" for name, port in ports.items()}
    return usual | named
