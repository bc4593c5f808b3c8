"""Nothing is sent twice, nothing is lost: the carrier's journal is the judge."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from channel_sms.adapters.mongo_intents import MongoIntents, to_document
from channel_sms.domain.intent import Purpose, new_intent
from channel_sms.main import build
from channel_sms.settings import Settings
from channel_sms.use_cases.record_results import RecordResults
from channel_sms.use_cases.settle_sends import Settling
from contracts.activities import ActivityOutcome, ActivityReturned
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from contracts.contacts import ContactChanged, Phone, SetPreference
from servicekit.clock import real_now
from servicekit.failpoints import FAILPOINTS
from servicekit.mongo import Conflict, Mongo
from tests.channel_sms.world import NOW, Scene, Stage, everybody, fictional, standing
from tests.engines import Engines
from tests.kit import eventually, failed_where_told, settled


def references(talk: Scene) -> Counter[str]:
    return Counter(entry["reference"] for entry in talk.journal())


def results_of(talk: Scene) -> RecordResults:
    (run,) = [run for name, run in talk.service._backgrounds if name == "send"]
    results: RecordResults = run.__self__._results  # type: ignore[attr-defined]
    return results


def opted_out(talk: Scene, person: int) -> ContactChanged:
    optout = {"do-not-sms": {"at": "2026-01-01T00:00:00Z", "source": "api", "actor": "x"}}
    told = talk.contact(person).model_dump() | {"version": 2, "preferences": optout}
    return ContactChanged.model_validate(told)


@pytest.mark.parametrize("failure", ["error_after", "reset_after", "timeout_after"])
async def test_an_ambiguous_send_is_resolved_by_look_up_and_never_repeated(
    stage: Stage, failure: str
) -> None:
    async with stage.scene(**{failure: 1.0, "timeout_seconds": 3, "receipts": 0}) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "sent"})
        assert references(talk) == {talk.opening_id(1): 1}
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
        assert references(talk) == {talk.opening_id(1): 1}


async def test_a_receipt_resolves_what_nobody_may_look_up(stage: Stage) -> None:
    async with stage.scene(error_after=1.0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"status": "delivered"})
        assert references(talk) == {talk.opening_id(1): 1}
        statuses = {m.status for m in await talk.expect(MessageRecorded, 1)}
        assert "unknown" not in statuses


async def test_429_is_tried_again_until_it_is_sent(stage: Stage) -> None:
    async with stage.scene(rate_limited=0.5, retry_after_seconds=0.05) as talk:
        await talk.know(range(20))
        await talk.dispatch(*range(20))
        await talk.until("intents", {"state": "sent"}, 20)
        assert set(references(talk).values()) == {1}
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
        assert references(talk) == {talk.opening_id(1): 1}
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
        assert references(talk) == {talk.opening_id(1): 1, talk.opening_id(2): 1}


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
        assert references(talk) == {talk.opening_id(number): 1 for number in range(5)}
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
        assert references(talk) == {talk.opening_id(number): 1 for number in people}
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
        assert references(talk) == {talk.opening_id(number): 1 for number in people}
    assert not results.holds


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
        assert references(talk) == {talk.opening_id(number): 1 for number in numbers}
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


async def test_nobody_guesses_which_of_two_alike_was_sent(
    engines: Engines, namespace: str, tmp_path: Path
) -> None:
    async with in_doubt_for_long(engines, namespace, tmp_path, 1, 2) as talk:
        one, other = await talk.find("intents", {})
        assert (one["to"], one["text"]) == (other["to"], other["text"])

        async def look_again() -> None:
            now = {"looks": 0, "look_real_at": real_now()}
            await talk.service.mongo["intents"].update_many({"state": "unknown"}, {"$set": now})

        sids = {await taken_at_last(talk, one["text"])}
        await look_again()
        await talk.until("intents", {"looks": {"$gt": 0}}, 2)
        await look_again()
        await talk.until("intents", {"looks": {"$gt": 0}, "state": "unknown"}, 2)
        sids.add(await taken_at_last(talk, one["text"]))
        await look_again()
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
        assert references(talk) == {talk.opening_id(2): 1}
        status, _ = await talk.post("/v1/intents/none/resolve", {"sent": False, "actor": "olga"})
        assert status == 404


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


async def test_a_stop_waits_for_what_is_being_written(stage: Stage) -> None:
    async with stage.scene(receipts=0) as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("intents", {"state": "sent"})
        intents = talk.service.mongo["intents"]
        being_written = {"state": "sending", "claimed_real_at": real_now() + timedelta(seconds=20)}
        await intents.update_one({"_id": talk.opening_id(1)}, {"$set": being_written})
        await talk.write(1, "STOP")
        await talk.until("suppressions", {"_id": talk.theirs(1), "state": "stopping"})
        await asyncio.sleep(0.3)
        assert len(await talk.find("inbound", {"state": "new"})) == 1
        await intents.update_one({"_id": talk.opening_id(1)}, {"$set": {"state": "sent"}})
        await talk.until("suppressions", {"_id": talk.theirs(1), "state": "active"})


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


async def test_pacing_holds_an_endpoint_to_its_rate(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know(range(30))
        await talk.wire.publish(talk.endpoint(version=2, segments_per_second=20.0))
        await talk.until("endpoints", {"_id": talk.endpoint_id, "version": 2})
        began = asyncio.get_running_loop().time()
        await talk.dispatch(*range(30))
        await talk.accepted(30)
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
        assert references(talk) == {talk.opening_id(1): 1}
        assert len(await talk.messages(ActivityOutcome)) == 1


async def test_a_paused_campaign_begins_no_conversation_that_was_dispatched_before(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2])
        await talk.campaign_is("paused", 1)
        await talk.wire.publish(talk.dispatched(1, campaign_id=talk.campaign_id), talk.dispatched(2))
        await talk.until("intents", {"contact_id": talk.contact_id(2), "state": "sent"})
        assert references(talk) == {talk.opening_id(2): 1}
        (held,) = await talk.find("intents", {"contact_id": talk.contact_id(1)})
        assert held["state"] == "pending"
        intents, later = MongoIntents(talk.service.mongo), talk.service.clock.now() + timedelta(hours=1)
        of_all, of_running = [await intents.count_due(later, at_rest) for at_rest in ((), {talk.campaign_id})]
        assert of_all - of_running == 1
        await talk.campaign_is("running", 2)
        await talk.until("intents", {"state": "sent"}, 2)
        assert references(talk) == {talk.opening_id(1): 1, talk.opening_id(2): 1}


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
        assert references(talk) == {talk.opening_id(2): 1}
        await talk.wire.publish(late, talk.dispatched(1, dispatch_number=2, not_after=hours))
        await talk.until("intents", {"contact_id": talk.contact_id(1), "state": "sent"})
        assert sum(references(talk).values()) == 2
        assert await talk.messages(ActivityOutcome) == []


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
        assert references(talk) == {talk.opening_id(2): 1}


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
        assert references(talk) == {}


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
        assert references(talk) == {talk.opening_id(6): 1}


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
        assert references(talk) == {talk.opening_id(2): 1}
        assert await talk.messages(ActivityOutcome) == []


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
        assert references(talk) == {talk.opening_id(1): 1}


async def test_a_conversation_that_is_recalled_is_not_answered_any_more(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1])
        await talk.dispatch(1)
        await talk.until("conversations", {"state": "awaiting_reply"})
        await talk.wire.publish(talk.recalled(1))
        await talk.until("conversations", {"state": "concluded", "reason": "recalled: on second thoughts"})
        await talk.write(1, "Yes")
        await talk.until("inbound", {"state": {"$ne": "new"}})
        assert references(talk) == {talk.opening_id(1): 1}
        assert await talk.messages(ActivityOutcome) == []


async def test_a_dispatch_that_comes_after_its_recall_begins_nothing(stage: Stage) -> None:
    async with stage.scene() as talk:
        await talk.know([1, 2, 3])
        await talk.wire.publish(talk.recalled(1))
        await talk.until("recalls", {}, 1)
        await talk.wire.publish(talk.dispatched(1), talk.recalled(2), talk.dispatched(2), talk.dispatched(3))
        await talk.until("intents", {"state": "sent"}, 1)
        await settled(talk.service)
        assert references(talk) == {talk.opening_id(3): 1}
        assert await talk.messages(ActivityOutcome) == []


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
