"""The doors that a provider knocks at, and what follows from what it brings."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter as Metric
from structlog.testing import capture_logs

from carrier.signature import signature as carrier_signature
from channel_sms.signature import is_genuine, signature
from channel_sms.use_cases.work_receipts import WorkReceipts
from channel_sms.webhooks import parsed
from contracts.activities import ActivityCreated, ActivityOutcome
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from contracts.vocabulary import Direction, SubjectDirection
from servicekit.clock import real_now
from servicekit.conflicts import Conflict
from servicekit.leases import bucket_of
from servicekit.mongo import Document
from tests.channel_sms.world import Stage, everybody
from tests.kit import eventually

INBOUND = "/v1/webhooks/sms/inbound"
FIELDS = st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=6)


@given(FIELDS)
def test_a_signature_is_the_carriers_and_no_other(form: dict[str, str]) -> None:
    told = carrier_signature("token", "https://parley.example/x", form)
    assert signature("token", "https://parley.example/x", form).decode() == told
    assert is_genuine(told.encode(), ("other", "token"), "https://parley.example/x", form)
    assert not is_genuine(told.encode(), ("other",), "https://parley.example/x", form)
    assert not is_genuine(told.encode(), ("token",), "https://parley.example/y", form)
    assert not is_genuine(told.encode(), ("token",), "https://parley.example/x", {**form, "!": "1"})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_a_value_error(body: bytes) -> None:
    try:
        form = parsed(body)
    except ValueError:
        return
    assert all(isinstance(value, str) for value in form.values())


def test_a_form_is_read_as_it_was_written() -> None:
    assert parsed(b"Body=a+b%26c%3D&To=%2B15550100100&Empty=") == {
        "Body": "a b&c=",
        "To": "+15550100100",
        "Empty": "",
    }
    with pytest.raises(ValueError, match="repeated"):
        parsed(b"a=1&a=2")


async def test_a_webhook_that_comes_five_times_gets_one_reply(stage: Stage) -> None:
    async with stage.scene() as talk:
        numbers = range(1, 9)
        await talk.know(numbers)
        await talk.dispatch(*numbers)
        await talk.until("conversations", {"state": "awaiting_reply"}, len(numbers))
        forms = [talk.form(number, "yes") for number in numbers] * 5
        statuses = await asyncio.gather(*(talk.webhook(INBOUND, form) for form in forms))
        assert set(statuses) == {200}
        await talk.accepted(2 * len(numbers))
        assert await talk.webhook(INBOUND, forms[0]) == 200
        await talk.until("conversations", {"state": "awaiting_reply", "dialogue.asked": "plan"}, len(numbers))
        assert Counter(entry["to"] for entry in talk.journal()) == {talk.theirs(n): 2 for n in numbers}
        incoming = [
            interaction
            for interaction in await talk.expect(InteractionRecorded, 3 * len(numbers))
            if interaction.direction is Direction.INCOMING
        ]
        assert len(incoming) == len(numbers)


async def test_what_is_forged_or_malformed_is_refused_and_never_an_error(stage: Stage) -> None:
    async with stage.scene() as talk:
        form = talk.form(1, "yes")
        assert await talk.webhook(INBOUND, form, token="wrong") == 403
        assert await talk.webhook(INBOUND, form, signed="") == 403
        assert await talk.webhook(INBOUND, form, signed="ÿ not base64") == 403
        assert await talk.webhook(INBOUND, {"Body": "no ids"}) == 403
        assert await talk.webhook("/v1/webhooks/sms/status/x", form, token="wrong") == 403
        async with aiohttp.ClientSession() as session:
            for body in (b"\xff\xfe", b"%ff=%fe", b"a=1&a=2", b"&" * 5000, b""):
                headers = {"X-Twilio-Signature": "x", "Content-Type": "application/x-www-form-urlencoded"}
                async with session.post(talk.stage.url + INBOUND, data=body, headers=headers) as answer:
                    assert answer.status == 403
        assert await talk.find("inbound", {}) == []
        assert await talk.webhook(INBOUND, form, token="next") == 200
        assert await talk.webhook(INBOUND, {**form, "Body": "Grüße & 👍 = +"}) == 200
        status = {"MessageSid": "SM9", "MessageStatus": "delivered"}
        assert await talk.webhook("/v1/webhooks/sms/status/nobodys", status) == 204


async def test_a_stranger_stays_visible_and_a_known_contact_gets_an_activity(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2], direction=SubjectDirection.INBOUND)
        await talk.write(2, "Hello, I have a question")
        await talk.write(99, "Who are you?")
        (activity,) = await talk.expect(ActivityCreated, 1)
        assert (activity.contact_id, activity.mode, activity.source) == (
            talk.contact_id(2),
            "manual",
            "inbound",
        )
        await talk.until("inbound", {"state": "unmatched"})
        page = await talk.get("/v1/unmatched")
        assert talk.theirs(99) in [item["sender"] for item in page["items"]]
        assert len(await talk.expect(MessageRecorded, 1)) == 1


async def test_what_led_to_nobody_is_counted_apart(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        before = Counter((await talk.get("/v1/messages/counts"))["led_to_nobody"])
        await talk.write(1, "Hello, I have a question")
        await talk.write(99, "Who are you?")
        await talk.write(98, "STOP")
        await talk.until("inbound", {"sender": talk.theirs(1), "contact_id": talk.contact_id(1)})
        await talk.until("inbound", {"sender": talk.theirs(99), "state": "unmatched"})
        await talk.until("inbound", {"sender": talk.theirs(98), "state": "worked"})
        after = Counter((await talk.get("/v1/messages/counts"))["led_to_nobody"])
        assert after - before == {"unmatched": 1, "worked": 1}
        (recorded,) = await talk.expect(MessageRecorded, 1)
        assert recorded.contact_id == talk.contact_id(1)


async def test_an_unsure_agent_hands_over_to_a_person(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.accepted(1)
        await talk.write(1, "I want to talk to a human")
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.result, outcome.reason) == ("failed", "handed_over: asked for a person")
        (activity,) = await talk.expect(ActivityCreated, 1)
        assert (activity.mode, activity.parent_id) == ("manual", talk.activity_id(1))
        assert (activity.root_id, activity.chain_depth) == (talk.activity_id(1), 1)


async def test_a_person_goes_on_in_the_chain_that_is_handed_over(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.wire.publish(talk.dispatched(1, root_id="the-first", chain_depth=7))
        await talk.accepted(1)
        await talk.write(1, "I want to talk to a human")
        (activity,) = await talk.expect(ActivityCreated, 1)
        assert (activity.root_id, activity.chain_depth) == ("the-first", 8)


async def test_no_reply_in_time_is_an_outcome_of_its_own(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1], no_response_seconds=1.0)
        await talk.dispatch(1)
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.result, outcome.disposition, outcome.actor) == ("completed", "no-answer", "system")


async def test_an_answer_that_nobody_has_worked_yet_was_in_time(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2], no_response_seconds=5.0)
        await talk.dispatch(1)
        await talk.until("conversations", {"state": "awaiting_reply"})
        inbound = talk.service.mongo["inbound"]
        kept = {"sender": talk.theirs(1), "to": talk.ours, "text": "yes", "received_at": real_now()}
        # In a bucket that nobody works.
        row = {"_id": talk.activity_id(1), "state": "new", "b": -1, "stored_real_at": real_now(), **kept}
        await inbound.insert_one(row)
        await talk.dispatch(2)
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert outcome.contact_id == talk.contact_id(2)
        bucket = bucket_of(talk.theirs(1).encode())
        await inbound.update_one({"_id": row["_id"]}, {"$set": {"b": bucket}})
        await talk.until("conversations", {"dialogue.asked": "plan"})


async def test_a_receipt_of_another_message_changes_nothing(stage: Stage) -> None:
    async with stage.scene(receipts=0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "sent"})
        (intent,) = await talk.find("intents", {})
        receipts = talk.service.mongo["receipts"]
        for sid, told in ((f"{intent['provider_message_id'][:-1]}?", "undelivered"), ("", "delivered")):
            form = {"MessageSid": sid or intent["provider_message_id"], "MessageStatus": told}
            assert await talk.webhook(f"/v1/webhooks/sms/status/{intent['_id']}", form) == 204

            async def worked() -> bool:
                return await receipts.find_one({"intent_id": intent["_id"]}) is None

            await eventually(worked, "the receipt to be worked")
        await talk.until("intents", {"status": "delivered"})
        assert {message.status for message in await talk.messages(MessageRecorded)} == {"sent", "delivered"}


async def test_a_receipt_that_cannot_be_worked_stays_and_stops_no_other() -> None:
    class Disputed(WorkReceipts):
        async def _work(self, rows: list[Document]) -> None:
            if any(row["_id"] == "disputed" for row in rows):
                raise Conflict("always")
            if any(row["_id"] == "taken" for row in rows):
                raise Conflict("somebody else has its message", duplicate=True)
            if any(row["_id"] == "broken" for row in rows):
                raise KeyError("of a newer replica")

    forgotten: list[str] = []

    class Receipts:
        async def held(self) -> frozenset[int]:
            return frozenset({1})

        async def waiting(self, *_: object, without: Iterable[str]) -> list[Document]:
            ids = {"disputed", "taken", "broken", "one", "other"} - set(forgotten) - set(without)
            return [{"_id": id_, "intent_id": id_} for id_ in sorted(ids)]

        async def forget(self, ids: Iterable[str]) -> None:
            forgotten.extend(ids)

    there = cast(Any, Receipts())
    aside = Metric("aside", "", registry=None)
    work = Disputed(there, there, there, there, there, there, there, there, aside)
    assert await work.step() == 2
    assert forgotten == ["one", "other"]
    assert await work.step() == 0, "what cannot be worked is left alone for a while"
    work._left["disputed"] = 0.0
    with capture_logs() as said:
        assert await work.step() == 0
    assert [line["intent_id"] for line in said if "intent_id" in line] == ["disputed"]
    assert aside._value.get() == 2, "a dispute may end by itself, but for what somebody else has for good"


async def test_a_reply_waits_its_delay_and_a_conclusion_cancels_it(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1], reply_delay_seconds=600.0)
        await talk.dispatch(1)
        await talk.accepted(1)
        await talk.write(1, "yes")
        await talk.until("conversations", {"state": "replying"})
        await talk.write(1, "no wait, I am not interested, talk to a manager")
        await talk.until("intents", {"state": "cancelled"})
        assert len(talk.journal()) == 1


async def test_a_number_that_nobody_can_reach_ends_as_undeliverable(stage: Stage) -> None:
    async with stage.scene(undelivered=1.0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert outcome.disposition == "bad-number"
        messages = await talk.expect(MessageRecorded, 2)
        assert [(m.version, m.status) for m in messages] == [(1, "sent"), (2, "undelivered")]


async def test_a_crowd_of_all_kinds_is_worked_to_the_end_through_every_failure(stage: Stage) -> None:
    """A small P1 and P2: each number once in the journal per intent, each activity at its end."""
    people = everybody("no") | {"people_yes": 2, "people_stop": 1, "people_question": 1}
    trouble = {"error_after": 0.1, "reset_after": 0.1, "error_before": 0.02, "rate_limited": 0.1}
    async with stage.scene(**people, **trouble, webhook_repeats=0.5, retry_after_seconds=0.05) as talk:
        numbers = range(40)
        await talk.know(numbers)
        await talk.dispatch(*numbers)
        await talk.until("conversations", {"state": "concluded"}, len(numbers), within=90)
        talk.behave()
        outcomes = await talk.expect(ActivityOutcome, len(numbers))
        assert len({outcome.activity_id for outcome in outcomes}) == len(numbers)
        assert talk.carrier.network.messages.sent_more_than_once() == []
        await talk.until("intents", {"purpose": "opening", "state": "sent"}, len(numbers))
        sent = {row["_id"] for row in await talk.find("intents", {"state": "sent"})}
        assert {entry["reference"] for entry in talk.journal()} >= sent
        assert {talk.opening_id(number) for number in numbers} <= sent
