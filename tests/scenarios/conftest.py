"""The whole line in one process, so that a test may rewind it, or as `parley up` runs it, to be killed."""

from __future__ import annotations

import importlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from carrier.main import Carrier
from carrier.settings import Settings as CarrierSettings
from cli.accounts import Equation
from cli.api import Api
from cli.demo.marker import Marker, prepare
from cli.demo.own_line import OwnLine
from cli.demo.play import Play
from cli.engines import ports
from cli.found import Parley
from cli.line.members import CARRIER
from cli.line.state import CLOCK, LineState
from contracts import catalogue
from servicekit.clock import DrivenClock
from servicekit.service import Service
from tests.engines import Engines
from tests.faults.evidence import gather
from tests.faults.judge import Finding, judge, report
from tests.kit import Wire, eventually, rewind, running, settled
from tests.services import SERVICES

DAYS = 2.0
"""Of the demonstration's week: time for replies, silence, a second try and a follow-up."""


@dataclass
class WholeLine:
    """All seven services and the carrier on one event loop."""

    engines: Engines
    namespace: str
    directory: Path
    services: dict[str, Service] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def parley(self) -> Parley:
        return Parley(self.urls, self.engines.kafka, self.namespace)

    def play(self, contacts: int) -> list[Equation]:
        """The demonstration's week; blocks, so call it in a thread."""
        marker, _ = prepare(self.directory / "demo", contacts, seed=7, days=DAYS)
        return perform(self.parley, self.directory / "demo", marker)

    async def rest(self) -> None:
        await settled(*self.services.values(), within=300)

    async def judged(self) -> list[Finding]:
        journal = self.directory / "carrier.jsonl"
        return judge(await gather(self.engines.kafka, self.engines.mongo, journal, self.namespace))

    async def state(self) -> dict[str, list[Any]]:
        """Everything that the services know, but for leases and answers kept for repeats."""
        known: dict[str, list[Any]] = {}
        for name, service in self.services.items():
            for collection in sorted(await service.mongo.database.list_collection_names()):
                if collection not in ("leases", "idempotency_keys", "outbox"):
                    rows = [row async for row in service.mongo[collection].find({})]
                    known[f"{name}/{collection}"] = sorted(map(repr, rows))
        return known

    async def rewind(self) -> int:
        """Send every consumer group back to the beginning; returns how many there are."""
        return sum([await rewind(service) for service in self.services.values()])


def perform(parley: Parley, directory: Path, marker: Marker, check: Any = lambda: None) -> list[Equation]:
    with Api(parley, patience=60) as api, Progress(console=Console(quiet=True)) as bars:
        clock = DrivenClock(directory / CLOCK)
        play = Play(api, directory, marker, bars, check, clock)
        play.perform()
        return play.books()


@asynccontextmanager
async def whole_line(engines: Engines, namespace: str, directory: Path) -> AsyncIterator[WholeLine]:
    line = WholeLine(engines, namespace, directory)
    (directory / "demo").mkdir()
    clock = DrivenClock(directory / "demo" / CLOCK)
    sms_port, carrier_port = ports.choose("channel-sms"), ports.choose("carrier")
    async with AsyncExitStack() as stack:
        carrier = Carrier(
            CarrierSettings(
                port=carrier_port,
                journal=directory / "carrier.jsonl",
                clock_file=clock.path,
                inbound_url=f"http://127.0.0.1:{sms_port}/v1/webhooks/sms/inbound",
            )
        )
        await stack.enter_async_context(carrier.running())
        line.urls[CARRIER] = carrier.url
        for name in SERVICES:
            package = name.replace("-", "_")
            own: dict[str, Any] = {"sms_provider_url": carrier.url} if name == "channel-sms" else {}
            service = await stack.enter_async_context(
                running(
                    importlib.import_module(f"{package}.main").build,
                    importlib.import_module(f"{package}.settings").Settings,
                    engines,
                    namespace,
                    clock=clock,
                    port=sms_port if name == "channel-sms" else 0,
                    **own,
                )
            )
            line.services[name] = service
            line.urls[name] = f"http://127.0.0.1:{service.port}"
        yield line


@dataclass
class Processes:
    """`parley up`, each service a process of its own."""

    directory: Path
    line: OwnLine

    def pid(self, service: str) -> int:
        state = LineState.read(self.directory)
        assert state is not None
        pid = state.services[service].pid
        assert pid is not None
        return pid

    async def judged(self) -> list[Finding]:
        state = LineState.read(self.directory)
        assert state is not None
        return judge(
            await gather(state.kafka_bootstrap_servers, state.mongo_url, self.directory / "carrier.jsonl")
        )


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[Processes, Marker]]:
    marker, _ = prepare(tmp_path / "demo", contacts=150, seed=3, days=DAYS)
    started = OwnLine.started(tmp_path / "demo")
    try:
        yield Processes(tmp_path / "demo", started), marker
    finally:
        started.stop()


def assert_kept(findings: list[Finding]) -> None:
    assert all(finding.kept for finding in findings), "\n" + report(findings)


def assert_balanced(books: list[Equation]) -> None:
    assert [equation.document() for equation in books if not equation.holds] == []


async def assert_nowhere(line: WholeLine, wire: Wire, traces: set[str]) -> None:
    """In no database, once all is done, and in nothing that compaction leaves of a topic."""
    places: set[str] = set()

    async def nowhere() -> bool:
        nonlocal places
        places = await places_with(line, traces)
        return not places

    try:
        await eventually(nowhere, f"no trace of {traces}", within=60)
    except AssertionError as still:
        raise AssertionError(f"there are traces in {places}") from still
    await line.rest()
    for topic in {message.wire.topic for message in catalogue.MESSAGES if message.wire.topic.compacted}:
        newest = {record.key: record.value for record in await wire.records(topic.name)}
        assert [key for key, value in newest.items() if value and has_one(value.decode(), traces)] == []


async def places_with(line: WholeLine, traces: set[str]) -> set[str]:
    """Where they are kept; but for the note of the erasure itself, which goes after ten minutes."""
    state = await line.state()
    return {
        place
        for place, rows in state.items()
        if not place.endswith("/erasures") and any(has_one(row, traces) for row in rows)
    }


def has_one(text: str, traces: set[str]) -> bool:
    return any(trace in text for trace in traces)


class Worker(threading.Thread):
    """A thread whose result or error can be asked for."""

    def __init__(self, work: Any) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # handed to whoever waits
            self.error = error

    def outcome(self, timeout: float) -> Any:
        self.join(timeout)
        assert not self.is_alive(), f"still at work after {timeout:g} s"
        if self.error is not None:
            raise self.error
        return self.result
