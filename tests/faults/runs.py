"""The runs: each does its worst to a line at work, lets it come to rest, and has it judged."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pymongo import MongoClient

from tests.faults.judge import DATABASES, gather, judge
from tests.faults.line import FaultEngines, FaultLine, Recovery, Replica
from tests.faults.load import BEHAVIOUR, RATE, Load
from tests.faults.report import Fault, Report

_AT_REST_SECONDS = 1500.0
_UNCERTAIN = frozenset({"leases", "idempotency_keys", "outbox"})
"""Collections that say nothing about the business, only about who works and what was answered."""


@dataclass
class Scene:
    """One run at work."""

    line: FaultLine
    load: Load
    report: Report
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def note(self, kind: str, victim: str, seconds: float = 0.0, detail: str = "") -> None:
        self.report.faults.append(Fault(round(self.elapsed, 1), kind, victim, seconds, detail))

    def tend(self, seconds: float = 0.0) -> None:
        """Look after the processes for a while, or once."""
        until = time.monotonic() + seconds
        while True:
            self.line.tend()
            if self.load.error is not None:
                raise self.load.error
            if time.monotonic() >= until:
                return
            time.sleep(0.05)

    def rest(self) -> None:
        """Until the load says that nothing moves any more."""
        self.line.wait(lambda: not self.load.is_alive(), "the line to come to rest", _AT_REST_SECONDS)
        if self.load.error is not None:
            raise self.load.error

    def judge(self) -> None:
        evidence = asyncio.run(
            gather(
                self.line.engines.kafka,
                self.line.engines.mongo,
                self.line.carrier_journal,
                self.line.state.namespace,
                self.load.given.path,
            )
        )
        self.report.findings = judge(evidence)


@contextmanager
def scene(
    report: Report, directory: Path, engines: FaultEngines, namespace: str, replicas: int = 1, **load: Any
) -> Iterator[Scene]:
    """A started line and a load that has not begun; the processes are drained at the end."""
    line = FaultLine(directory, engines, replicas=replicas, namespace=namespace)
    work = Load(line.parley, engines.mongo, directory, size=report.size, seed=report.seed, **load)
    made = Scene(line, work, report)
    try:
        yield made
    except Exception as error:
        work.cancel()
        report.problems.append(f"{type(error).__name__}: {error} (the load was in {work.phase})")
    finally:
        line.stop()
        report.recoveries.extend(line.recoveries)
        report.seconds = round(made.elapsed, 1)


# Every failpoint once


def sweep(report: Report, directory: Path, engines: FaultEngines, namespace: str, patience: float) -> None:
    """Arm every failpoint that has not killed its service yet; whichever is reached first does."""
    left: dict[str, set[str]] = {}

    def unfinished(wave: int) -> bool:
        return wave == 0 or (any(left.values()) and time.monotonic() < deadline)

    deadline = time.monotonic() + patience
    each = max(6, report.size // 10)
    with scene(
        report,
        directory,
        engines,
        namespace,
        waves=max(1, report.size // each),
        stirred=True,
        more=unfinished,
    ) as run:

        def died(replica: Replica, code: int) -> None:
            killed_at = [line.split()[0] for line in replica.journal_lines() if line.endswith(" kill")]
            done = report.failpoints.setdefault(replica.member.name, [])
            for name in killed_at[len(done) :]:
                done.append(name)
                run.note("kill at failpoint", replica.name, detail=name)
            left[replica.member.name] = left.get(replica.member.name, set()) - set(done)
            replica.arm = sorted(left[replica.member.name])
            if code != -9:
                report.problems.append(f"{replica.name} ended with code {code}")

        run.line.start()
        for replica in run.line.services:
            lines = replica.journal_lines()
            left[replica.member.name] = {line.split()[0] for line in lines if line.endswith(" declared")}
            replica.arm = sorted(left[replica.member.name])
        run.line.stop_services()
        run.line.start_services()
        run.line.recoveries.clear()
        run.line.on_death = died
        run.began = time.monotonic()
        run.load.start()
        run.rest()
        report.not_reached = sorted(f"{service}: {name}" for service, names in left.items() for name in names)
        run.judge()


# A storm


_STORM = {
    "kill": 10,
    "freeze": 4,
    "misbehave": 4,
    "kill carrier": 1,
    "carrier away": 1,
    "broker restart": 1,
    "broker away": 1,
    "database restart": 1,
    "database away": 1,
}
_MOODS: tuple[dict[str, float], ...] = (
    {"error_before": 0.3},
    {"reset_before": 0.2, "reset_after": 0.1},
    {"error_after": 0.2},
    {"timeout_after": 0.05, "timeout_seconds": 30},
    {"rate_limited": 0.5},
    {"latency_ms": 500},
)


class Storm:
    """A seeded sequence of faults: the same seed draws the same ones."""

    def __init__(self, run: Scene, chance: random.Random, longest_outage: float) -> None:
        self._run = run
        self._chance = chance
        self._longest = longest_outage
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._away: set[str] = set()
        self._probes = Probes(run)
        switches = run.line.engines.switches
        self._kinds = {
            kind: weight
            for kind, weight in _STORM.items()
            if kind.split()[0] not in ("broker", "database") or kind.split()[0] in switches
        }

    def strike(self) -> None:
        kind = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        victim = self._chance.choice(self._run.line.services)
        length = round(self._chance.uniform(5, self._longest), 1)
        frozen = round(self._chance.uniform(11, max(12, min(25, self._longest))), 1)
        mood = self._chance.choice(_MOODS)
        match kind:
            case "kill":
                self._run.line.kill(victim)
                self._run.note("SIGKILL", victim.name)
            case "freeze":
                self._run.line.freeze(victim, frozen)
                self._run.note("SIGSTOP", victim.name, frozen)
            case "misbehave":
                self._carrier("behaviour", BEHAVIOUR | mood)
                self._run.note("misbehaviour", "carrier", length, str(mood))
                self._after(length, lambda: self._carrier("behaviour", BEHAVIOUR | _calm(mood)))
            case "kill carrier":
                self._run.line.kill(self._run.line.named("carrier-0"))
                self._run.note("SIGKILL", "carrier-0")
            case "carrier away":
                self._carrier("outage", {"seconds": min(length, 30)})
                self._run.note("outage", "carrier", min(length, 30))
            case _:
                engine, _, how = kind.partition(" ")
                self._take_away(engine, 0.5 if how == "restart" else length)

    def tend(self) -> None:
        now = time.monotonic()
        due = [work for at, work in self._later if at <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for work in due:
            work()
        self._probes.look()

    @property
    def over(self) -> bool:
        return not self._later and not self._probes.waiting

    def _take_away(self, engine: str, seconds: float) -> None:
        if engine in self._away:
            self._run.note("spared", engine, detail="it was away already")
            return
        self._away.add(engine)
        switch = self._run.line.engines.switches[engine]
        self._run.note("restart" if seconds < 1 else "outage", engine, seconds)
        switch.down()

        def back() -> None:
            switch.up()
            self._away.discard(engine)
            self._probes.ask(engine)

        self._after(seconds, back)

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, work))

    def _carrier(self, what: str, body: dict[str, float]) -> None:
        url = self._run.line.parley.url("carrier")
        with suppress(httpx.HTTPError):  # it may be dead at the moment, which is misbehaviour as well
            httpx.post(f"{url}/control/{what}", json=body, timeout=5)


def _calm(mood: dict[str, float]) -> dict[str, float]:
    return {name: BEHAVIOUR.get(name, 5 if name == "latency_ms" else 0) for name in mood}


class Probes:
    """After an engine was away: how long until a new contact is known two services further on."""

    def __init__(self, run: Scene) -> None:
        self._run = run
        self._asked: dict[str, tuple[str, float]] = {}
        self._number = 0
        self._looked = 0.0
        prefix = f"{run.line.state.namespace}-" if run.line.state.namespace else ""
        self._mongo: MongoClient[dict[str, Any]] = MongoClient(
            run.line.engines.mongo, serverSelectionTimeoutMS=500
        )
        self._known = self._mongo[f"{prefix}parley-activities"]["contacts"]

    @property
    def waiting(self) -> bool:
        return bool(self._asked)

    def ask(self, engine: str) -> None:
        self._number += 1
        self._asked[f"probe-{self._number}"] = (engine, time.monotonic())

    def look(self) -> None:
        if time.monotonic() - self._looked < 0.5:
            return
        self._looked = time.monotonic()
        for probe, (engine, since) in list(self._asked.items()):
            with suppress(Exception):
                if (contact_id := self._made(probe)) and self._known.find_one({"_id": contact_id}):
                    self._run.line.recoveries.append(Recovery(engine, time.monotonic() - since))
                    del self._asked[probe]

    def _made(self, probe: str) -> str | None:
        body = {
            "contact_type": "customer",
            "external_id": probe,
            "first_name": "Probe",
            "phones": [{"number": f"+1202555{int(probe.rpartition('-')[2]) % 100 + 100:04}"}],
            "time_zone": "America/New_York",
        }
        url = self._run.line.parley.url("contacts")
        answer = httpx.post(f"{url}/v1/contacts", json=body, headers={"Idempotency-Key": probe}, timeout=2)
        return str(answer.json()["contact_id"]) if answer.is_success else None


def storm(
    report: Report,
    directory: Path,
    engines: FaultEngines,
    namespace: str,
    faults: int,
    longest_outage: float,
    replicas: int = 1,
) -> None:
    chance = random.Random(report.seed)
    waves = max(2, min(faults // 2, report.size // 25))
    struck = 0
    with scene(
        report,
        directory,
        engines,
        namespace,
        replicas,
        waves=waves,
        pace=lambda wave: struck >= faults or wave * faults <= struck * waves,
    ) as run:
        run.line.start()
        run.began = time.monotonic()
        run.load.start()
        weather = Storm(run, chance, longest_outage)
        run.line.wait(lambda: run.load.phase == "wave 0" or not run.load.is_alive(), "the load", 120)
        while struck < faults:
            _tend(run, weather, chance.uniform(0.3, 3.0))
            if not run.load.is_alive() or run.load.phase == "coming to rest":
                report.problems.append(f"the load ended after {struck} of {faults} faults")
                break
            weather.strike()
            struck += 1
        while not weather.over:
            _tend(run, weather, 0.2)
        run.rest()
        run.judge()
    missing = {"broker", "database"} - engines.switches.keys()
    for engine in sorted(missing):
        report.notes.append(f"the {engine} was left alone: nobody said how to take it away")


def _tend(run: Scene, weather: Storm, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        weather.tend()
        run.tend()
        if time.monotonic() >= until:
            return
        time.sleep(0.05)


# Rewinds


def rewind(report: Report, directory: Path, engines: FaultEngines, namespace: str) -> None:
    with scene(report, directory, engines, namespace, waves=2) as run:
        run.line.start()
        run.began = time.monotonic()
        run.load.start()
        run.rest()
        run.judge()
        before = known(run)
        for turn in (1, 2):
            run.line.stop_services()
            groups = asyncio.run(to_the_beginning(engines, namespace))
            run.note("rewind", f"{groups} consumer groups", detail=f"turn {turn}")
            if groups == 0:
                report.problems.append("there was no consumer group to rewind")
            run.line.start_services()
            run.line.wait(lambda: caught_up(run), "the groups to catch up", 300)
            changed = sorted(place for place, rows in known(run).items() if rows != before.get(place))
            report.problems += [f"rewind {turn} changed {place}" for place in changed]
        run.judge()


def known(run: Scene) -> dict[str, list[str]]:
    """Everything that the services know."""
    prefix = f"{run.line.state.namespace}-" if run.line.state.namespace else ""
    found: dict[str, list[str]] = {}
    with MongoClient[dict[str, Any]](run.line.engines.mongo) as client:
        for name in DATABASES:
            database = client[f"{prefix}parley-{name}"]
            for collection in sorted(database.list_collection_names()):
                if collection not in _UNCERTAIN:
                    found[f"{name}/{collection}"] = sorted(map(repr, database[collection].find({})))
    return found


async def to_the_beginning(engines: FaultEngines, namespace: str) -> int:
    """Commit the first offset of each partition for every group; the groups must be empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=engines.kafka)
    await admin.start()
    try:
        names = [name for name, _ in await admin.list_consumer_groups()]
        ours = [name for name in names if name.startswith(f"{namespace}.") or not namespace]
        rewound = 0
        for group in ours:
            offsets = await admin.list_consumer_group_offsets(group)
            if offsets:
                await _commit_beginning(engines.kafka, group, list(offsets))
                rewound += 1
        return rewound
    finally:
        await admin.close()


async def _commit_beginning(kafka: str, group: str, partitions: list[TopicPartition]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    consumer.assign(partitions)
    await consumer.start()
    try:
        beginnings = await consumer.beginning_offsets(partitions)
        deadline = time.monotonic() + 60
        while True:
            try:
                await consumer.commit(beginnings)
                return
            except KafkaError:
                # A member that left without a word is counted until its session ends.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1)
    finally:
        await consumer.stop()


def caught_up(run: Scene) -> bool:
    """No lag, nothing in hand and nothing unpublished, five looks in a row."""
    for _ in range(5):
        for replica in run.line.services:
            text = httpx.get(f"http://127.0.0.1:{replica.port}/metrics", timeout=5).text
            for line in text.splitlines():
                name, _, value = line.rpartition(" ")
                waiting = ("parley_lag_messages", "parley_batches_in_hand", "parley_outbox_rows")
                if name.startswith(waiting) and float(value) > 0:
                    return False
        run.tend(0.3)
    return True


# Replicas


def replicas(report: Report, directory: Path, engines: FaultEngines, namespace: str, faults: int) -> None:
    """Two of each; then a third one comes, others die for longer than their session, and come back."""
    chance = random.Random(report.seed)
    struck = 0
    with scene(
        report,
        directory,
        engines,
        namespace,
        2,
        waves=max(2, faults // 3),
        pace=lambda wave: struck >= faults or wave * faults <= struck * max(2, faults // 3),
    ) as run:
        run.line.start()
        run.began = time.monotonic()
        run.load.start()
        names = sorted({replica.member.name for replica in run.line.services})
        for number in range(faults):
            run.tend(chance.uniform(1.0, 4.0))
            service = names[number % len(names)]
            alive = [r for r in run.line.services if r.member.name == service and r.wanted]
            victim = chance.choice(alive)
            if number < len(names):
                run.note("third replica", run.line.add(service).name)
            elif chance.random() < 0.4:
                run.line.freeze(victim, 15)
                run.note("SIGSTOP", victim.name, 15)
            elif chance.random() < 0.5 and len(alive) > 1 and victim.number > 0:
                victim.wanted = False
                run.line.kill(victim)
                run.note("SIGKILL for good", victim.name)
            else:
                run.line.kill(victim)
                run.note("SIGKILL", victim.name)
            struck += 1
        run.rest()
        run.judge()


# The clock


def clock(report: Report, directory: Path, engines: FaultEngines, namespace: str, faults: int) -> None:
    """Business time leaps ahead by up to a day and back by up to six hours, with everything in flight."""
    chance = random.Random(report.seed)
    struck = 0
    waves = max(2, faults // 2)
    with scene(
        report,
        directory,
        engines,
        namespace,
        waves=waves,
        pace=lambda wave: struck >= faults or wave * faults <= struck * waves,
    ) as run:
        run.line.start()
        run.began = time.monotonic()
        run.load.start()
        run.line.wait(lambda: run.load.phase == "wave 0" or not run.load.is_alive(), "the load", 120)
        for _ in range(faults):
            run.tend(chance.uniform(0.5, 3.0))
            hours = chance.choice((-6.0, -1.0, -0.1, 0.5, 3.0, 24.0))
            run.load.clock.set(run.load.clock.now() + timedelta(hours=hours), rate=RATE)
            run.note("clock", f"{hours:+g} h")
            struck += 1
        run.rest()
        run.judge()
