"""Nothing is sent twice, nothing is lost: the carrier's journal is the judge."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from channel_sms.adapters.mongo_intents import MongoIntents, to_document
from channel_sms.domain.intent import IntentState, Purpose, new_intent
from channel_sms.domain.settling import Suppressed, Unsent
from channel_sms.main import build
from channel_sms.pace import Pace
from channel_sms.settings import Settings
from channel_sms.use_cases.record_results import RecordResults
from channel_sms.use_cases.settle_sends import Settling
from contracts.activities import ActivityOutcome
from contracts.channel_sms import InteractionRecorded
from servicekit.clock import real_now
from servicekit.conflicts import Conflict
from servicekit.failpoints import FAILPOINTS
from servicekit.mongo import Mongo
from tests.channel_sms.test_intents import intent
from tests.channel_sms.world import NOW, Scene, Stage, everybody, fictional, sender_of, standing
from tests.engines import Engines
from tests.kit import eventually, failed_where_told


def results_of(talk: Scene) -> RecordResults:
    return sender_of(talk)._results


async def test_429_is_tried_again_until_it_is_sent(stage: Stage) -> None:
    async with stage.scene(rate_limited=0.5, retry_after_seconds=0.05) as talk:
        await talk.know(range(20))
        await talk.dispatch(*range(20))
        await talk.until("intents", {"state": "sent"}, 20)
        assert set(talk.references().values()) == {1}
        assert talk.carrier.api.answers["429"] > 0


async def test_a_bad_number_is_refused_for_good(stage: Stage) -> None:
    async with stage.scene(bad_numbers=1.0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        (outcome,) = await talk.expect(ActivityOutcome, 1)
        assert (outcome.disposition, outcome.reason) == ("bad-number", "refused: 21211")
        assert talk.journal() == []


async def test_a_carrier_that_is_away_is_waited_for(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        answers = talk.service.metrics.registry
        before = answers.get_sample_value("parley_sends_total", {"result": "not_sent"}) or 0
        talk.carrier._go_dark(1.0)
        await asyncio.sleep(0)
        await talk.dispatch(1)
        await talk.until("intents", {"state": "sent"})
        assert talk.references() == {talk.opening_id(1): 1}
        assert (answers.get_sample_value("parley_sends_total", {"result": "not_sent"}) or 0) > before
        assert answers.get_sample_value("parley_texts_due") is not None


async def test_a_crash_between_marking_and_sending_repeats_nothing(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        FAILPOINTS.arm("channel-sms.before_send=error@1")
        await talk.dispatch(1)
        await talk.until("intents", {"state": "unknown"})
        await talk.dispatch(2)
        await talk.until("intents", {"state": "sent"}, 2)
        assert talk.references() == {talk.opening_id(1): 1, talk.opening_id(2): 1}


@pytest.mark.parametrize(
    "place", ["after_claim", "after_send", "before_results", "after_results", "before_claim"]
)
async def test_a_fault_at_any_place_of_a_send_repeats_nothing(stage: Stage, place: str) -> None:
    async with stage.scene() as talk:
        await talk.know(range(5))
        FAILPOINTS.arm(f"channel-sms.{place}=error@1")
        await talk.dispatch(*range(5))
        await talk.until("intents", {"state": "sent"}, 5)
        await failed_where_told()
        assert talk.references() == {talk.opening_id(number): 1 for number in range(5)}
        interactions = await talk.expect(InteractionRecorded, 5)
        assert len({i.interaction_id for i in interactions}) == 5


async def test_what_is_not_recorded_yet_bounds_what_is_claimed_and_is_not_taken_for_lost(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    people, at_once = range(150), 10
    async with (
        standing(engines, namespace, tmp_path, sms_concurrency=at_once) as stage,
        stage.scene(receipts=0) as talk,
    ):
        await talk.know(people)
        results = results_of(talk)
        record, may_record = results._settle, asyncio.Event()

        async def slowly(settlings: Sequence[Settling], tries: int) -> int:
            await may_record.wait()
            return await record(settlings, tries)

        results._settle = slowly
        await talk.dispatch(*people)
        full = {"state": "sending"}
        await talk.until("intents", full, at_once + 100)
        intents = talk.service.mongo["intents"]
        old = real_now() - timedelta(hours=1)
        await intents.update_many(full, {"$set": {"claimed_real_at": old}})
        # A lost one that nobody holds is found, and with it the look that passes over the others.
        lost = await intents.find_one({"state": "pending"})
        claimed = {
            "state": "sending",
            "claim": "somebody",
            "claimed_real_at": real_now() - timedelta(hours=1),
        }
        await intents.update_one({"_id": lost["_id"]}, {"$set": claimed})
        await talk.until("intents", {"_id": lost["_id"], "state": {"$in": ["unknown", "pending"]}})
        assert await intents.count_documents(full) == at_once + 100
        may_record.set()
        await talk.until("intents", {"state": "sent"}, len(people))
        assert talk.references() == {talk.opening_id(number): 1 for number in people}
    assert not results.holds


@pytest.mark.parametrize("lasts", [True, False])
async def test_a_result_that_cannot_be_recorded_keeps_no_other(
    engines: Engines, namespace: str, tmp_path: Path, lasts: bool
) -> None:
    """One that never can is in doubt and looked up; one that only may not yet is waited for, and not lost."""
    people = range(10)
    async with standing(engines, namespace, tmp_path) as stage, stage.scene(receipts=0) as talk:
        await talk.know(people)
        intents, results = talk.service.mongo["intents"], results_of(talk)
        record, refused, may_record = results._settle, talk.opening_id(3), asyncio.Event()

        async def sometimes(settlings: Sequence[Settling], tries: int) -> int:
            if refused in {s.intent.intent_id for s in settlings} and not may_record.is_set():
                raise Conflict("another has it", duplicate=lasts)
            return await record(settlings, tries)

        results._settle = sometimes
        await talk.dispatch(*people)
        await talk.until("intents", {"state": "sent"}, len(people) - 1)
        if not lasts:
            old = {"claimed_real_at": real_now() - timedelta(hours=1)}
            await intents.update_one({"_id": refused}, {"$set": old})
            row = await intents.find_one({"_id": talk.opening_id(1)})
            del row["provider_message_id"]
            await intents.insert_one(row | {"_id": "lost", "state": "sending", "claim": "x"} | old)
            found = {"_id": "lost", "state": {"$ne": "sending"}}
            await eventually(lambda: intents.find_one(found), "a look at what has lost its owner")
            await intents.delete_one({"_id": "lost"})
            assert (await intents.find_one({"_id": refused}))["state"] == "sending"
            may_record.set()
        await talk.until("intents", {"state": "sent"}, len(people))
        assert talk.references() == {talk.opening_id(number): 1 for number in people}
    assert not results.holds


async def test_a_result_that_lost_its_claim_settles_nothing_of_a_newer_one(stage: Stage) -> None:
    """Else a late "not sent" would have it sent again while it is being sent."""
    async with stage.scene() as talk:
        results, intents = results_of(talk), MongoIntents(talk.service.mongo)
        newer = intent(
            intent_id=talk.opening_id(1),
            contact_id=talk.contact_id(1),
            claim="newer",
            claimed_real_at=real_now(),
            expires_real_at=real_now() + timedelta(hours=1),
            version=5,
        )
        results.hold([newer])
        await intents.collection.insert_one(to_document(newer))
        late = Settling(replace(newer, claim="older", version=3), Unsent("429"))
        assert await results._settle([late], 2) == 0
        (standing,) = (await intents.load([newer.intent_id])).values()
        assert (standing.state, standing.claim) == (IntentState.SENDING, "newer")
        assert await results._settle([Settling(newer, Suppressed())], 2) == 1
        results.let_go([newer])


async def test_two_senders_send_each_intent_once(stage: Stage) -> None:
    numbers = range(120)
    async with stage.scene(latency_ms=5) as talk:
        await talk.know(numbers)
        shared = talk.service.settings.model_dump() | {"sms_public_url": talk.stage.url}
        rivals = [build(Settings(**{**shared, "instance": f"rival-{n}"})) for n in range(2)]
        senders = [next(run for name, run in rival._backgrounds if name == "send") for rival in rivals]
        tasks = [asyncio.ensure_future(run()) for run in senders]
        await talk.dispatch(*numbers)
        await talk.until("intents", {"state": "sent"}, len(numbers))
        for rival in rivals:
            rival.stopping.set()
        await asyncio.gather(*tasks)
        assert talk.references() == {talk.opening_id(number): 1 for number in numbers}
        for rival in rivals:
            await rival.mongo.close()


@pytest.mark.parametrize("attempts", [0, 1])
async def test_of_two_who_saw_the_same_message_due_one_may_send_it(
    engines: Engines, namespace: str, attempts: int
) -> None:
    mongo = Mongo(engines.mongo, f"{namespace}-claims")
    intents = MongoIntents(mongo)
    due = [
        new_intent(
            intent_id=f"intent-{number}",
            contact_id=f"contact-{number}",
            activity_id=f"activity-{number}",
            endpoint_id="endpoint",
            sender=fictional(0),
            to=fictional(number),
            text="Hello",
            purpose=Purpose.OPENING,
            created_at=NOW,
            send_at=NOW,
            expires_real_at=NOW,
            no_response_seconds=60.0,
            subject_id="subject",
            attempts=attempts,
        )
        for number in range(1, 11)
    ]
    await intents.collection.insert_many(map(to_document, due))
    claims = await asyncio.gather(*(intents.claim(due, NOW, NOW) for _ in range(4)))
    claimed = Counter(intent.intent_id for claim in claims for intent in claim)
    assert claimed == {intent.intent_id: 1 for intent in due}
    stored = await intents.load(claimed)
    assert [intent for claim in claims for intent in claim] == [stored[id_] for id_ in claimed]
    # Who comes later, with what was true before, gets none of them either.
    assert await intents.claim(due, NOW, NOW) == []
    await mongo.close()


def test_a_long_message_takes_a_token_for_each_of_its_parts() -> None:
    pace = Pace()
    assert pace.take("long", 1000, rate=40), "it may overdraw"
    assert not pace.take("long", 1, rate=40), "for 24 seconds"
    assert pace.exhausted() == ["long"]
    assert [pace.take("short", 1, rate=40) for _ in range(10)] == [True] * 10


async def test_pacing_holds_an_endpoint_to_its_rate(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know(range(10), opening="Would you like to renew? " * 16)
        await talk.wire.publish(talk.endpoint(version=2, segments_per_second=20.0))
        await talk.until("endpoints", {"_id": talk.endpoint_id, "version": 2})
        began = asyncio.get_running_loop().time()
        await talk.dispatch(*range(10))
        await talk.accepted(10)
        # 30 segments at 20 a second with a burst of a quarter second
        assert asyncio.get_running_loop().time() - began > 1.0


async def test_a_dispatch_that_comes_again_changes_nothing(stage: Stage) -> None:
    async with stage.scene(**everybody("no")) as talk:
        await talk.know([1])
        for _ in range(3):
            await talk.dispatch(1)
        await talk.expect(ActivityOutcome, 1)
        await talk.dispatch(1)

        async def unchanged() -> bool:
            suppressed = talk.service.metrics.suppressed.labels("channel-sms.start-conversations")
            return float(suppressed._value.get()) >= 3

        await eventually(unchanged, "the repeats to be seen")
        assert talk.references() == {talk.opening_id(1): 1}
        assert len(await talk.messages(ActivityOutcome)) == 1


def test_what_is_not_sent_after_all_leaves_its_pace_to_others() -> None:
    pace = Pace()
    assert pace.take("e", 10, 4.0)
    assert not pace.take("e", 1, 4.0)
    pace.give_back("e", 10)
    assert pace.take("e", 1, 4.0)
