"""What was dispatched and may not begin, or go on, any more: it waits, is given back, or ends."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from channel_sms.adapters.mongo_intents import MongoIntents, from_document
from channel_sms.provider import Provider, Result, Text
from contracts.activities import ActivityOutcome, ActivityReturned
from tests.channel_sms.world import Stage, sender_of
from tests.kit import settled


async def test_a_paused_campaign_begins_no_conversation_that_was_dispatched_before(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.campaign_is("paused", 1)
        await talk.wire.publish(talk.dispatched(1, campaign_id=talk.campaign_id), talk.dispatched(2))
        await talk.until("intents", {"contact_id": talk.contact_id(2), "state": "sent"})
        assert talk.references() == {talk.opening_id(2): 1}
        (held,) = await talk.find("intents", {"contact_id": talk.contact_id(1)})
        assert held["state"] == "pending"
        intents, later = MongoIntents(talk.service.mongo), talk.service.clock.now() + timedelta(hours=1)
        of_all, of_running = [await intents.count_due(later, at_rest) for at_rest in ((), {talk.campaign_id})]
        assert of_all - of_running == 1
        # A copy of the campaign that is later than what was asked for what is due.
        assert await sender_of(talk)._within_pace([from_document(held)], 1.0) == []
        await talk.campaign_is("running", 2)
        await talk.until("intents", {"state": "sent"}, 2)
        assert talk.references() == {talk.opening_id(1): 1, talk.opening_id(2): 1}


async def test_what_the_contacts_hours_leave_no_time_for_is_given_back(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        now = talk.service.clock.now()
        over, hours = now - timedelta(seconds=1), now + timedelta(hours=1)
        late = talk.dispatched(1, not_after=over)
        await talk.wire.publish(late, late, talk.dispatched(2, not_after=hours))
        (returned,) = await talk.expect(ActivityReturned, 1)
        assert (returned.activity_id, returned.dispatch_number) == (talk.activity_id(1), 1)
        await talk.until("intents", {"contact_id": talk.contact_id(2), "state": "sent"})
        assert talk.references() == {talk.opening_id(2): 1}
        await talk.wire.publish(late, talk.dispatched(1, dispatch_number=2, not_after=hours))
        await talk.until("intents", {"contact_id": talk.contact_id(1), "state": "sent"})
        assert sum(talk.references().values()) == 2
        assert await talk.messages(ActivityOutcome) == []


class Listening:
    """A provider that remembers for how long each text may be held back."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.seconds: dict[str, int] = {}

    async def send(self, text: Text, before: float) -> Result:
        self.seconds[text.intent_id] = text.validity_seconds
        return await self.provider.send(text, before)


async def test_the_carrier_holds_no_text_back_beyond_the_contacts_hours(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2, 3])
        now, sender = talk.service.clock.now(), sender_of(talk)
        told = Listening(sender._provider)
        sender._provider = cast(Provider, told)
        hour, day = now + timedelta(hours=1), now + timedelta(days=1)
        await talk.wire.publish(
            talk.dispatched(1, not_after=hour), talk.dispatched(2, not_after=day), talk.dispatched(3)
        )
        await talk.until("intents", {"state": "sent"}, 3)
        sender._provider = told.provider
        short, long, unbounded = (told.seconds[talk.opening_id(person)] for person in (1, 2, 3))
        valid = talk.service.settings.model_dump()["sms_validity_seconds"]
        assert short <= 3600 < long <= valid
        assert 3600 < unbounded <= valid


@pytest.mark.parametrize("then", ["stopped", "ended"])
async def test_what_was_dispatched_before_its_campaign_was_over_is_given_back(
    stage: Stage, then: str
) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.campaign_is("paused", 1)
        await talk.wire.publish(talk.dispatched(1, campaign_id=talk.campaign_id), talk.dispatched(2))
        await talk.until("intents", {"state": "sent"})
        if then == "stopped":
            await talk.campaign_is("stopped", 2)
        else:
            await talk.campaign_is("paused", 2, ends_at=talk.service.clock.now())
        (returned,) = await talk.expect(ActivityReturned, 1)
        assert (returned.activity_id, returned.reason) == (talk.activity_id(1), f"campaign_{then}")
        assert talk.references() == {talk.opening_id(2): 1}


async def test_an_endpoint_that_was_disabled_begins_no_conversation_that_was_dispatched_before(
    stage: Stage,
) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.campaign_is("paused", 1)
        await talk.wire.publish(talk.dispatched(1, campaign_id=talk.campaign_id))
        await talk.until("intents", {"state": "pending"})
        await talk.wire.publish(talk.endpoint().evolve(version=2, enabled=False))
        await talk.until("endpoints", {"_id": talk.endpoint_id, "enabled": False})
        await talk.campaign_is("running", 2)
        (returned,) = await talk.expect(ActivityReturned, 1)
        assert returned.reason == "endpoint_disabled"
        assert talk.references() == {}


async def test_what_is_over_takes_nothing_of_the_pace_of_its_number(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know(range(1, 7))
        await talk.wire.publish(talk.endpoint().evolve(version=2, segments_per_second=0.01))
        await talk.until("endpoints", {"_id": talk.endpoint_id, "version": 2})
        await talk.campaign_is("paused", 1)
        waiting = [talk.dispatched(person, campaign_id=talk.campaign_id) for person in range(1, 6)]
        await talk.wire.publish(*waiting)
        await talk.until("intents", {"state": "pending"}, 5)
        await talk.campaign_is("stopped", 2)
        await talk.expect(ActivityReturned, 5)
        await talk.dispatch(6)
        await talk.until("intents", {"state": "sent"})
        assert talk.references() == {talk.opening_id(6): 1}


async def test_an_endpoint_that_is_disabled_begins_nothing_and_ends_nothing(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.wire.publish(talk.endpoint().evolve(version=2, enabled=False))
        await talk.until("endpoints", {"_id": talk.endpoint_id, "enabled": False})
        await talk.dispatch(1)
        (returned,) = await talk.expect(ActivityReturned, 1)
        assert returned.reason == "endpoint_disabled"
        await talk.wire.publish(talk.endpoint().evolve(version=3))
        await talk.until("endpoints", {"_id": talk.endpoint_id, "enabled": True})
        await talk.wire.publish(talk.dispatched(1, dispatch_number=2))
        await talk.until("intents", {"state": "sent"})
        assert await talk.messages(ActivityOutcome) == []


async def test_what_is_recalled_before_it_was_sent_is_never_sent(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.campaign_is("paused", 1)
        held = talk.dispatched(1, campaign_id=talk.campaign_id)
        await talk.wire.publish(held)
        await talk.until("intents", {"state": "pending"})
        await talk.wire.publish(talk.recalled(1))
        await talk.until("intents", {"state": "cancelled"})
        await talk.campaign_is("running", 2)
        await talk.wire.publish(held, talk.dispatched(2))
        await talk.until("intents", {"contact_id": talk.contact_id(2), "state": "sent"})
        assert talk.references() == {talk.opening_id(2): 1}
        assert await talk.messages(ActivityOutcome) == []


async def test_no_answer_that_waits_outlives_its_conversation(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1], reply_delay_seconds=2.0)
        await talk.dispatch(1)
        await talk.until("conversations", {"state": "awaiting_reply"})
        await talk.write(1, "Yes")
        await talk.until("intents", {"state": "pending"})
        await talk.write(1, "Hello?")
        await talk.until("intents", {"state": "pending"}, 2)
        await talk.wire.publish(talk.recalled(1))
        await talk.until("intents", {"state": "cancelled"}, 2)
        assert talk.references() == {talk.opening_id(1): 1}


async def test_a_conversation_that_is_recalled_is_not_answered_any_more(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("conversations", {"state": "awaiting_reply"})
        await talk.wire.publish(talk.recalled(1))
        await talk.until("conversations", {"state": "concluded", "reason": "recalled: on second thoughts"})
        await talk.write(1, "Yes")
        await talk.until("inbound", {"state": {"$ne": "new"}})
        assert talk.references() == {talk.opening_id(1): 1}
        assert await talk.messages(ActivityOutcome) == []


async def test_a_dispatch_that_comes_after_its_recall_begins_nothing(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2, 3])
        await talk.wire.publish(talk.recalled(1))
        await talk.until("recalls", {}, 1)
        await talk.wire.publish(talk.dispatched(1), talk.recalled(2), talk.dispatched(2), talk.dispatched(3))
        await talk.until("intents", {"state": "sent"}, 1)
        await settled(talk.service)
        assert talk.references() == {talk.opening_id(3): 1}
        assert await talk.messages(ActivityOutcome) == []
