"""A whole line to measure: engines, `parley up` as everybody runs it, people who always say yes.

The engines are those of the suite (PARLEY_TEST_ENGINES, KAFKA_BOOTSTRAP_SERVERS, MONGO_URL).
"""

from __future__ import annotations

import csv
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from cli.api import Api
from cli.commands.apply import apply_bundle
from cli.commands.contacts import send_list
from cli.demo.numbers import numbers
from cli.demo.own_line import OwnLine
from cli.line.state import LineState
from cli.reading import read_yaml
from tests.engines import Engines, provide_engines

SUBJECT = "bench"
_CONSUMED = "parley_messages_consumed_total"
_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_SUBSCRIBER = re.compile(r'subscriber="([^"]+)"')
_ENGINE_PROGRAMS = {"noida-db": "broker", "mongod": "database", "kafka.Kafka": "broker"}
_PEOPLE = {
    "receipt_delay_seconds": 0,
    "reply_delay_seconds": 0,
    "people_yes": 1,
    "people_answers": 0,
    "people_no": 0,
    "people_silent": 0,
    "people_stop": 0,
    "people_question": 0,
}
BUNDLE = Path(__file__).with_name("bundle.yaml")


class TooSlow(RuntimeError):
    """The line did not get there in time."""


@dataclass
class WholeLine:
    """A running line, configured, without contacts."""

    data_dir: Path
    engines: Engines
    api: Api
    check: Callable[[], None]

    def import_people(self, count: int) -> None:
        """That many contacts with a mobile number each; returns when the batch-loader knows them."""
        path = self.data_dir / "people.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("external_id", "first_name", "phone", "time_zone"))
            for position, number in enumerate(numbers(count)):
                writer.writerow((f"B-{position:06}", "Ada", number.e164, number.zone))
        import_id = send_list(self.api, path, "person", "US", key=str(uuid4()))
        everybody = {"filters": {"contact_type": "person"}}

        def known() -> bool:
            told = self.api.get("contacts", f"/v1/imports/{import_id}")
            if told["state"] == "failed" or sum(told["rejected"].values()):
                raise RuntimeError(f"the import went wrong: {told}")
            return bool(
                told["state"] == "finished"
                and self.api.post("batch-loader", "/v1/batches/preview", everybody)["count"] == count
            )

        self.wait(known, "the people to be known", every=0.5)

    def create_batch(self, **choices: Any) -> str:
        request = {
            "name": f"bench-{uuid4().hex[:6]}",
            "filters": {"contact_type": "person"},
            "choices": {
                "campaign": "bench",
                "subject": SUBJECT,
                "source": "automatic",
                "agent_profile": "scripted",
            }
            | choices,
        }
        return str(self.api.post("batch-loader", "/v1/batches", request)["batch_id"])

    def load(self, batch_id: str) -> None:
        self.api.post("batch-loader", f"/v1/batches/{batch_id}/load")

    def consumed(self, service: str) -> Counter[str]:
        """Messages each subscriber of a service is done with."""
        found: Counter[str] = Counter()
        for name, labels, value in _SAMPLE.findall(self.api.text(service, "/metrics", names=[_CONSUMED])):
            if name == _CONSUMED and (subscriber := _SUBSCRIBER.search(labels)):
                found[subscriber[1]] += int(float(value))
        return found

    def wait(self, condition: Callable[[], bool], what: str, within: float = 600, every: float = 0.2) -> None:
        until = time.monotonic() + within
        while not condition():
            self.check()
            if time.monotonic() > until:
                raise TooSlow(f"waited {within:.0f} s for {what}")
            time.sleep(every)

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of the line and of the engines on this machine, by name."""
        state = LineState.read(self.data_dir)
        assert state is not None
        found = {name: psutil.Process(member.pid) for name, member in state.services.items() if member.pid}
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            for program, name in _ENGINE_PROGRAMS.items():
                if any(word == program or word.endswith(f"/{program}") for word in words):
                    ports = " ".join(words)
                    ours = self.engines.kind != "embedded" or any(
                        address.rpartition(":")[2].split("/")[0] in ports
                        for address in (self.engines.kafka, self.engines.mongo)
                    )
                    if ours:
                        found[name] = process
        return found

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time used so far, by process."""
        used = {}
        for name, process in self.processes().items():
            times = process.cpu_times()
            used[name] = times.user + times.system
        return used

    def megabytes(self) -> dict[str, float]:
        return {name: process.memory_info().rss / 2**20 for name, process in self.processes().items()}


@contextmanager
def whole_line(directory: Path) -> Iterator[WholeLine]:
    """Engines and services in `directory`, configured with `BUNDLE`; all gone afterwards."""
    with ExitStack() as stack:
        engines = stack.enter_context(provide_engines(directory / "engines"))
        os.environ |= {"KAFKA_BOOTSTRAP_SERVERS": engines.kafka, "MONGO_URL": engines.mongo}
        stack.callback(os.environ.pop, "KAFKA_BOOTSTRAP_SERVERS")
        stack.callback(os.environ.pop, "MONGO_URL")
        data_dir = directory / "line"
        own = OwnLine.started(data_dir)
        stack.callback(own.stop)
        api = stack.enter_context(Api(own.parley, patience=30))
        api.post("carrier", "/control/behaviour", _PEOPLE)
        apply_bundle(api, read_yaml(BUNDLE))
        yield WholeLine(data_dir, engines, api, own.check)
