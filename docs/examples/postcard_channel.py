"""A channel that writes postcards: pip install aiokafka, then

python postcard_channel.py localhost:9092 ./postcards

Its campaigns have `channel: postcard` and a disposition `sent`. It is one process. Its cards are the lines of
postcards/cards.txt, which stands for a printer; what it knows of them is in postcards/book.db. Kill it when
you like: whatever goes wrong ends it, and it is started again.
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

ME = "postcard-channel"
PREFIX = f"{namespace}." if (namespace := os.environ.get("PARLEY_NAMESPACE")) else ""
DISPATCHED, RECALLED = "parley.activity.dispatched.v1", "parley.activity.recalled.v1"
IDS: dict[str, type] = {"activity_id": str, "contact_id": str}
NEEDED = {DISPATCHED: IDS | {"destination": str, "dispatch_number": int}, RECALLED: IDS}


def now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class Waiting:
    """A record and what is in it: an order, a recall, something unreadable, or a type that is not for us."""

    record: Any
    type: str = ""
    body: Any = None
    not_after: datetime | None = None
    reason: str = ""
    """Why it cannot be read, in the word that everybody uses for it; empty if it can."""
    wrong: str = ""

    def __post_init__(self) -> None:
        reason = "missing_header"
        try:
            self.type = dict(self.record.headers)["ce_type"].decode()
            if needed := NEEDED.get(self.type):
                reason = "null_body" if self.record.value is None else "invalid_body"
                self.body = json.loads(self.record.value)
                if bad := [name for name, kind in needed.items() if not isinstance(self.body[name], kind)]:
                    raise ValueError(f"{', '.join(bad)}: not as the schema says")
                if self.record.key != self.body["contact_id"].encode():
                    reason = "wrong_key"
                    raise ValueError("the key must be the contact_id")
                if end := self.body.get("not_after"):
                    self.not_after = datetime.fromisoformat(end).astimezone(UTC)
        except Exception as error:
            self.reason, self.wrong = reason, repr(error)


class Book:
    """What is known of each card and each recall. It is on the disk before anything follows from it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS book (about TEXT PRIMARY KEY, state TEXT, at TEXT)")

    def note(self, about: str, state: str, at: str = "") -> None:
        self._db.execute("INSERT OR REPLACE INTO book VALUES (?, ?, ?)", (about, state, at))

    def look_up(self, about: str) -> tuple[str, str]:
        """The state and since when; empty if nothing is known."""
        return self._db.execute("SELECT state, at FROM book WHERE about = ?", (about,)).fetchone() or ("", "")


class Channel:
    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, place: Path) -> None:
        self._consumer, self._producer = consumer, producer
        self._book, self._printer = Book(place / "book.db"), place / "cards.txt"
        self._waiting: deque[Waiting] = deque()

    async def run(self) -> None:
        while True:
            await self._look()
            if self._waiting:
                await self._take(self._waiting.popleft())

    async def _look(self) -> None:
        """Read what waits to its end: a recall is known before the order that it recalls is worked."""
        found = await self._consumer.getmany(timeout_ms=0 if self._waiting else 1000)
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while True:
            for record in (record for records in found.values() for record in records):
                self._waiting.append(each := Waiting(record))
                if each.type == RECALLED and not each.reason:
                    self._book.note(f"recall of {each.body['activity_id']}", "heard")
            if all([await self._consumer.position(place) >= end for place, end in ends.items()]):
                return
            found = await self._consumer.getmany(timeout_ms=1000)

    async def _take(self, first: Waiting) -> None:
        if first.reason:
            await self._set_aside(first)
        elif first.type == DISPATCHED:
            await self._work(first.body, first.not_after)
        place = TopicPartition(first.record.topic, first.record.partition)
        await self._consumer.commit({place: first.record.offset + 1})

    async def _work(self, order: dict[str, Any], not_after: datetime | None) -> None:
        activity, number = order["activity_id"], order["dispatch_number"]
        card = f"card {number} of {activity}"
        (state, at), (recalled, _) = self._book.look_up(card), self._book.look_up(f"recall of {activity}")
        if state == "told" or (recalled and not state):
            return
        if not state and not_after and datetime.now(UTC) >= not_after:
            await self._tell("returned", order, now(), dispatch_number=number, reason="outside_window")
            return
        if not state:
            self._book.note(card, "begun", at := now())
            await self._tell("progressed", order, at, state="in_progress")
            await asyncio.to_thread(self._print, card, order)
            self._book.note(card, state := "written", at := now())
        id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, card))
        if state == "written":
            await self._tell_of_interaction(id_, order, at)
            result = {"result": "completed", "disposition": "sent"}
        else:  # a kill left it begun: whether there is a card nobody knows, and none is written again
            result = {"result": "unknown", "reason": "killed_while_writing"}
        if not recalled:
            await self._tell("outcome", order, at, outcome_id=id_, dispatch_number=number, actor=ME, **result)
        self._book.note(card, "told")

    def _print(self, card: str, order: dict[str, Any]) -> None:
        line = {"card": card, "to": order["destination"], "text": order.get("instructions", "")}
        with self._printer.open("a") as printer:
            printer.write(json.dumps(line) + "\n")

    async def _tell(self, what: str, order: dict[str, Any], at: str, **more: Any) -> None:
        told = {name: order[name] for name in IDS} | {"occurred_at": at} | more
        event = f"{what}:{order['activity_id']}:{order['dispatch_number']}"
        await self._publish("activity-outcome", f"parley.activity.{what}.v1", event, told)

    async def _tell_of_interaction(self, id_: str, order: dict[str, Any], at: str) -> None:
        linked = ("activity_id", "contact_id", "campaign_id", "subject_id", "endpoint_id")
        told = {name: order[name] for name in linked if name in order}
        told |= {"interaction_id": id_, "interaction_type": "postcard", "version": 1}
        told |= {"direction": "outgoing", "occurred_at": at}
        await self._publish("interaction-recorded", "parley.interaction.recorded.v1", f"{id_}:1", told)

    async def _publish(self, topic: str, type_: str, event: str, body: dict[str, Any]) -> None:
        headers = {"ce_specversion": "1.0", "ce_id": event, "ce_type": type_, "ce_source": ME}
        headers |= {"ce_time": body["occurred_at"], "content-type": "application/json"}
        await self._producer.send_and_wait(
            PREFIX + topic,
            json.dumps(body).encode(),
            key=body["contact_id"].encode(),
            headers=[(name, value.encode()) for name, value in headers.items()],
        )

    async def _set_aside(self, unreadable: Waiting) -> None:
        record = unreadable.record
        origin = {
            "dlq_topic": record.topic,
            "dlq_partition": record.partition,
            "dlq_offset": record.offset,
            "dlq_timestamp": record.timestamp,
            "dlq_subscriber": ME,
            "dlq_reason": unreadable.reason,
            "dlq_detail": unreadable.wrong[:4000],
            "dlq_attempts": 1,
            "dlq_failed_at": int(time.time() * 1000),
        }
        headers = [*record.headers, *((name, str(value).encode()) for name, value in origin.items())]
        topic, body = f"{record.topic}.dlq", record.value or b""
        try:
            await self._producer.send_and_wait(topic, body, key=record.key, headers=headers)
        except MessageSizeTooLargeError:
            headers = [each for each in headers if each[0] in origin or len(each[1] or b"") <= 1024]
            headers.append(("dlq_body_left_out", str(len(body)).encode()))
            await self._producer.send_and_wait(topic, b"", key=record.key, headers=headers)


async def main(servers: str, place: Path) -> None:
    consumer = AIOKafkaConsumer(
        f"{PREFIX}activity-dispatched.postcard",
        bootstrap_servers=servers,
        group_id=f"{PREFIX}{ME}",
        group_instance_id=f"{ME}-0",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    async with consumer, producer:
        await Channel(consumer, producer, place).run()


if __name__ == "__main__":
    place = Path(sys.argv[2])
    place.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(sys.argv[1], place))
