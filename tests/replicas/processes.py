"""Replicas of the activities service, each a process of its own, as an operator runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from pymongo import AsyncMongoClient

from cli.engines import ports
from cli.engines.process import follow_parent
from contracts.activities import ActivityChanged, ActivityDispatched
from contracts.message import Topic
from servicekit.clock import DrivenClock
from tests.activities import builders
from tests.engines import Engines
from tests.kit import Wire, eventually

T = TypeVar("T", bound=Sized)

DISPATCHED = ActivityDispatched.wire.topic.named(channel="sms")
PARTITIONS = Topic("any").partitions
_PATIENCE = 180.0
"""A group learns after a session timeout of ten seconds that a member was killed."""


@dataclass
class Replica:
    """One process."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    async def consuming(self) -> bool:
        assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
        try:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://{ports.LOOPBACK}:{self.port}/readyz")
        except httpx.TransportError:
            return False
        return bool(answer.is_success and answer.json()["consuming"])

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        lines = [orjson.loads(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == event]


@dataclass
class Replicas:
    """The processes, the topics and the database that they share, and the clock that stands at noon."""

    engines: Engines
    wire: Wire
    directory: Path
    clock: DrivenClock
    running: dict[str, Replica] = field(default_factory=dict)
    gone: list[Replica] = field(default_factory=list)

    def start(self, name: str, **settings: str) -> Replica:
        """`settings`: more of its environment."""
        port = ports.choose(name)
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", "from activities.main import run; run()"],
                env=self._environment(name, port) | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=follow_parent(),
            )
        self.running[name] = Replica(name, port, log, process)
        return self.running[name]

    async def started(self, *names: str) -> None:
        for name in names:
            self.start(name)
        for name in names:
            await self.consuming(name)

    async def started_knowing(self, contacts: Sequence[str], first: str, *others: str) -> None:
        """All of them with the catalogue and these contacts, so that none has to defer anything: one that
        runs when another one learns something may not know it for half a second."""
        await self.started(first)
        await self.knows(*contacts)
        await self.started(*others)

    async def consuming(self, name: str) -> None:
        await eventually(self.running[name].consuming, f"{name} to consume", _PATIENCE)

    def kill(self, name: str) -> None:
        self._gone(name, signal.SIGKILL)

    def died(self, name: str) -> None:
        """Wait for a replica that kills itself."""
        assert self._gone(name, None) == -signal.SIGKILL

    def stop(self, name: str) -> None:
        assert self._gone(name, signal.SIGTERM) == 0, self.gone[-1].log.read_text()[-2000:]

    def close(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def moved_on(self) -> dict[str, int]:
        """How many due activities each scheduler moved on."""
        return {
            replica.name: sum(line["moved"] for line in replica.said("due activities moved on"))
            for replica in (*self.running.values(), *self.gone)
        }

    async def shared_fairly(self, subscriber: str) -> None:
        """Wait until each running replica reads its share of the partitions."""
        names = {f"activities-{name}" for name in self.running}

        async def fair() -> dict[str, int] | None:
            shares = await self._shares(f"{self.wire.namespace}.activities.{subscriber}")
            whole = shares.keys() == names and sum(shares.values()) == PARTITIONS
            return shares if whole and max(shares.values()) - min(shares.values()) <= 1 else None

        await eventually(fair, f"{subscriber} to be shared by {sorted(names)}", _PATIENCE)

    async def knows(self, *contacts: str) -> None:
        """Wait until a running campaign and these contacts are known."""
        await self.wire.publish(
            *builders.catalog_messages(), *(builders.contact_changed(contact) for contact in contacts)
        )
        await self.database_has("contacts", len(contacts))
        await self.database_has("catalog", len(builders.catalog_messages()))

    async def database_has(self, collection: str, count: int, **where: Any) -> None:
        async with AsyncMongoClient[dict[str, Any]](self.engines.mongo) as client:
            rows = client[f"{self.wire.namespace}-parley-activities"][collection]

            async def enough() -> bool:
                return await rows.count_documents(where) == count

            await eventually(enough, f"{count} {collection} with {where}", _PATIENCE)

    async def dispatched(self, count: int) -> Counter[str]:
        """How often each activity was dispatched, once all are, told apart by the message's identity."""

        async def known() -> Counter[str]:
            found = await self.wire.messages(ActivityDispatched, DISPATCHED)
            return Counter({message.event_id(): message.activity_id for message in found}.values())

        return await self._once_all_are_there(known, count, DISPATCHED)

    async def versions(self, count: int, last: int) -> dict[str, list[int]]:
        """The versions of each activity in the order in which they were first announced, once the last is."""

        async def known() -> dict[str, list[int]]:
            seen: dict[str, list[int]] = defaultdict(list)
            for message in await self.wire.messages(ActivityChanged):
                if message.version not in seen[message.activity_id]:
                    seen[message.activity_id].append(message.version)
            return {each: versions for each, versions in seen.items() if last in versions}

        return await self._once_all_are_there(known, count, ActivityChanged.wire.topic.name)

    async def _once_all_are_there(self, known: Callable[[], Awaitable[T]], count: int, topic: str) -> T:
        async def all_of_them() -> T | None:
            found = await known()
            return found if len(found) >= count else None

        found: T = await eventually(all_of_them, f"{count} activities in {topic}", _PATIENCE)
        return found

    async def _shares(self, group: str) -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.engines.kafka)
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([group])
        finally:
            await admin.close()
        members = {member[1]: member[-1] for group in answer.groups for member in group[5]}
        return {name: _partitions(assignment) for name, assignment in members.items()}

    def _gone(self, name: str, number: signal.Signals | None) -> int:
        replica = self.running.pop(name)
        self.gone.append(replica)
        if number is not None:
            replica.process.send_signal(number)
        return replica.process.wait(60)

    def _environment(self, name: str, port: int) -> dict[str, str]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key == "PARLEY_MONGO_DRIVER" or not key.startswith("PARLEY_")
        }
        return inherited | {
            "KAFKA_BOOTSTRAP_SERVERS": self.engines.kafka,
            "MONGO_URL": self.engines.mongo,
            "PARLEY_NAMESPACE": self.wire.namespace,
            "PARLEY_INSTANCE": name,
            "PARLEY_PORT": str(port),
            "PARLEY_CLOCK_FILE": str(self.clock.path),
            "PARLEY_LOG_FORMAT": "json",
            "PARLEY_UNHURRIED_MS": "10",
            "PARLEY_LEASE_SECONDS": "3",
        }


def _partitions(assignment: bytes) -> int:
    if not assignment:
        return 0
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return sum(len(partitions) for _, partitions in decoded.assignment)
