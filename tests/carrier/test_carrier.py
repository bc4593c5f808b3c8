"""The carrier keeps its word: what it accepted is in its journal, and what it owes survives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from carrier.behaviour import Behaviour, Persona
from carrier.main import Carrier
from carrier.people import answer, reply
from carrier.settings import BadSettings, Settings
from carrier.signature import signature
from tests.kit import eventually

OURS, THEIRS = "+15550100100", "+447700900001"
ACCOUNT = "AC" + "0" * 32
AUTH = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, "simulated")}
SILENT: dict[str, Any] = {
    "people_yes": 0,
    "people_answers": 0,
    "people_no": 0,
    "people_stop": 0,
    "people_question": 0,
}


def fictional(number: int) -> str:
    return f"+1{200 + number // 100}5550{100 + number % 100}"


class Customer:
    """Whoever rents the number: keeps the webhooks that come, and fails the first few if told to."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], str]] = []
        self.failures = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.got.append((f"{self.url}{request.path}", form, request.headers["X-Twilio-Signature"]))
        return web.Response()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Customer]:
        app = web.Application()
        app.router.add_post("/{tail:.*}", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        await runner.cleanup()

    def bodies(self) -> list[str]:
        return [form["Body"] for _, form, _ in self.got if "Body" in form]


def settings(directory: Path, customer: Customer | None = None, **changes: Any) -> Settings:
    told = {
        "port": 0,
        "journal": directory / "journal.jsonl",
        "inbound_url": f"{customer.url}/inbound" if customer else "http://127.0.0.1:9/none",
        "latency_ms": 0,
        "reply_delay_seconds": 0,
        "receipt_delay_seconds": 0,
    }
    return Settings(**{**told, **changes})


def journal(directory: Path, kind: str) -> list[dict[str, Any]]:
    lines = (directory / "journal.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


async def send(carrier: Carrier, callback: str = "", to: str = THEIRS, **form: str) -> tuple[int, Any]:
    body = {"To": to, "From": OURS, "Body": "Do you agree?", "StatusCallback": callback, **form}
    url = f"{carrier.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    async with aiohttp.ClientSession(headers=AUTH) as session, session.post(url, data=body) as response:
        return response.status, await response.json()


async def found(carrier: Carrier, query: str) -> list[dict[str, Any]]:
    url = f"{carrier.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json?{query}"
    async with aiohttp.ClientSession(headers=AUTH) as session, session.get(url) as response:
        messages: list[dict[str, Any]] = (await response.json())["messages"]
        return messages


async def test_an_accepted_message_is_in_the_journal_before_the_answer(tmp_path: Path) -> None:
    async with Carrier(settings(tmp_path, **SILENT)).running() as carrier:
        status, message = await send(carrier, "http://127.0.0.1:9/status/intent-1")
        (entry,) = journal(tmp_path, "accepted")
        assert status == 201
        assert (entry["sid"], entry["reference"], entry["to"]) == (message["sid"], "intent-1", THEIRS)


async def test_many_messages_share_a_write(tmp_path: Path) -> None:
    async with Carrier(settings(tmp_path, **SILENT)).running() as carrier:
        answers = await asyncio.gather(
            *(carrier.network.accept(fictional(n), OURS, "Hello", "") for n in range(500))
        )
        assert len({message.sid for message in answers}) == 500
        assert len(journal(tmp_path, "accepted")) == 500


async def test_a_look_up_finds_what_was_accepted_by_numbers_and_time(tmp_path: Path) -> None:
    async with Carrier(settings(tmp_path, **SILENT)).running() as carrier:
        _, message = await send(carrier)
        await send(carrier, to="+447700900002")
        pair = "To=%2B447700900001&From=%2B15550100100"
        assert [m["sid"] for m in await found(carrier, pair)] == [message["sid"]]
        assert await found(carrier, f"{pair}&DateSent%3E=2999-01-01T00:00:00Z") == []
        assert len(await found(carrier, f"{pair}&DateSent%3E=2020-01-01T00:00:00Z")) == 1
        assert len(await found(carrier, "PageSize=1")) == 1


@pytest.mark.parametrize(
    ("behaviour", "status", "accepted"),
    [
        ({"rate_limited": 1.0}, 429, 0),
        ({"error_before": 1.0}, 500, 0),
        ({"error_after": 1.0}, 500, 1),
        ({"bad_numbers": 1.0}, 400, 0),
    ],
)
async def test_it_fails_as_told(
    tmp_path: Path, behaviour: dict[str, Any], status: int, accepted: int
) -> None:
    async with Carrier(settings(tmp_path, **SILENT, **behaviour)).running() as carrier:
        assert (await send(carrier))[0] == status
        assert len(journal(tmp_path, "accepted")) == accepted


async def test_what_its_customer_has_given_up_is_never_accepted(tmp_path: Path) -> None:
    async with Carrier(settings(tmp_path, **(SILENT | {"latency_ms": 1500}))).running() as carrier:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await send(carrier)
        assert (await send(carrier))[0] == 201
        assert len(journal(tmp_path, "accepted")) == 1
        assert carrier.api.answers == {"given_up": 1, "accepted": 1}


async def test_what_waited_longer_than_it_promises_is_never_accepted(tmp_path: Path) -> None:
    """A customer who still waits may be a process that was stopped, and another asks in its place."""
    async with Carrier(settings(tmp_path, **(SILENT | {"latency_ms": 100}))).running() as carrier:
        carrier.api.accepts_within = 0.05
        assert (await send(carrier))[0] == 500
        assert journal(tmp_path, "accepted") == []


@pytest.mark.parametrize(("place", "accepted"), [("reset_before", 0), ("reset_after", 1)])
async def test_it_resets_as_told(tmp_path: Path, place: str, accepted: int) -> None:
    async with Carrier(settings(tmp_path, **(SILENT | {place: 1.0}))).running() as carrier:
        with pytest.raises(aiohttp.ClientError):
            await send(carrier)
        assert len(journal(tmp_path, "accepted")) == accepted


async def test_wrong_credentials_and_wrong_messages_are_refused(tmp_path: Path) -> None:
    async with Carrier(settings(tmp_path, **SILENT, auth_token="other")).running() as carrier:
        assert (await send(carrier))[0] == 401
    async with Carrier(settings(tmp_path, **SILENT)).running() as carrier:
        assert (await send(carrier, to="12345"))[1]["code"] == 21211
        assert (await send(carrier, Body=""))[1]["code"] == 21602
        assert (await send(carrier, From=""))[1]["code"] == 21603


async def test_people_write_back_signed_and_several_times_until_heard(tmp_path: Path) -> None:
    async with Customer().running() as customer:
        customer.failures = 2
        told = settings(
            tmp_path, customer, **{**SILENT, "people_silent": 0, "people_no": 1}, webhook_repeats=1.0
        )
        async with Carrier(told).running() as carrier:
            await send(carrier, f"{customer.url}/status/intent-1")

            async def heard() -> bool:
                statuses = [form for _, form, _ in customer.got if "MessageStatus" in form]
                return len(customer.bodies()) >= 2 and len(statuses) >= 2

            await eventually(heard, "webhooks")
            assert set(customer.bodies()) == {"No thanks"}
            assert len({form["MessageSid"] for _, form, _ in customer.got if "Body" in form}) == 1
            for url, form, told_signature in customer.got:
                assert signature("simulated", url, form) == told_signature
            assert len(journal(tmp_path, "reply")) == 1


async def test_what_was_owed_at_the_end_is_paid_after_a_restart(tmp_path: Path) -> None:
    async with Customer().running() as customer:
        people = {**SILENT, "people_silent": 0, "people_yes": 1}
        slow = settings(tmp_path, customer, **people, reply_delay_seconds=3600, receipt_delay_seconds=3600)
        async with Carrier(slow).running() as carrier:
            _, before = await send(carrier, f"{customer.url}/status/intent-1")
        with (tmp_path / "journal.jsonl").open("a") as torn:
            torn.write('{"kind": "accep')
        assert customer.got == []
        async with Carrier(settings(tmp_path, customer, **people)).running() as carrier:

            async def paid() -> bool:
                return len(customer.got) >= 2

            await eventually(paid, "the reply and the receipt")
            _, after = await send(carrier)
            assert before["sid"] != after["sid"]
            await eventually(lambda: _delivered(tmp_path, 3), "the journal")
        async with Carrier(settings(tmp_path, customer, **people)).running() as carrier:
            assert carrier.network.scheduled == 0
            assert len(carrier.network.messages.by_sid) == 2
        assert len(journal(tmp_path, "reply")) == 2


async def test_nobody_answers_after_a_restart_what_never_reached_them(tmp_path: Path) -> None:
    async with Customer().running() as customer:
        people = {**SILENT, "people_silent": 0, "people_yes": 1}
        async with Carrier(settings(tmp_path, customer, **people, undelivered=1.0)).running() as carrier:
            await send(carrier, f"{customer.url}/status/intent-1")
            await eventually(lambda: _delivered(tmp_path, 1), "the receipt")
        async with Carrier(settings(tmp_path, customer, **people)).running() as carrier:
            assert carrier.network.scheduled == 0
        assert journal(tmp_path, "reply") == []


async def test_it_behaves_after_a_restart_as_it_was_told_last(tmp_path: Path) -> None:
    async def tell(carrier: Carrier, **changes: float) -> int:
        async with aiohttp.ClientSession() as session:
            url = f"{carrier.url}/control/behaviour"
            async with session.post(url, json=changes) as answer:
                return answer.status

    async with Carrier(settings(tmp_path)).running() as carrier:
        assert await tell(carrier, undelivered=0.25, latency_ms=3) == 200
        assert await tell(carrier, undelivered=0.5) == 200
        assert await tell(carrier, undelivered=2) == 422
        assert await tell(carrier, laziness=1) == 422
    async with Carrier(settings(tmp_path, rate_limited=0.125)).running() as carrier:
        told = carrier.network.behaviour
        assert (told.undelivered, told.latency_ms, told.rate_limited) == (0.5, 3, 0.125)


async def _delivered(directory: Path, count: int) -> bool:
    return len(journal(directory, "delivered")) >= count


async def test_its_behaviour_changes_at_run_time_and_people_can_be_made_to_write(tmp_path: Path) -> None:
    async with (
        Customer().running() as customer,
        Carrier(settings(tmp_path, customer, **SILENT)).running() as carrier,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{carrier.url}/control/behaviour", json={"rate_limited": 1.0}) as response:
            assert response.status == 200
        assert (await send(carrier))[0] == 429
        async with session.post(f"{carrier.url}/control/behaviour", json={"nonsense": 1.0}) as response:
            assert response.status == 422
        text = {"from": THEIRS, "to": OURS, "body": "Good morning"}
        async with session.post(f"{carrier.url}/control/inbound", json=text) as response:
            assert response.status == 201

        async def heard() -> bool:
            return customer.bodies() == ["Good morning"]

        await eventually(heard, "the text")
        async with session.get(f"{carrier.url}/control/stats") as response:
            stats = await response.json()
        assert stats["replies"] == 1
        assert stats["answers"] == {"429": 1}


async def test_an_outage_refuses_connections_and_ends(tmp_path: Path) -> None:
    async with Carrier(settings(tmp_path, **SILENT)).running() as carrier:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{carrier.url}/control/outage", json={"seconds": 0.5}) as response,
        ):
            assert response.status == 202

        async def refused() -> bool:
            try:
                await send(carrier)
            except aiohttp.ClientError:
                return True
            return False

        async def back() -> bool:
            return not await refused()

        await eventually(refused, "the outage")
        await eventually(back, "its end")


def test_people_are_who_they_are_by_seed_and_number() -> None:
    behaviour = Behaviour(seed=7)
    numbers = [fictional(n) for n in range(2000)]
    people = [behaviour.persona(number) for number in numbers]
    assert people == [behaviour.persona(number) for number in numbers]
    assert people != [Behaviour(seed=8).persona(number) for number in numbers]
    assert 0.45 < people.count(Persona.YES) / len(people) < 0.55


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ("Hi Ann, would you like to renew? Reply YES or NO.", {"Yes"}),
        ("Which plan (basic, plus)?", {"basic", "plus"}),
        ("What is your e-mail?", None),
        ("How many seats?", {"1", "2", "3", "4", "5"}),
        ("Sorry, I did not get that. Please answer YES or NO.", {"Yes"}),
    ],
)
def test_answers_fit_their_questions(asked: str, fits: set[str] | None) -> None:
    told = answer(asked, lambda *of: Behaviour().draw(*of))
    assert told in fits if fits else "@example.com" in told


def test_a_person_says_stop_once() -> None:
    stopping = Behaviour(**SILENT | {"people_silent": 0, "people_stop": 1})
    assert reply(stopping, THEIRS, "Hello", 1) == "STOP"
    assert reply(stopping, THEIRS, "You are opted out.", 2) is None


def test_a_setting_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRIER_LATENCY", "5")
    with pytest.raises(BadSettings, match="CARRIER_LATENCY_MS"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ERROR_AFTER", "50", "CARRIER_ERROR_AFTER='50': Input should be less than or equal to 1"),
        ("PORT", "70000", "CARRIER_PORT='70000': Input should be less than or equal to 65535"),
        ("PEOPLE_YES", "many", "CARRIER_PEOPLE_YES='many': Input should be a valid integer"),
        ("AUTH_TOKEN", "", "CARRIER_AUTH_TOKEN: String should have at least 1 character"),
    ],
)
def test_a_wrong_value_is_told_unless_it_is_a_secret(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CARRIER_{name}", value)
    with pytest.raises(BadSettings, match=f"^{told}"):
        Settings.from_environment()
