"""The channel of docs/channels.md, run and killed as an operator would run and kill it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from activities.main import build
from activities.settings import Settings
from cli.dead_letters import DeadLetters
from cli.found import Parley
from contracts import catalogue
from contracts.activities import (
    ActivityDispatched,
    ActivityOutcome,
    ActivityProgressed,
    ActivityRecalled,
    ActivityReturned,
)
from contracts.asyncapi import merged_document
from contracts.campaigns import CampaignChanged, DispositionChanged, EndpointChanged, SubjectChanged
from contracts.channel_sms import InteractionRecorded
from contracts.message import Message
from contracts.vocabulary import ActivityKind
from servicekit.delivery import headers_of
from servicekit.service import Service
from tests.activities import builders
from tests.engines import Engines
from tests.kit import Wire, eventually, running

EXAMPLE = Path(__file__).parents[2] / "docs/examples/postcard_channel.py"
CHANNELS = (*catalogue.CHANNELS, "postcard")
TOPIC = "activity-dispatched.postcard"
LONG_AGO = datetime(2026, 1, 5, tzinfo=UTC)

DEAD_LETTER_HEADERS = merged_document()["components"]["schemas"]["DeadLetterHeaders"]

CATALOGUE: tuple[Message, ...] = tuple(
    message_class.model_validate({"version": 1, "name": "Cards", **fields})
    for message_class, fields in (
        (SubjectChanged, {"subject_id": "cards", "code": "cards"}),
        (EndpointChanged, {"endpoint_id": "post", "code": "post", "channel": "postcard", "address": "Town"}),
        (DispositionChanged, {"disposition_id": "sent", "code": "sent"}),
        (
            CampaignChanged,
            {
                "campaign_id": "spring",
                "code": "spring",
                "state": "running",
                "channel": "postcard",
                "endpoint_id": "post",
                "dispositions": ("sent",),
            },
        ),
    )
)


class PostOffice:
    """The process, what it printed, and what it said."""

    def __init__(self, wire: Wire, place: Path) -> None:
        self.wire = wire
        self.place = place
        self.printer = place / "cards.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        assert self._process is None
        self._process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), self.wire.engines.kafka, str(self.place)],
            env=os.environ | {"PARLEY_NAMESPACE": self.wire.namespace},
        )

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.poll() is None, "it ended by itself"
            process.send_signal(signal.SIGKILL)
            process.wait(30)

    def cards(self) -> Counter[str]:
        """How many cards there are of each order."""
        lines = self.printer.read_bytes().splitlines() if self.printer.exists() else []
        return Counter(orjson.loads(line)["card"] for line in lines)

    def known(self) -> dict[str, str]:
        """What its book says of each card; nothing before there is a book."""
        with closing(sqlite3.connect(self.place / "book.db")) as book:
            if not book.execute("SELECT 1 FROM sqlite_master").fetchall():
                return {}
            return dict(book.execute("SELECT about, state FROM book WHERE about LIKE 'card %'"))

    async def outcomes(self, count: int) -> dict[str, ActivityOutcome]:
        """Of each activity the one outcome, once so many activities have one."""

        async def enough() -> dict[str, ActivityOutcome] | None:
            found = {str(each.activity_id): each for each in await self.wire.messages(ActivityOutcome)}
            return found if len(found) >= count else None

        found: dict[str, ActivityOutcome] = await eventually(enough, f"{count} outcomes", 90)
        ids = {each.outcome_id for each in await self.wire.messages(ActivityOutcome)}
        assert ids == {each.outcome_id for each in found.values()}
        return found

    async def has_begun(self) -> bool:
        return "begun" in self.known().values()

    async def has_told(self, count: int) -> None:
        async def all_of_them() -> bool:
            return Counter(self.known().values())["told"] >= count

        await eventually(all_of_them, f"{count} cards to be told of")


def order(activity_id: str, contact_id: str = "anna", **changes: Any) -> ActivityDispatched:
    return ActivityDispatched.model_validate(
        {
            "activity_id": activity_id,
            "contact_id": contact_id,
            "channel": "postcard",
            "dispatch_number": 1,
            "endpoint_id": "post",
            "destination": contact_id,
            "subject_id": "cards",
            "campaign_id": "spring",
            "dispatched_at": LONG_AGO,
            **changes,
        }
    )


def recall(activity_id: str, contact_id: str = "anna") -> ActivityRecalled:
    return ActivityRecalled.model_validate(
        {
            "activity_id": activity_id,
            "contact_id": contact_id,
            "channel": "postcard",
            "reason": "cancelled",
            "recalled_at": LONG_AGO,
        }
    )


@pytest.fixture
async def wire(engines: Engines, namespace: str) -> AsyncIterator[Wire]:
    made = Wire(engines, namespace)
    await made.create_topics(catalogue.topics(CHANNELS))
    yield made
    await made.close()


@pytest.fixture
def office(wire: Wire, tmp_path: Path) -> Iterator[PostOffice]:
    office = PostOffice(wire, tmp_path)
    yield office
    office.kill()


@pytest.fixture
async def activities(engines: Engines, wire: Wire) -> AsyncIterator[Service]:
    async with running(build, Settings, engines, wire.namespace, channels=CHANNELS) as service:
        await wire.publish(*CATALOGUE, builders.contact_changed("anna"))
        known = partial(service.mongo["contacts"].find_one, {"_id": "anna"})
        await eventually(known, "the contact")
        yield service


async def ask_for_card(wire: Wire, activity_id: str) -> None:
    await wire.publish(
        builders.created(
            activity_id,
            contact_id="anna",
            kind=ActivityKind.TASK,
            subject_id="cards",
            campaign_id="spring",
            channel="postcard",
        )
    )


async def becomes(activities: Service, activity_id: str, state: str) -> dict[str, Any]:
    wanted = partial(activities.mongo["activities"].find_one, {"_id": activity_id, "state": state})
    found: dict[str, Any] = await eventually(wanted, f"{activity_id} to become {state}")
    return found


async def killed_between_writing_and_knowing(office: PostOffice) -> str:
    """The printer is a pipe here: the card can be taken from it while the book lets nobody write."""
    os.mkfifo(office.printer)
    office.open()
    await eventually(office.has_begun, "a card to be begun")
    with closing(sqlite3.connect(office.place / "book.db", isolation_level=None)) as book:
        book.execute("BEGIN IMMEDIATE")
        card = await asyncio.to_thread(office.printer.read_text)
        office.kill()
        book.execute("ROLLBACK")
    office.printer.unlink()
    return card


async def test_an_activity_becomes_a_card_an_interaction_and_an_outcome(
    activities: Service, office: PostOffice
) -> None:
    office.open()
    await ask_for_card(office.wire, "one")
    done = await becomes(activities, "one", "completed")
    assert done["disposition"] == "sent"
    assert office.cards() == {"card 1 of one": 1}
    (interaction,) = await office.wire.messages(InteractionRecorded)
    assert (interaction.activity_id, interaction.contact_id, interaction.direction) == (
        "one",
        "anna",
        "outgoing",
    )
    assert [each.state for each in await office.wire.messages(ActivityProgressed)] == ["in_progress"]
    assert await office.wire.dead_letters("activity-outcome") == []


async def test_a_kill_between_writing_and_reporting_leaves_one_card_and_one_outcome(
    activities: Service, office: PostOffice
) -> None:
    await ask_for_card(office.wire, "one")
    card = await killed_between_writing_and_knowing(office)
    assert orjson.loads(card)["card"] == "card 1 of one"
    assert await office.wire.messages(ActivityOutcome) == []
    office.open()
    unknown = await becomes(activities, "one", "outcome_unknown")
    assert unknown["reason"] == "killed_while_writing"
    await ask_for_card(office.wire, "two")
    await becomes(activities, "two", "completed")
    assert office.cards() == {"card 1 of two": 1}
    assert {each.result for each in (await office.outcomes(2)).values()} == {"unknown", "completed"}


async def test_an_activity_that_was_cancelled_while_the_channel_was_away_gets_no_card(
    activities: Service, office: PostOffice
) -> None:
    await ask_for_card(office.wire, "one")
    await becomes(activities, "one", "dispatched")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{activities.port}") as http:
        answer = await http.post("/v1/activities/one/cancel", json={"reason": "moved", "actor": "anna"})
        assert answer.status_code == 200, answer.text
    await ask_for_card(office.wire, "two")
    await office.wire.expect(ActivityDispatched, 2, TOPIC)
    office.open()
    await becomes(activities, "two", "completed")
    assert office.cards() == {"card 1 of two": 1}
    assert set(await office.outcomes(1)) == {"two"}


async def test_a_recall_at_the_far_end_of_the_backlog_is_seen_before_the_first_order_is_worked(
    office: PostOffice,
) -> None:
    """Apache Kafka takes several fetches to answer with it; the embedded broker answers with all at once."""
    long = "x" * 20_000
    await office.wire.publish(*(order(f"a{n}", instructions=long) for n in range(120)))
    await office.wire.publish(*(recall(f"a{n}") for n in range(119)))
    office.open()
    assert set(await office.outcomes(1)) == {"a119"}
    assert office.cards() == {"card 1 of a119": 1}


async def test_a_recall_that_comes_during_one_card_is_seen_before_the_next(office: PostOffice) -> None:
    os.mkfifo(office.printer)
    office.open()
    await office.wire.publish(order("one"), order("two"), order("three"))
    await eventually(office.has_begun, "a card to be begun")
    await office.wire.publish(recall("two"))
    with office.printer.open("rb+", buffering=0) as pipe:  # for both ways it never ends
        cards = [await asyncio.to_thread(pipe.readline) for _ in range(2)]
    assert [orjson.loads(card)["card"] for card in cards] == ["card 1 of one", "card 1 of three"]
    assert set(await office.outcomes(2)) == {"one", "three"}


async def test_however_often_it_is_killed_no_order_has_two_cards_or_two_outcomes(office: PostOffice) -> None:
    names = [f"a{n}" for n in range(60)]
    await office.wire.publish(*(order(name, f"contact-{name}") for name in names))
    kills = 0
    for goal in range(12, 60, 12):
        office.open()

        async def reached(goal: int = goal) -> bool:
            return office.cards().total() >= goal

        await eventually(reached, f"{goal} cards")
        office.kill()
        kills += 1
    office.open()
    outcomes = await office.outcomes(60)
    await office.has_told(60)
    cards = office.cards()
    assert set(cards.values()) == {1}
    completed = {f"card 1 of {name}" for name, each in outcomes.items() if each.result == "completed"}
    assert completed <= cards.keys()
    assert len(outcomes) - len(completed) <= kills
    sent = {each.activity_id for each in await office.wire.messages(InteractionRecorded)}
    assert {f"card 1 of {name}" for name in sent} == completed


async def test_an_order_that_comes_again_is_not_worked_again_but_a_new_one_is(
    office: PostOffice,
) -> None:
    office.open()
    await office.wire.publish(order("one"), order("one"), order("one", dispatch_number=2))
    await office.has_told(2)
    assert office.cards() == {"card 1 of one": 1, "card 2 of one": 1}


async def test_what_was_not_begun_within_the_contacts_hours_is_given_back(office: PostOffice) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    office.open()
    await office.wire.publish(order("late", not_after=LONG_AGO), order("early", not_after=tomorrow))
    assert set(await office.outcomes(1)) == {"early"}
    (returned,) = await office.wire.messages(ActivityReturned)
    assert (returned.activity_id, returned.dispatch_number) == ("late", 1)
    assert office.cards() == {"card 1 of early": 1}


async def test_what_it_cannot_read_is_set_aside_where_the_dead_letters_are_looked_for(
    office: PostOffice,
) -> None:
    dispatched = ActivityDispatched.wire.type
    never = order("one").to_json().replace(b'"dispatched_at"', b'"not_after":"never","d"')
    unreadable: list[tuple[bytes | None, str | None, str]] = [
        (b"{", dispatched, "invalid_body"),
        (b"[" * 100_000, dispatched, "invalid_body"),
        (b"[]", dispatched, "invalid_body"),
        (order("one", "berta").to_json(), dispatched, "wrong_key"),
        (b'{"activity_id": 1, "contact_id": "anna"}', ActivityRecalled.wire.type, "invalid_body"),
        (never, dispatched, "invalid_body"),
        (b"{}", None, "missing_header"),
        (None, dispatched, "null_body"),
    ]
    for number, (body, type_, _) in enumerate(unreadable):
        headers: list[tuple[str, bytes | None]] = [("ce_id", b"%d" % number)]
        if type_ is not None:
            headers.append(("ce_type", type_.encode()))
        await office.wire.publish_raw(TOPIC, body, b"anna", headers)
    await office.wire.publish(order("good"))
    office.open()
    assert set(await office.outcomes(1)) == {"good"}
    records = await office.wire.records(f"{TOPIC}.dlq")
    assert {record.key for record in records} == {b"anna"}
    assert [record.value for record in records] == [body or b"" for body, *_ in unreadable]
    for number, record in enumerate(records):
        told = headers_of(record)
        assert told.items() >= {"ce_id": str(number), "dlq_topic": office.wire.name(TOPIC)}.items()
        assert told.keys() >= set(DEAD_LETTER_HEADERS["required"])
    dead = DeadLetters(Parley({}, office.wire.engines.kafka, office.wire.namespace))
    for topic in (TOPIC, None):
        letters = await asyncio.to_thread(dead.listed, topic, 10)
        assert [letter.reason for letter in reversed(letters)] == [reason for *_, reason in unreadable]
