"""Who was erased is forgotten here, and everything that was counted stays countable."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from channel_sms.adapters.mongo_suppressions import MongoSuppressions
from channel_sms.domain.fingerprints import Fingerprints
from contracts.activities import ActivityOutcome
from servicekit.conflicts import Conflict
from servicekit.mongo import Mongo
from servicekit.settings import BadSettings
from tests.channel_sms.world import Scene, Stage, everybody
from tests.kit import eventually, settled

EVERYTHING = ("conversations", "intents", "inbound", "receipts", "suppressions", "contacts", "outbox")


async def erase(talk: Scene, *people: int) -> None:
    for person in people:
        await talk.wire.publish_raw("contact-changed", None, key=talk.contact_id(person).encode())
    await talk.until("contacts", {"erased": True}, len(people))


async def places_that_know(talk: Scene, *words: str) -> set[str]:
    found = set()
    for collection in EVERYTHING:
        async for row in talk.service.mongo[collection].find({}):
            if any(word in repr(row) for word in words):
                found.add(collection)
    return found


async def forgotten(talk: Scene, *words: str) -> None:
    async def nowhere() -> bool:
        return not await places_that_know(talk, *words)

    await eventually(nowhere, f"none of {words} to be anywhere")


async def test_words_numbers_and_captured_fields_go_and_what_is_counted_stays(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.dispatch(1, 2)
        await talk.until("conversations", {"state": "awaiting_reply"}, 2)
        await talk.write(1, "yes")
        await talk.accepted(3)
        await talk.write(1, "plus, and say hello to Mephistopheles")
        await talk.accepted(4)
        await talk.until("inbound", {"state": "worked"}, 2)
        await talk.until("intents", {"status": "delivered"}, 4)
        before = await talk.get("/v1/messages/counts")
        assert {"conversations", "intents", "inbound"} <= await places_that_know(talk, talk.theirs(1))

        await erase(talk, 1, 2)

        await forgotten(talk, talk.theirs(1), talk.theirs(2), "Mephistopheles")
        ended = await talk.find("conversations", {})
        assert {(row["state"], row["reason"]) for row in ended} == {("concluded", "recalled: contact_erased")}
        assert [row["dialogue"]["captured"] for row in ended] == [{}, {}]
        assert await talk.get("/v1/messages/counts") == before
        assert await talk.messages(ActivityOutcome) == []
        transcript = await talk.get(f"/v1/conversations/{talk.activity_id(1)}")
        assert [line["text"] for line in transcript["lines"]] == [""] * 5

        await talk.write(1, "and who are you?")
        await talk.until("inbound", {"state": "unmatched", "contact_id": None})


async def test_of_a_reason_only_our_own_words_outlive_an_erasure(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.dispatch(1, 2)
        await talk.until("conversations", {"state": "awaiting_reply"}, 2)
        await talk.wire.publish(talk.recalled(1).evolve(reason="her son Mephisto rang"))
        await talk.until("conversations", {"reason": "recalled: her son Mephisto rang"})
        await talk.write(2, "stop")
        await talk.until("conversations", {"reason": "opted_out"})
        await erase(talk, 1, 2)
        await forgotten(talk, "Mephisto", talk.theirs(2))
        assert {row["reason"] for row in await talk.find("conversations", {})} == {"recalled", "opted_out"}


async def test_what_waits_is_not_sent(stage: Stage) -> None:
    async with stage.scene(**everybody("question")) as talk:
        await talk.know([1], reply_delay_seconds=3600)
        await talk.dispatch(1)
        await talk.until("intents", {"state": "pending", "purpose": "reply"})
        await erase(talk, 1)
        await talk.until("intents", {"state": "cancelled", "to": "", "text": ""})
        assert len(talk.journal()) == 1


async def test_a_send_in_doubt_keeps_its_words_until_it_is_settled(stage: Stage) -> None:
    async with stage.scene(timeout_after=1.0, timeout_seconds=3, receipts=0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": {"$in": ["sending", "unknown"]}, "claim": {"$exists": True}})
        await erase(talk, 1)
        await talk.until("intents", {"state": "sent", "to": "", "text": ""})
        assert len(talk.journal()) == 1


async def test_a_no_outlives_its_contact_and_its_number_is_not_kept(stage: Stage) -> None:
    async with stage.scene(**everybody("stop")) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.accepted(2)
        await talk.until("intents", {"state": "sent"}, 2)
        await erase(talk, 1)
        await forgotten(talk, talk.theirs(1))

        talk.behave()
        again = talk.contact(2).evolve(phones=talk.contact(1).phones)
        await talk.wire.publish(again)
        await talk.until("contacts", {"_id": again.contact_id})
        await talk.wire.publish(talk.dispatched(2, destination=talk.theirs(1)))
        (first,) = [
            each for each in await talk.expect(ActivityOutcome, 2) if each.contact_id == again.contact_id
        ]
        assert (first.reason, len(talk.journal())) == ("opted_out", 2)

        await talk.write(1, "START")
        await talk.accepted(3)
        third = talk.dispatched(3, contact_id=again.contact_id, destination=talk.theirs(1))
        await talk.wire.publish(third)
        assert {entry["reference"] for entry in await talk.accepted(4)} >= {talk.opening_id(3)}


async def test_a_number_that_others_have_too_stays_theirs(stage: Stage) -> None:
    async with stage.scene(**everybody("stop")) as talk:
        await talk.know([1])
        also = talk.contact(2).evolve(phones=talk.contact(1).phones)
        await talk.wire.publish(also)
        await talk.until("contacts", {"_id": also.contact_id})
        await talk.dispatch(1)
        await talk.accepted(2)
        await talk.until("intents", {"state": "sent"}, 2)
        await erase(talk, 1)
        await talk.until("intents", {"to": "", "text": ""}, 2)

        async def named_alone() -> bool:
            (known,) = (await talk.get(f"/v1/suppressions?address=%2B{talk.theirs(1)[1:]}"))["items"]
            return bool(known["state"] == "active" and known["contact_ids"] == [also.contact_id])

        await eventually(named_alone, "the number to stand for the other one only")


async def test_a_text_that_may_be_somebody_elses_is_not_taken_away(stage: Stage) -> None:
    async with stage.scene() as talk:
        # Nobody is known to have these numbers yet.
        await talk.write(1, "Who is this?")
        await talk.write(3, "And this?")
        await talk.until("inbound", {"state": "unmatched"}, 2)
        await talk.know([1])
        shared, own = talk.contact(1).phones, talk.contact(3).phones
        also = talk.contact(2).evolve(phones=shared)
        await talk.wire.publish(talk.contact(1).evolve(phones=(*shared, *own), version=2), also)
        await talk.until("contacts", {"_id": talk.contact_id(1), "version": 2})
        await talk.until("contacts", {"_id": also.contact_id})
        await erase(talk, 1)
        await forgotten(talk, talk.theirs(3), "And this?")
        (kept,) = await talk.find("inbound", {"sender": talk.theirs(1)})
        assert kept["text"] == "Who is this?"


async def test_what_strangers_asked_by_keyword_is_forgotten_once_they_are_known_and_erased(
    stage: Stage,
) -> None:
    async with stage.scene() as talk:
        for number, words in (1, "STOP please, this is Mephisto"), (2, "HELP"), (3, "STOP"):
            await talk.write(number, words)
        await talk.until("inbound", {"state": "worked"}, 3)
        await talk.write(3, "START")
        await talk.until("inbound", {"state": "worked"}, 4)
        await talk.know([1, 2, 3])
        await erase(talk, 1, 2, 3)
        await forgotten(talk, "Mephisto", *map(talk.theirs, (1, 2, 3)))


async def test_a_number_from_before_and_one_known_from_talking_alone_are_forgotten(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.accepted(1)
        # Her number changes: the first is known from talking, and of the second there is only a HELP.
        second = talk.contact(2).phones
        await talk.wire.publish(talk.contact(1).evolve(phones=second, version=2))
        await talk.until("contacts", {"_id": talk.contact_id(1), "version": 2})
        await talk.write(2, "HELP")
        await talk.accepted(2)
        await talk.write(1, "STOP")
        await talk.accepted(3)
        await talk.until("intents", {"state": "sent"}, 3)
        third = talk.contact(3).phones
        await talk.wire.publish(talk.contact(1).evolve(phones=third, version=3))
        await talk.until("contacts", {"_id": talk.contact_id(1), "version": 3})
        await erase(talk, 1)
        await forgotten(talk, *map(talk.theirs, (1, 2, 3)))
        suppressed = (await talk.get(f"/v1/suppressions?address=%2B{talk.theirs(1)[1:]}"))["items"]
        assert [each["state"] for each in suppressed] == ["active"]


async def test_it_is_looked_for_again_until_nothing_can_be_in_hand(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await erase(talk, 1)
        here = {"_id": talk.contact_id(1)}
        await talk.until("erasures", here)
        # A dispatch that was decided before the erasure was known is written after it.
        await talk.wire.publish(talk.dispatched(2, contact_id=talk.contact_id(1), destination=talk.theirs(1)))
        await talk.until("conversations", {"reason": "contact_erased"})
        assert await places_that_know(talk, talk.theirs(1)) == set()
        erasures = talk.service.mongo["erasures"]
        await erasures.update_one(
            here, [{"$set": {"told_real_at": {"$subtract": ["$told_real_at", 600_000]}}}]
        )

        async def done() -> bool:
            return await erasures.find_one(here) is None

        await eventually(done, "the end of it")
        # Told again, for example by a rewind, it is looked for once.
        await talk.wire.publish_raw("contact-changed", None, key=talk.contact_id(1).encode())
        await settled(talk.service)
        await eventually(done, "the end of it again", within=5)


async def test_a_number_that_somebody_had_before_is_forgotten_too(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.write(1, "HELP")
        await talk.accepted(1)
        await talk.write(1, "STOP")
        await talk.accepted(2)
        await talk.until("intents", {"state": "sent"}, 2)
        moved = talk.contact(1, phones=talk.contact(2).phones, version=2)
        await talk.wire.publish(moved)
        await talk.until("contacts", {"_id": moved.contact_id, "numbers": [talk.theirs(2)]})
        await erase(talk, 1)
        await forgotten(talk, talk.theirs(1), talk.theirs(2))
        # Whoever is stopped half-way finds it again.
        await talk.until("erasures", {"_id": moved.contact_id, "addresses": talk.theirs(1)})


async def test_a_no_is_not_lost_when_its_number_is_forgotten_and_remembered_at_once(stage: Stage) -> None:
    async with stage.scene() as talk:
        suppressions, number = MongoSuppressions(talk.service.mongo, Fingerprints()), talk.theirs(1)
        await suppressions.collection.insert_one({"_id": number, "state": "active"})

        async def again(call: Callable[[], Awaitable[None]]) -> None:
            for _ in range(50):
                with suppress(Conflict):
                    await call()

        await asyncio.gather(
            again(lambda: suppressions.forget("nobody", {number}, {number})),
            again(lambda: suppressions.remember({number})),
        )
        assert await suppressions.among({number}) == {number}


async def test_a_no_stands_under_every_key_that_fingerprints_were_made_with(stage: Stage) -> None:
    async with stage.scene() as talk:
        mongo, numbers = talk.service.mongo, [talk.theirs(each) for each in (1, 2, 3)]
        none, old, new = _keyed(mongo), _keyed(mongo, "k" * 16), _keyed(mongo, "l" * 16, "k" * 16)
        soon = _keyed(mongo, "", "k" * 16)
        for number, at_the_time in zip(numbers, (soon, old, new), strict=True):
            await mongo["suppressions"].insert_one({"_id": number, "state": "active"})
            await at_the_time.forget("nobody", {number}, {number})
        assert await places_that_know(talk, *numbers) == set()
        assert await new.among(numbers) == set(numbers)
        await new.refuse_a_lost_key()
        for missing in (none, old, soon):
            with pytest.raises(BadSettings, match="hashed with a key that is missing"):
                await missing.refuse_a_lost_key()
        # As an earlier version left it, which named no key.
        await mongo["fingerprint_keys"].delete_many({})
        await new.refuse_a_lost_key()
        for missing in (none, old, soon):
            with pytest.raises(BadSettings, match="hashed with a key that is missing"):
                await missing.refuse_a_lost_key()

        await new.remember(numbers)
        names = [row["_id"] async for row in mongo["suppressions"].find({"_id": {"$in": numbers}})]
        assert sorted(names) == numbers
        # Each row of its own: other stories of this stage have theirs under no key.
        assert not [row async for row in mongo["suppressions"].find({"_id": re.compile("^erased:.*:")})]


def _keyed(mongo: Mongo, key: str = "", *others: str) -> MongoSuppressions:
    return MongoSuppressions(mongo, Fingerprints(key, others))
