"""Sends whose result nobody knows: found out, never guessed, never repeated on a guess."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from carrier.main import Carrier
from carrier.settings import Settings as CarrierSettings
from channel_sms.provider import LookUpFailed, Promise, Text
from channel_sms.providers.twilio import Twilio
from channel_sms.use_cases.resolve_unknown import ResolveUnknown
from contracts.activities import ActivityOutcome
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from servicekit.clock import SystemClock, real_now
from tests.channel_sms.world import CALM, Scene, Stage, fictional, standing
from tests.engines import Engines
from tests.kit import eventually


@pytest.mark.parametrize("failure", ["error_after", "reset_after", "timeout_after"])
async def test_an_ambiguous_send_is_resolved_by_look_up_and_never_repeated(
    stage: Stage, failure: str
) -> None:
    async with stage.scene(**{failure: 1.0, "timeout_seconds": 3, "receipts": 0}) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "sent"})
        assert talk.references() == {talk.opening_id(1): 1}
        (row,) = await talk.find("intents", {})
        assert row["provider_message_id"] == talk.journal()[0]["sid"]
        assert len(await talk.expect(InteractionRecorded, 1)) == 1


@pytest.mark.parametrize("failure", ["error_before", "reset_before"])
async def test_a_send_that_a_look_up_proves_absent_is_sent_once_as_the_same_intent(
    stage: Stage, failure: str
) -> None:
    async with stage.scene(**{failure: 1.0}) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "unknown"})
        assert talk.journal() == []
        talk.behave()
        await talk.accepted(1)
        await talk.until("intents", {"state": "sent"})
        assert talk.references() == {talk.opening_id(1): 1}


async def test_a_receipt_resolves_what_nobody_may_look_up(stage: Stage) -> None:
    async with stage.scene(error_after=1.0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"status": "delivered"})
        assert talk.references() == {talk.opening_id(1): 1}
        statuses = {m.status for m in await talk.expect(MessageRecorded, 1)}
        assert "unknown" not in statuses


@asynccontextmanager
async def in_doubt_for_long(
    engines: Engines, namespace: str, tmp_path: Path, *people: int
) -> AsyncIterator[Scene]:
    """Texts to one number that the carrier did not take, and that nobody proves to be absent."""
    async with (
        standing(engines, namespace, tmp_path, sms_absence_proves_seconds=600) as stage,
        stage.scene(error_before=1.0) as talk,
    ):
        await talk.know(people)
        to = talk.theirs(1)
        await talk.wire.publish(*(talk.dispatched(person, destination=to) for person in people))
        await talk.until("intents", {"state": "unknown"}, len(people))
        yield talk


async def taken_at_last(talk: Scene, text: str) -> str:
    """The carrier takes what it was given, and its receipt gets lost."""
    return (await talk.carrier.network.accept(talk.theirs(1), talk.ours, text, "")).sid


async def test_what_the_carrier_takes_long_after_we_gave_it_up_is_found_and_not_sent_again(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    async with in_doubt_for_long(engines, namespace, tmp_path, 1) as talk:
        (intent,) = await talk.find("intents", {})
        long_ago = real_now() - timedelta(minutes=2)
        await talk.service.mongo["intents"].update_one({}, {"$set": {"claimed_real_at": long_ago}})
        sid = await taken_at_last(talk, intent["text"])
        await talk.until("intents", {"state": "sent", "provider_message_id": sid})
        assert len(talk.journal()) == 1


@asynccontextmanager
async def asking_a_carrier(tmp_path: Path) -> AsyncIterator[tuple[Twilio, Carrier]]:
    """The provider, and nobody else who talks to its carrier."""
    settings = CarrierSettings(port=0, journal=tmp_path / "carrier.jsonl", **CALM)  # type: ignore[arg-type]
    async with Carrier(settings).running() as carrier:
        account, token = settings.account_sid, settings.auth_token
        asking = Twilio("carrier", carrier.url, account, token, lambda intent_id: "", 5.0, 1, 10.0)
        try:
            yield asking, carrier
        finally:
            await asking.close()


IN_DOUBT = Text("i", fictional(1), fictional(0), "Hello", 60)


async def write_after_it(carrier: Carrier, texts: int) -> None:
    """The newest are found first, and a hundred of them are a page."""
    to, sender = IN_DOUBT.to, IN_DOUBT.sender
    await asyncio.gather(*(carrier.network.accept(to, sender, f"{n}", "") for n in range(texts)))


@pytest.mark.parametrize(("texts_since", "page"), [(99, 1), (100, 2), (250, 3)])
async def test_a_look_up_turns_every_page(tmp_path: Path, texts_since: int, page: int) -> None:
    async with asking_a_carrier(tmp_path) as (asking, carrier):
        began = real_now()
        sid = (await carrier.network.accept(IN_DOUBT.to, IN_DOUBT.sender, IN_DOUBT.body, "")).sid
        await write_after_it(carrier, texts_since)
        assert await asking.look_up(IN_DOUBT, began) == [sid], f"it is on page {page}"


async def test_what_is_not_among_more_pages_than_are_turned_is_not_proven_absent(tmp_path: Path) -> None:
    async with asking_a_carrier(tmp_path) as (asking, carrier):
        began = real_now()
        await write_after_it(carrier, 2001)
        with pytest.raises(LookUpFailed, match="too many pages"):
            await asking.look_up(IN_DOUBT, began)


async def look_again(talk: Scene) -> None:
    now = {"looks": 0, "look_real_at": real_now()}
    await talk.service.mongo["intents"].update_many({"state": "unknown"}, {"$set": now})


async def looked_at_again(talk: Scene, intents: int) -> None:
    """And still nobody knows."""
    await look_again(talk)
    await talk.until("intents", {"looks": {"$gt": 0}, "state": "unknown"}, intents)


async def vouch_for(talk: Scene, person: int, claimed: timedelta) -> None:
    """Somebody says that it was sent; it was claimed so long before the others."""
    status, _ = await talk.post(
        f"/v1/intents/{talk.opening_id(person)}/resolve", {"sent": True, "actor": "olga"}
    )
    assert status == 200
    long_ago = {"$subtract": ["$claimed_real_at", claimed / timedelta(milliseconds=1)]}
    await talk.service.mongo["intents"].update_one(
        {"_id": talk.opening_id(person)}, [{"$set": {"claimed_real_at": long_ago}}]
    )


async def hears(talk: Scene, person: int, sid: str, status: str) -> None:
    """A receipt for somebody's text."""
    path = f"/v1/webhooks/sms/status/{talk.opening_id(person)}"
    assert await talk.webhook(path, {"MessageSid": sid, "MessageStatus": status}) == 204


@pytest.mark.parametrize("told", ["sent", "delivered"])
async def test_what_a_person_vouched_for_is_not_taken_for_another(
    engines: Engines, namespace: str, tmp_path: Path, told: str
) -> None:
    async with in_doubt_for_long(engines, namespace, tmp_path, 1, 2) as talk:
        await vouch_for(talk, 1, timedelta(seconds=120))
        (other,) = await talk.find("intents", {"state": "unknown"})
        of_the_first = await taken_at_last(talk, other["text"])
        await looked_at_again(talk, 1)
        await looked_at_again(talk, 1)
        await hears(talk, 1, of_the_first, told)
        first = {"_id": talk.opening_id(1), "status": told, "provider_message_id": of_the_first}
        await talk.until("intents", first)

        async def is_told() -> bool:
            found = await talk.messages(MessageRecorded)
            return any((m.status, m.provider_message_id) == (told, of_the_first) for m in found)

        await eventually(is_told, "everybody to hear which message it was")
        of_the_other = await taken_at_last(talk, other["text"])
        await look_again(talk)
        await talk.until("intents", {"_id": talk.opening_id(2), "provider_message_id": of_the_other})


async def test_a_receipt_for_what_was_taken_for_another_proves_the_sending_and_stops_no_other(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    async with in_doubt_for_long(engines, namespace, tmp_path, 1, 2, 3) as talk:
        mistaken = {"state": "sent", "status": "sent", "provider_message_id": "SM-of-the-first"}
        await talk.service.mongo["intents"].update_one({"_id": talk.opening_id(2)}, {"$set": mistaken})
        await hears(talk, 1, "SM-of-the-first", "delivered")
        await hears(talk, 3, "SM-of-the-third", "delivered")
        await talk.until("intents", {"status": "delivered"}, 2)
        (first,) = await talk.find("intents", {"_id": talk.opening_id(1)})
        assert (first["state"], "provider_message_id" in first) == ("sent", False)


async def test_what_was_vouched_for_too_long_ago_to_be_taken_now_keeps_nobody_in_doubt(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    async with in_doubt_for_long(engines, namespace, tmp_path, 1, 2) as talk:
        await vouch_for(talk, 1, timedelta(minutes=11))
        (other,) = await talk.find("intents", {"state": "unknown"})
        sid = await taken_at_last(talk, other["text"])
        await look_again(talk)
        await talk.until("intents", {"_id": talk.opening_id(2), "provider_message_id": sid})


async def test_nobody_guesses_which_of_two_alike_was_sent(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    async with in_doubt_for_long(engines, namespace, tmp_path, 1, 2) as talk:
        one, other = await talk.find("intents", {})
        assert (one["to"], one["text"]) == (other["to"], other["text"])
        sids = {await taken_at_last(talk, one["text"])}
        await looked_at_again(talk, 2)
        await looked_at_again(talk, 2)
        sids.add(await taken_at_last(talk, one["text"]))
        await look_again(talk)
        await talk.until("intents", {"state": "sent"}, 2)
        assert {row["provider_message_id"] for row in await talk.find("intents", {})} == sids


async def test_an_unresolved_send_is_reported_unknown_and_decided_by_a_person(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    patience = {"sms_unknown_after_seconds": 1, "sms_absence_proves_seconds": 600}
    async with (
        standing(engines, namespace, tmp_path, **patience) as stage,
        stage.scene(error_before=1.0) as talk,
    ):
        await talk.know([1, 2])
        await talk.dispatch(1, 2)
        outcomes = await talk.expect(ActivityOutcome, 2)
        assert {outcome.result for outcome in outcomes} == {"unknown"}
        page = await talk.get("/v1/intents?state=unknown")
        assert {item["intent_id"] for item in page["items"]} == {talk.opening_id(1), talk.opening_id(2)}
        talk.behave()
        first, second = (f"/v1/intents/{talk.opening_id(person)}/resolve" for person in (1, 2))
        status, decided = await talk.post(first, {"sent": True, "actor": "olga"})
        assert (status, decided["state"], decided["resolved_by"]) == (200, "sent", "olga")
        status, _ = await talk.post(first, {"sent": False, "actor": "olga"})
        assert status == 409
        await talk.post(second, {"sent": False, "actor": "olga"})
        await talk.accepted(1)
        assert talk.references() == {talk.opening_id(2): 1}
        status, _ = await talk.post("/v1/intents/none/resolve", {"sent": False, "actor": "olga"})
        assert status == 404


async def test_what_is_recalled_while_its_send_is_in_doubt_is_not_sent_once_it_is_proven_absent(
    stage: Stage,
) -> None:
    async with stage.scene(error_before=1.0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "unknown"})
        await talk.wire.publish(talk.recalled(1))
        await talk.until("conversations", {"state": "concluded"})
        talk.behave()
        await talk.until("intents", {"state": "cancelled", "error": "the conversation has ended"})
        assert talk.journal() == []
        assert await talk.messages(ActivityOutcome) == []


@pytest.mark.parametrize(
    ("proves_after", "window"), [(None, timedelta(days=1)), (10.0, timedelta(seconds=13))], ids=["-", "10"]
)
async def test_a_text_counts_as_long_as_the_provider_may_still_take_it(
    proves_after: float | None, window: timedelta
) -> None:
    claimed = real_now()
    counted: list[datetime] = []

    class There:
        promise = Promise.LOOK_UP
        absence_proves_after = proves_after

        async def look_up(self, *_: object) -> list[str]:
            return ["SM1"]

        async def others_in_doubt(self, _: object, claimed_since: datetime) -> int:
            counted.append(claimed_since)
            return 0

        async def holders_of(self, *_: object) -> dict[str, str]:
            return {}

    there = cast(Any, There())
    settings = cast(Any, SimpleNamespace(orphaned_after=1.0, sms_unknown_after_seconds=1.0))
    resolve = ResolveUnknown(there, there, there, there, there, there, SystemClock(), settings, {})
    intent = cast(Any, SimpleNamespace(intent_id="i", to="t", sender="s", text="x", claimed_real_at=claimed))
    assert await resolve._find(intent) == "SM1"
    assert counted == [claimed - timedelta(seconds=2) - window]
