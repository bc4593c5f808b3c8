"""Whole conversations, through topics, webhooks and the carrier."""

from __future__ import annotations

from contracts.activities import ActivityOutcome, ActivityProgressed
from contracts.campaigns import Question
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from contracts.vocabulary import Direction
from tests.channel_sms.world import Stage, everybody


async def test_a_person_who_agrees_is_asked_everything_and_ends_as_sold(stage: Stage) -> None:
    async with stage.scene(**everybody("yes")) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.result, outcome.disposition, outcome.actor) == (
            "completed",
            "sold",
            "automated-agent",
        )
        assert outcome.dispatch_number == 1
        assert outcome.captured["plan"] in ("basic", "plus")
        assert outcome.captured["seats"] >= 1
        bodies = [entry["body"] for entry in talk.journal()]
        assert bodies == [
            "Hi Ann, would you like to renew? Reply YES or NO.",
            "Which plan (basic, plus)?",
            "How many seats?",
        ]
        (progressed,) = await talk.messages(ActivityProgressed)
        assert progressed.state == "awaiting_reply"
        await talk.until("intents", {"status": "delivered"}, 3)
        messages = await talk.expect(MessageRecorded, 9)
        assert sorted(m.status for m in messages) == ["delivered"] * 3 + ["received"] * 3 + ["sent"] * 3
        interactions = await talk.expect(InteractionRecorded, 6)
        assert len(interactions) == 6
        assert sum(i.direction is Direction.INCOMING for i in interactions) == 3
        assert talk.opening_id(1) in {i.interaction_id for i in interactions}
        told = await talk.get("/v1/conversations/" + talk.activity_id(1))
        assert [line["direction"] for line in told["lines"]] == ["outgoing", "incoming"] * 3
        counts = await talk.get("/v1/messages/counts")
        assert counts["outgoing"]["delivered"] >= 3
        assert counts["incoming"]["worked"] >= 3
        assert talk.journal()[0]["to"] == talk.theirs(1)


async def test_a_number_that_no_database_takes_is_asked_again_and_holds_up_nobody(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2], questions=(Question(field="seats", text="How many seats?"),))
        await talk.dispatch(1, 2)
        await talk.accepted(2)
        await talk.write(1, "yes")
        await talk.accepted(3)
        await talk.write(1, "9" * 30)
        await talk.write(2, "stop")
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.contact_id, outcome.disposition) == (talk.contact_id(2), "opted-out")
        assert [entry["body"] for entry in await talk.accepted(4) if entry["to"] == talk.theirs(1)][-1] == (
            "Sorry, I did not get that. How many seats?"
        )


async def test_a_text_that_cannot_be_worked_is_left_to_people_and_holds_up_nobody(stage: Stage) -> None:
    async with stage.scene() as talk:
        no_name = Question(field="\0", text="How many seats?")  # no document can have it
        await talk.know([1, 2], questions=(no_name,))
        await talk.dispatch(1, 2)
        await talk.accepted(2)
        await talk.write(1, "yes")
        await talk.accepted(3)
        # As after an opt-out that was announced and cannot be recorded: a START must be able to lift it.
        await talk.service.mongo["suppressions"].insert_one({"_id": talk.theirs(1), "state": "stopping"})
        await talk.write(1, "seven")
        await talk.write(2, "stop")
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.contact_id, outcome.disposition) == (talk.contact_id(2), "opted-out")
        await talk.until("inbound", {"text": "seven", "state": "unmatched"})
        await talk.until("suppressions", {"_id": talk.theirs(1), "state": "active"})
        await talk.write(1, "START")
        await talk.until("suppressions", {"_id": talk.theirs(1), "state": "lifted"})
        listed = (await talk.get("/v1/unmatched?limit=1000"))["items"]
        (left,) = [text for text in listed if text["sender"] == talk.theirs(1)]
        assert (left["text"], left["error"]) == ("seven", "InvalidDocument")
