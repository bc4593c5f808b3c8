"""A storm: a seeded sequence of everything that can go wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
from pymongo import MongoClient

from tests.faults.line import EmbeddedBrokerSwitch, Recovery
from tests.faults.load import BEHAVIOUR
from tests.faults.scene import Pace, Scene, Stage, scene

_STORM = {
    "kill": 10,
    "freeze": 4,
    "misbehave": 4,
    "kill carrier": 1,
    "freeze carrier": 1,
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
    {"latency_ms": 12_000},
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
            case "freeze carrier":
                # What is in its sockets is accepted, if at all, when its senders have long given it up.
                self._run.line.freeze(self._run.line.named("carrier-0"), length)
                self._run.note("SIGSTOP", "carrier-0", length)
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
        if isinstance(switch, EmbeddedBrokerSwitch):
            # It goes on confirming while it saves itself, and forgets that: nobody may write meanwhile.
            with self._run.line.silent():
                switch.down()
        else:
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


def storm(stage: Stage, faults: int, longest_outage: float, replicas: int = 1) -> None:
    report = stage.report
    chance = random.Random(report.seed)
    pace = Pace(faults, waves=max(2, min(faults // 2, report.size // 25)))
    with scene(stage, replicas, waves=pace.waves, pace=pace) as run:
        run.line.start()
        run.begin()
        weather = Storm(run, chance, longest_outage)
        run.await_first_wave()
        while pace.struck < faults:
            _tend(run, weather, chance.uniform(0.3, 3.0))
            if not run.load.is_alive() or run.load.phase == "coming to rest":
                report.problems.append(f"the load ended after {pace.struck} of {faults} faults")
                break
            weather.strike()
            pace.struck += 1
        while not weather.over:
            _tend(run, weather, 0.2)
        run.rest()
        run.judge()
    missing = {"broker", "database"} - stage.engines.switches.keys()
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
