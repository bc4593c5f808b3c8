"""The work that faults are injected into: waves of contacts, loaded, texted, called, followed up.

It uses the REST interfaces and topics that anybody may use, and writes down what it put in, so that the
judge can ask for all of it again.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from pymongo import MongoClient

from cli.api import Api, Refused
from cli.commands.apply import apply_bundle
from cli.demo.marker import next_monday
from cli.demo.numbers import numbers
from cli.demo.people import AGENTS, People
from cli.demo.quiet import Quiet
from cli.found import Parley
from cli.reading import read_yaml
from contracts import catalogue
from contracts.channel_sms import InteractionRecorded
from contracts.message import Message, wire_headers
from contracts.stats import EraseTarget, MergeTargets, Recalculate
from contracts.vocabulary import ContactId, Direction, InteractionId
from servicekit.clock import DrivenClock

RATE = 240.0
"""A minute of business time in a quarter of a second: replies, timeouts and retries overlap with faults."""
_DAYS = 5
_AT_A_TIME = timedelta(minutes=90)
_SLOWLY = 0.05
_PATIENCE = 240.0
BEHAVIOUR: dict[str, float] = {
    "receipt_delay_seconds": 30,
    "reply_delay_seconds": 60,
    "undelivered": 0.01,
    "bad_numbers": 0.01,
    "rate_limited": 0.01,
    "error_before": 0.0,
    "reset_before": 0.0,
    "error_after": 0.02,
    "reset_after": 0.0,
    "timeout_after": 0.0,
    "webhook_repeats": 0.3,
    "people_stop": 10,
    "people_silent": 15,
}
"""How the carrier behaves while nobody makes it worse."""


class Given:
    """What was put in; a file, so that a judge of its own process can read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contacts: dict[str, str] = {}
        """External id -> wave."""
        self.opted_out: list[str] = []
        self.poison: list[dict[str, str]] = []
        self.erased: list[str] = []

    def write(self) -> None:
        told = {
            "contacts": self.contacts,
            "opted_out": self.opted_out,
            "poison": self.poison,
            "erased": self.erased,
        }
        self.path.write_text(json.dumps(told))


class Load(threading.Thread):
    """The driver, a thread of its own: the main thread has the processes.

    pace(wave) blocks nothing but answers whether that wave may begin; `more` whether there is another one.
    """

    def __init__(
        self,
        parley: Parley,
        mongo: str,
        directory: Path,
        *,
        size: int,
        waves: int,
        seed: int,
        pace: Callable[[int], bool] = lambda wave: True,
        stirred: bool = False,
        more: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__(name="load", daemon=True)
        self.clock = DrivenClock(directory / "clock.json")
        self.given = Given(directory / "given.json")
        self.error: BaseException | None = None
        self.phase = "starting"
        self._parley, self._mongo = parley, mongo
        self._each = max(1, size // waves)
        self._pace = pace
        self._stirred = stirred
        self._more = more or (lambda wave: wave < waves)
        self._chance = random.Random(seed)
        self._numbers = numbers(max(size, 20_000 if stirred else size) + 10)
        self._chance.shuffle(self._numbers)
        self._began = next_monday(datetime.now(UTC)).replace(hour=15)
        self._seed = seed
        self._cancelled = threading.Event()

    def run(self) -> None:
        try:
            with Api(self._parley, timeout=30, patience=_PATIENCE) as api:
                self._api = api
                self._people = People(api, 10_000, 0)
                self._perform()
        except BaseException as error:  # handed to whoever waits
            self.error = error

    def cancel(self) -> None:
        self._cancelled.set()

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise InterruptedError("the run was ended")

    def _perform(self) -> None:
        self.clock.set(self._began, rate=RATE)
        self._api.post("carrier", "/control/behaviour", BEHAVIOUR | {"seed": self._seed})
        wave = 0
        while self._more(wave):
            while not self._pace(wave) and self._more(wave):
                self._check()
                self._work()
                time.sleep(0.3)
            self.phase = f"wave {wave}"
            self._configure(wave)
            self._wave(wave)
            if self._stirred:
                self._stir(wave)
            self._work()
            wave += 1
        self.phase = "coming to rest"
        self._api.post("carrier", "/control/behaviour", BEHAVIOUR)
        self._come_to_rest()
        self.given.write()
        self.phase = "at rest"

    def _configure(self, wave: int) -> None:
        with as_file(files("cli.sample") / "bundle.yaml") as path:
            written = read_yaml(path)
        content = written.content
        content["contact_types"][0]["fields_schema"]["properties"]["wave"] = {"type": "string"}
        content["subjects"][0]["goal"] = f"Renew the plan of a customer of wave {wave}."
        apply_bundle(self._api, written)

    def _wave(self, wave: int) -> None:
        rows = self._rows(wave)
        self._import(f"faults-{self._seed}-{wave}", rows)
        everybody = {"published_only": False, "include_opted_out": True, "fields": {"wave": f"w{wave}"}}
        self._until(
            lambda: (
                self._api.post("batch-loader", "/v1/batches/preview", {"filters": everybody})["count"]
                == len(rows)
            ),
            "the contacts to be known",
        )
        self._load(wave, "standard")
        self._load(wave, "key-account")

    def _import(self, key: str, rows: list[dict[str, str]]) -> None:
        told = self._api.send(
            "contacts",
            "/v1/imports",
            _csv(rows),
            "text/csv",
            key=key,
            contact_type="customer",
            default_region="US",
            name=key,
        )
        self._until(
            lambda: self._api.get("contacts", f"/v1/imports/{told['import_id']}")["state"] == "finished",
            "the import",
        )

    def _rows(self, wave: int) -> list[dict[str, str]]:
        rows = []
        for position in range(self._each):
            number = self._numbers[(wave * self._each + position) % len(self._numbers)]
            external_id = f"F-{wave:04}-{position:05}"
            opted_out = self._chance.random() < 0.02
            self.given.contacts[external_id] = f"w{wave}"
            if opted_out:
                self.given.opted_out.append(external_id)
            rows.append(
                {
                    "external_id": external_id,
                    "first_name": "Ada",
                    "last_name": f"Number {position}",
                    "phone": number.e164,
                    "time_zone": number.zone if self._chance.random() < 0.3 else "America/New_York",
                    "opted_out": "yes" if opted_out else "",
                    "plan": "basic",
                    "segment": "key-account" if self._chance.random() < 0.08 else "standard",
                    "wave": f"w{wave}",
                }
            )
        return rows

    def _load(self, wave: int, segment: str) -> None:
        automatic = segment == "standard"
        choices: dict[str, Any] = (
            {"campaign": "renewals", "subject": "renewal", "source": "automatic", "agent_profile": "scripted"}
            if automatic
            else {"campaign": "care", "subject": "care-call", "source": "manual", "agents": list(AGENTS)}
        )
        request = {
            "name": f"wave {wave} {segment}",
            "filters": {"contact_type": "customer", "fields": {"segment": segment, "wave": f"w{wave}"}},
            "choices": choices,
        }
        batch = self._api.post(
            "batch-loader", "/v1/batches", request, key=f"batch-{self._seed}-{wave}-{segment}"
        )
        path = f"/v1/batches/{batch['batch_id']}"
        self._api.post("batch-loader", f"{path}/load", key=f"load-{self._seed}-{wave}-{segment}")
        self._until(lambda: self._api.get("batch-loader", path)["state"] == "loaded", "the batch")

    def _work(self) -> None:
        """Agents complete what is on their lists; `People` keeps office hours."""
        now = self.clock.now()
        self._people.work(now.replace(hour=12) if now.weekday() < 5 else now)

    # What no load of this kind comes by itself to

    def _stir(self, wave: int) -> None:
        asyncio.run(self._publish(wave))
        self._corrupt_counters(wave)
        self._erase_somebody(wave)
        self._command_over_rest()
        self._import_a_large_file(wave)

    def _import_a_large_file(self, wave: int) -> None:
        """More than is kept in one piece, and nobody in it can be reached."""
        row = {"first_name": "x" * 60_000, "phone": "none"}
        self._import(f"large-{self._seed}-{wave}", [row] * 6)

    async def _publish(self, wave: int) -> None:
        now = self.clock.now()
        one, other, third = (ContactId(f"faults-{what}-{wave}") for what in ("one", "other", "third"))
        spoken = [
            InteractionRecorded(
                interaction_id=InteractionId(f"call-{wave}-{who}"),
                interaction_type="call",
                version=1,
                contact_id=who,
                direction=Direction.OUTGOING,
                occurred_at=now,
            )
            for who in (one, other, third)
        ]
        commands: list[Message] = [
            MergeTargets(command_id=f"merge-{wave}", target_id=one, survivor_id=other, occurred_at=now),
            EraseTarget(command_id=f"erase-{wave}", target_id=third, occurred_at=now),
            Recalculate(command_id=f"recalculate-{self._seed}-{wave}", occurred_at=now),
        ]
        prefix = f"{self._parley.namespace}." if self._parley.namespace else ""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._parley.kafka_bootstrap_servers, enable_idempotence=True
        )
        await producer.start()
        try:
            for message in [*spoken, *commands]:
                headers = wire_headers(message, "faults", now.isoformat())
                await producer.send_and_wait(
                    prefix + message.topic(), message.to_json(), key=message.key().encode(), headers=headers
                )
            for topic in sorted(_topics_read()):
                poison = f"poison-{wave}-{topic}"
                await producer.send_and_wait(
                    prefix + topic, b"{torn", key=b"poison", headers=[("ce_id", poison.encode())]
                )
                self.given.poison.append({"topic": topic, "ce_id": poison})
        finally:
            await producer.stop()

    def _command_over_rest(self) -> None:
        """The statistics tell what they were told, through an outbox that nothing else of theirs uses."""
        counting = {"target_type": "deal", "enabled": True}
        self._api._answer("stats", "PUT", "/v1/counting", json=counting)

    def _corrupt_counters(self, wave: int) -> None:
        """So that a recalculation has something to mend."""
        if not wave:
            return
        prefix = f"{self._parley.namespace}-" if self._parley.namespace else ""
        with MongoClient[dict[str, Any]](self._mongo, serverSelectionTimeoutMS=90_000) as client:
            client[f"{prefix}parley-stats"]["targets"].update_one(
                {"_id": {"$regex": f"faults-other-{wave - 1}$"}}, {"$set": {"channels": {}}}
            )

    def _erase_somebody(self, wave: int) -> None:
        external_id = f"erase-{wave}"
        body = {
            "contact_type": "customer",
            "external_id": external_id,
            "first_name": "Nobody",
            "phones": [{"number": "+12025550199"}],
            "time_zone": "America/New_York",
        }
        try:
            contact = self._api.post("contacts", "/v1/contacts", body, key=f"erase-{self._seed}-{wave}")
        except Refused as refused:
            raise RuntimeError(f"{refused}: {refused.problem}") from refused
        self._api._answer("contacts", "DELETE", f"/v1/contacts/{contact['contact_id']}")
        self.given.erased.append(contact["contact_id"])

    # The end

    def _come_to_rest(self) -> None:
        end = self.clock.now() + timedelta(days=_DAYS)
        quiet = Quiet(self._api, self.clock.now, self._check)
        while True:
            quiet.wait()
            self._work()
            following = self._next_time()
            if following is None or following >= end:
                break
            self.clock.set(max(following, self.clock.now()), rate=RATE)
        self.clock.set(self.clock.now(), rate=_SLOWLY)
        self._until(lambda: not self._in_doubt(), "doubtful sends to be resolved")
        quiet.wait()

    def _in_doubt(self) -> int:
        told = self._api.get("channel-sms", "/v1/messages/counts")["outgoing"]
        return int(told.get("unknown", 0) + told.get("sending", 0))

    def _next_time(self) -> datetime | None:
        waiting = self._api.get("activities", "/v1/activities", state="scheduled", limit=1)["items"]
        times = [datetime.fromisoformat(activity["due_at"]) + _AT_A_TIME for activity in waiting]
        states = self._api.get("activities", "/v1/activities/counts")["states"]
        if any(states.get(state) for state in ("dispatched", "in_progress", "awaiting_reply")):
            times.append(self.clock.now() + _AT_A_TIME)
        return min(times, default=None)

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE * 2
        while not holds():
            self._check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {_PATIENCE * 2:g} s for {what}")
            time.sleep(0.3)


def _topics_read() -> set[str]:
    return {name for m in catalogue.MESSAGES if m.wire.read_by for name in catalogue.names_of(m.wire.topic)}


def _csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
