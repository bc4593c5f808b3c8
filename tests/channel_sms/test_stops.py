"""Who says no is not written to, whatever is on its way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from channel_sms.webhooks import INBOUND_PATH
from contracts.activities import ActivityOutcome
from contracts.contacts import ContactChanged, Phone, SetPreference
from servicekit.clock import real_now
from servicekit.leases import bucket_of
from tests.channel_sms.world import NOW, Scene, Stage
from tests.kit import eventually


def opted_out(talk: Scene, person: int) -> ContactChanged:
    optout = {"do-not-sms": {"at": "2026-01-01T00:00:00Z", "source": "api", "actor": "x"}}
    told = talk.contact(person).model_dump() | {"version": 2, "preferences": optout}
    return ContactChanged.model_validate(told)


async def test_nothing_goes_to_an_address_after_its_stop(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.accepted(1)
        await talk.write(1, "Stop texting me")
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.result, outcome.disposition) == ("completed", "opted-out")
        (command,) = await talk.expect(SetPreference, 1)
        assert (command.contact_id, command.opted_out) == (talk.contact_id(1), True)
        await talk.accepted(2)
        late = [2, 3]
        await talk.wire.publish(*(talk.dispatched(number, destination=talk.theirs(1)) for number in late))
        await talk.wire.publish(*(talk.contact(number) for number in late))
        outcomes = await talk.expect(ActivityOutcome, 3)
        assert {outcome.disposition for outcome in outcomes} == {"opted-out"}
        await talk.write(1, "STOP")
        await talk.write(1, "are you still there?")
        await talk.until("inbound", {"state": {"$ne": "new"}}, 3)
        assert [entry["body"][:13] for entry in talk.journal()] == ["Hi Ann, would", "You are opted"]


async def test_a_stop_is_answered_when_nothing_can_be_written_any_more(stage: Stage) -> None:
    async with stage.scene(receipts=0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "sent"})
        intents = talk.service.mongo["intents"]
        being_written = {"state": "sending", "claimed_real_at": real_now() + timedelta(seconds=20)}
        await intents.update_one({"_id": talk.opening_id(1)}, {"$set": being_written})
        answer = asyncio.create_task(talk.webhook(INBOUND_PATH, talk.form(1, "STOP")))
        await talk.until("suppressions", {"_id": talk.theirs(1), "state": "stopping"})
        later = talk.form(1, "and who is this?") | {"MessageSid": f"SM{1:032x}"}
        assert await talk.webhook(INBOUND_PATH, later) == 200, "what is no opt-out waits for nothing"
        assert not answer.done()
        assert await talk.find("inbound", {"_id": talk.form(1, "")["MessageSid"], "state": "new"})
        await intents.update_one({"_id": talk.opening_id(1)}, {"$set": {"state": "sent"}})
        assert await answer == 200
        await talk.until("suppressions", {"_id": talk.theirs(1), "state": "active"})


async def test_no_text_goes_to_whom_nobody_has_heard_yet(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        unheard = {
            "_id": f"SM{talk.number:016x}{9:016x}",
            "sender": talk.theirs(1),
            "to": talk.ours,
            "text": "STOP",
            "received_at": NOW,
            "stored_real_at": real_now(),
            "state": "new",
            "b": -1,  # in nobody's hands, as when whoever has it is frozen
        }
        inbound = talk.service.mongo["inbound"]
        await inbound.insert_one(unheard)
        await talk.dispatch(1)
        await talk.until("intents", {"state": "pending", "attempts": {"$gte": 3}})
        assert talk.journal() == []
        await inbound.update_one({"_id": unheard["_id"]}, {"$set": {"b": bucket_of(talk.theirs(1).encode())}})
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.disposition, outcome.reason) == ("opted-out", "opted_out")
        await talk.accepted(1)
        assert [entry["body"][:13] for entry in talk.journal()] == ["You are opted"]


async def test_a_stop_ends_every_open_conversation_of_the_contact(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.wire.publish(
            talk.dispatched(1),
            talk.dispatched(1, activity_id=talk.activity_id(2)),
            talk.dispatched(1, activity_id=talk.activity_id(3)),
        )
        await talk.accepted(3)
        await talk.until("conversations", {"state": "awaiting_reply"}, 3)
        await talk.write(1, "STOP")
        outcomes = await talk.expect(ActivityOutcome, 3)
        assert {o.activity_id for o in outcomes} == {talk.activity_id(n) for n in (1, 2, 3)}
        assert len(await talk.messages(SetPreference)) == 1


async def test_start_opts_in_again_and_help_is_answered(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.accepted(1)
        await talk.write(1, "HELP")
        await talk.accepted(2)
        await talk.write(1, "STOP")
        await talk.accepted(3)
        await talk.write(1, "START")
        await talk.accepted(4)
        words = [entry["body"].split(".")[0] for entry in talk.journal()[1:]]
        assert words == [
            "Automated messages",
            "You are opted out and will get no more messages",
            "You are opted back in",
        ]
        commands = await talk.expect(SetPreference, 2)
        assert [command.opted_out for command in commands] == [True, False]


async def test_who_comes_back_is_told_so_before_the_contact_is_known_to_be_back(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.accepted(1)
        await talk.write(1, "STOP")
        await talk.accepted(2)
        await talk.wire.publish(opted_out(talk, 1))
        await talk.until("contacts", {"version": 2})
        await talk.write(1, "START")
        await talk.accepted(3)
        assert talk.journal()[2]["body"].startswith("You are opted back in")


async def test_a_stop_takes_back_what_waits_for_another_number_of_the_contact(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 3])
        both = (Phone(number=talk.theirs(1)), Phone(number=talk.theirs(2)))
        await talk.wire.publish(talk.contact(1, version=2, phones=both))
        await talk.until("contacts", {"version": 2})
        await talk.campaign_is("paused", 1)
        waits = {"destination": talk.theirs(2), "campaign_id": talk.campaign_id}
        await talk.wire.publish(
            talk.dispatched(1), talk.dispatched(1, activity_id=talk.activity_id(2), **waits)
        )
        await talk.until("conversations", {"state": "awaiting_reply"})
        await talk.until("intents", {"state": "pending"})
        await talk.write(1, "STOP")
        await talk.until("conversations", {"state": "concluded"}, 2)
        await talk.campaign_is("running", 2)
        await talk.dispatch(3)
        await talk.accepted(3)
        assert talk.theirs(2) not in {entry["to"] for entry in talk.journal()}
        assert len(await talk.find("intents", {"state": "cancelled"})) == 1


async def test_a_contact_who_opted_out_elsewhere_is_not_texted(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.wire.publish(opted_out(talk, 1))
        await talk.until("contacts", {"version": 2})
        await talk.dispatch(1)
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert outcome.disposition == "opted-out"
        assert talk.journal() == []


@pytest.mark.parametrize("how", ["the contact", "the number"])
async def test_who_opts_out_while_a_text_waits_is_not_sent_it(stage: Stage, how: str) -> None:
    async with stage.scene(rate_limited=1.0, retry_after_seconds=0.2) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "pending", "attempts": {"$gte": 1}})
        if how == "the contact":
            await talk.wire.publish(opted_out(talk, 1))
            await talk.until("contacts", {"version": 2})
        else:
            await talk.service.mongo["suppressions"].insert_one({"_id": talk.theirs(1), "state": "active"})
        (before,) = await talk.find("intents", {})

        async def decided() -> bool:
            (intent,) = await talk.find("intents", {})
            return bool(intent["state"] == "cancelled" or intent["attempts"] > before["attempts"] + 2)

        await eventually(decided, "the sender to look again")
        talk.behave()
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.disposition, outcome.reason) == ("opted-out", "opted_out")
        assert talk.journal() == []


@pytest.mark.parametrize("word", ["STOP", "HELP"])
async def test_who_was_never_written_to_is_answered_and_sending_goes_on(stage: Stage, word: str) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.write(1, word)
        await talk.accepted(1)
        await talk.dispatch(2)
        await talk.accepted(2)
        assert [entry["to"] for entry in talk.journal()] == [talk.theirs(1), talk.theirs(2)]
        await talk.until("intents", {"state": "sent"}, 2)
