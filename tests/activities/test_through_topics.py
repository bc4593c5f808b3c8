"""The whole service on real engines, through its topics."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from activities.domain.activity import Activity, scheduled
from activities.domain.moves import come_to_life
from contracts.activities import (
    ActivityChanged,
    ActivityCompleted,
    ActivityDecided,
    ActivityDispatched,
    ActivityRecalled,
)
from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import Source
from servicekit.clock import real_now
from servicekit.conflicts import Conflict
from servicekit.unit_of_work import Changes
from servicekit.verdict import Become
from tests.activities.builders import NOON, SUBJECT, opted_out
from tests.activities.line import Case
from tests.kit import eventually

DISPATCHED = "activity-dispatched.sms"
LATER = NOON + timedelta(hours=1)
NIGHT = NOON + timedelta(hours=12)


async def test_an_activity_is_dispatched_worked_and_completed(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    await case.wire.publish(case.progressed(), case.progressed(state="awaiting_reply"), case.outcome())
    await case.becomes(state="completed")
    (dispatched,) = await case.said(ActivityDispatched, DISPATCHED)
    assert dispatched.destination == "+12125550123"
    assert dispatched.endpoint_id == "endpoint-1"
    (completed,) = await case.said(ActivityCompleted)
    assert completed.disposition.success
    assert completed.contact_time_zone == "America/New_York"
    assert completed.captured == {"plan": "full"}
    changes = sorted(await case.said(ActivityChanged), key=lambda change: change.version)
    assert [(change.version, change.state.value) for change in changes] == [
        (1, "dispatched"),
        (2, "in_progress"),
        (3, "awaiting_reply"),
        (4, "completed"),
    ]
    (decided,) = await case.said(ActivityDecided)
    assert decided.verdict == "allow"
    slot = await case.service.mongo["slots"].find_one({"_id": f"{case.contact_id}:subject-1"})
    assert slot["holders"] == []


async def test_a_paused_campaign_sends_nothing_and_then_goes_on(case: Case) -> None:
    await case.know(case.contact(), case.campaign(1, "paused"))
    await case.wire.publish(case.created())
    await case.becomes(state="scheduled", reason="deferred: campaign_paused")
    case.at(LATER)
    assert len(await case.said(ActivityDecided)) == 1
    assert await case.said(ActivityDispatched, DISPATCHED) == []
    await case.know(case.campaign(2, "running"))
    await case.becomes(state="dispatched")
    (dispatched,) = await case.said(ActivityDispatched, DISPATCHED)
    assert dispatched.dispatched_at == LATER


async def test_a_stopped_campaign_denies_what_it_held(case: Case) -> None:
    await case.know(case.contact(), case.campaign(1, "paused"))
    await case.wire.publish(case.created())
    await case.becomes(state="scheduled")
    await case.know(case.campaign(2, "stopped"))
    await case.becomes(state="cancelled", reason="denied: campaign_stopped")


async def test_an_opt_out_between_creation_and_dispatch_denies(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created(scheduled_at=LATER))
    await case.becomes(state="scheduled")
    await case.know(opted_out(case.contact_id))
    case.at(LATER)
    await case.becomes(state="cancelled", reason="denied: opted_out")
    assert await case.said(ActivityDispatched, DISPATCHED) == []
    (decided,) = await case.said(ActivityDecided)
    assert (decided.verdict, decided.reason) == ("deny", "opted_out")
    assert decided.inputs["opted_out"] == ["do-not-sms"]


async def test_outside_the_window_it_waits_until_the_contacts_morning(case: Case) -> None:
    case.at(NIGHT)
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="scheduled", reason="deferred: outside_window")
    (decided,) = await case.said(ActivityDecided)
    assert decided.until is not None
    case.at(decided.until - timedelta(milliseconds=1))
    assert await case.said(ActivityDispatched, DISPATCHED) == []
    case.at(decided.until)
    await case.becomes(state="dispatched", dispatch_number=1)


async def test_what_a_channel_could_not_begin_in_time_waits_for_the_next_morning(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    (dispatched,) = await case.said(ActivityDispatched, DISPATCHED)
    assert dispatched.not_after == NOON + timedelta(hours=9)
    case.at(dispatched.not_after)
    await case.wire.publish(case.returned(), case.returned())
    given_back = await case.becomes(state="scheduled", reason="returned: outside_window")
    case.at(given_back["due_at"])
    deferred = await case.becomes(state="scheduled", reason="deferred: outside_window")
    case.at(deferred["due_at"])
    await case.becomes(state="dispatched", dispatch_number=2)
    await case.wire.publish(case.returned(), case.progressed())
    await case.becomes(state="in_progress")
    (_, again) = await case.said(ActivityDispatched, DISPATCHED)
    assert again.not_after == NOON + timedelta(days=1, hours=9)


async def test_an_outcome_from_the_future_ends_an_activity_now(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    await case.wire.publish(case.outcome(occurred_at=NOON + timedelta(days=400)))
    await case.becomes(state="completed", completed_at=NOON)
    (completed,) = await case.said(ActivityCompleted)
    assert completed.completed_at == NOON


async def test_an_activity_waits_for_a_campaign_and_a_contact_that_arrive_later(case: Case) -> None:
    await case.wire.publish(case.created())
    await case.becomes(reason="deferred: campaign_unknown")
    await case.know(case.campaign())
    await case.becomes(reason="deferred: contact_unknown")
    await case.know(case.contact(time_zone=None))
    waiting = await case.becomes(reason="deferred: unknown_zone")
    await case.wire.publish(case.contact(time_zone=None))
    assert await case.said(ActivityDispatched, DISPATCHED) == []
    assert await case.stored() == waiting, "a repeat of its contact does not wake it"
    await case.know(case.contact(2))
    await case.becomes(state="dispatched")


async def test_what_comes_twice_or_too_late_changes_nothing(case: Case) -> None:
    await case.open()
    made = (case.created(), case.manual("two"), case.created("three", exclusive=True))
    heard = (case.progressed(), case.progressed(state="awaiting_reply"), case.outcome())
    await case.wire.publish(*made)
    await case.becomes(state="dispatched")
    await case.becomes("three", state="cancelled")
    await case.wire.publish(*heard)
    await case.becomes(state="completed")
    said = len(await case.said(ActivityChanged))
    before = [await case.stored(name) for name in ("one", "two", "three")]
    late = case.outcome(outcome_id="second", disposition="no-answer")
    await case.wire.publish(*made, *heard, late, case.contact(), case.campaign())
    assert len(await case.said(ActivityChanged)) == said
    assert [await case.stored(name) for name in ("one", "two", "three")] == before
    assert len(await case.said(ActivityCompleted)) == 1
    assert await case.dead_letters("activity-outcome") == {}


async def test_bad_outcomes_go_to_the_dead_letters_and_the_good_one_still_counts(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    bad: dict[str, dict[str, Any]] = {
        "disposition_not_allowed": {"disposition": "never"},
        "disposition_not_pickable": {"disposition": "people-only"},
        "disposition_missing": {"disposition": None},
        "invalid_captured": {"captured": {"plan": "gold", "shoe": 9}},
        "reason_missing": {"result": "failed"},
        "wrong_contact": {"contact_id": f"{case.contact_id}-other"},
        "tries_exhausted": {"name": "nobody", "contact_id": f"{case.contact_id}-other"},
    }
    await case.wire.publish(
        *(case.outcome(outcome_id=why, **said) for why, said in bad.items()), case.outcome()
    )
    await case.becomes(state="completed")
    letters = await case.dead_letters("activity-outcome")
    assert {id_: letter["dlq_reason"] for id_, letter in letters.items()} == {
        case.id(why): why for why in bad
    }
    captured = letters[case.id("invalid_captured")]["dlq_detail"]
    assert "shoe: the subject renewal has no such field" in captured
    assert "gold" not in captured


async def test_an_outcome_waits_as_long_as_the_creation_of_its_activity(case: Case) -> None:
    await case.know(case.campaign())
    late = f"subject-{case.name}"
    await case.wire.publish(case.manual("stuck", subject_id=late), case.manual("behind"))
    published = time.monotonic()
    await case.wire.publish(case.outcome("behind"))

    async def outlived_its_tries() -> bool:
        return time.monotonic() - published > 4

    await eventually(outlived_its_tries)
    assert await case.stored("behind") is None
    await case.wire.publish(SUBJECT.model_copy(update={"subject_id": late, "code": late}))
    await case.becomes("behind", state="completed")
    assert await case.dead_letters("activity-outcome") == {}


async def test_an_activity_that_can_never_be_worked_goes_to_the_dead_letters(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created("mute", channel=None), case.created("pigeon", channel="pigeon"))
    await case.wire.publish(case.created("a/b"))
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    letters = await case.dead_letters("activity-created")
    assert letters.keys() == {case.id("mute"), case.id("pigeon"), case.id("a/b")}
    assert {letter["dlq_reason"] for letter in letters.values()} == {"impossible_activity"}


async def test_an_unknown_outcome_rests_until_it_is_found_out(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    await case.wire.publish(case.outcome(outcome_id="lost", result="unknown", disposition=None, captured={}))
    await case.becomes(state="outcome_unknown")
    await case.wire.publish(case.progressed(), case.outcome(disposition="no-answer", captured={}))
    await case.becomes(state="completed", disposition="no-answer")


async def test_what_was_in_doubt_may_be_told_under_the_same_id_once_it_is_known(case: Case) -> None:
    """As a channel does that makes the id from activity and dispatch."""
    await case.open()
    await case.wire.publish(case.created())
    await case.becomes(state="dispatched")
    doubt = case.outcome(result="unknown", disposition=None, captured={})
    await case.wire.publish(doubt)
    await case.becomes(state="outcome_unknown")
    await case.wire.publish(doubt, case.outcome(disposition="no-answer", captured={}), doubt)
    await case.becomes(state="completed", disposition="no-answer")
    assert len(await case.said(ActivityCompleted)) == 1


async def test_of_many_exclusive_activities_one_is_made_until_it_has_ended(case: Case) -> None:
    await case.open()
    await case.wire.publish(*(case.created(f"twin-{number}", exclusive=True) for number in range(3)))
    await case.becomes("twin-0", state="dispatched")
    for refused in ("twin-1", "twin-2"):
        await case.becomes(refused, state="cancelled", reason="duplicate_open_activity", version=1)
    await case.wire.publish(case.outcome("twin-0"))
    await case.becomes("twin-0", state="completed")
    await case.wire.publish(case.created("next", exclusive=True))
    await case.becomes("next", state="dispatched")
    changes = {str(change.activity_id): change for change in await case.said(ActivityChanged)}
    assert changes[case.id("twin-1")].reason == "duplicate_open_activity"


async def test_of_two_that_saw_the_slot_empty_one_is_made(case: Case) -> None:
    store = case.service.store("activities", Activity, "activity_id")
    twins = [
        come_to_life(scheduled(case.manual(name, exclusive=True), NOON), None, NOON) for name in ("a", "b")
    ]

    async def write(twin: Become[Activity]) -> None:
        await case.service.committer.commit(Changes([(store, None, twin.state)], also=list(twin.also)))

    await write(twins[0])
    with pytest.raises(Conflict):
        await write(twins[1])
    assert await case.stored("b") is None
    slot = await case.service.mongo["slots"].find_one({"_id": f"{case.contact_id}:subject-1"})
    assert slot["holders"] == [case.id("a")]


async def test_an_open_activity_that_is_not_exclusive_keeps_exclusive_ones_out(case: Case) -> None:
    await case.know(case.campaign())
    await case.wire.publish(case.manual("first"), case.created("second", exclusive=True))
    await case.becomes("second", state="cancelled", reason="duplicate_open_activity")
    await case.wire.publish(case.created("third"))
    await case.becomes("third", state="scheduled")


async def test_manual_work_waits_for_its_time_and_goes_to_its_owner(case: Case) -> None:
    await case.know(case.campaign())
    await case.wire.publish(
        case.manual("now"), case.manual("mine", owner="ann"), case.manual("later", scheduled_at=LATER)
    )
    await case.becomes("now", state="available", assigned_to=None)
    await case.becomes("mine", state="assigned", assigned_to="ann")
    await case.becomes("later", state="scheduled")
    case.at(LATER)
    await case.becomes("later", state="available")
    assert await case.said(ActivityDecided) == []
    assert await case.said(InteractionRecorded) == []


async def test_someone_who_wrote_to_us_is_answered_at_night(case: Case) -> None:
    case.at(NIGHT)
    await case.open()
    await case.wire.publish(case.created(source=Source.INBOUND))
    await case.becomes(state="dispatched")


async def test_a_contact_that_was_erased_is_not_contacted(case: Case) -> None:
    await case.open()
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    await eventually(
        lambda: case.service.mongo["contacts"].find_one({"_id": case.contact_id, "erased": True}), "erasure"
    )
    await case.wire.publish(case.created(instructions="Ask Ann.", destination="+12165550123"))
    denied = await case.becomes(state="cancelled", reason="denied: contact_erased")
    assert (denied["instructions"], denied["destination"]) == ("", None)
    await case.wire.publish(case.manual("by-hand", instructions="Ask Ann."))
    refused = await case.becomes("by-hand", state="cancelled", reason="contact_erased")
    assert refused["instructions"] == ""


async def test_what_was_being_written_when_the_erasure_came_is_forgotten_too(case: Case) -> None:
    await case.know(case.campaign())
    await case.wire.publish(case.manual("early", instructions="Ask Ann."))
    early = await case.becomes("early", state="available")
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    await case.becomes("early", state="purged")
    late = case.id("late")
    await case.service.mongo["activities"].insert_one(early | {"_id": late})
    await case.becomes("late", state="purged", reason="contact_erased", instructions="")


async def test_reasons_that_people_gave_do_not_outlive_an_erasure_nor_what_was_purged_before(
    case: Case,
) -> None:
    said = {"reason": "rang: never again to +12025550199"}
    await case.know(case.campaign())
    await case.wire.publish(case.manual("off"), case.manual("before"))
    off, before = [await case.becomes(name, state="available") for name in ("off", "before")]
    rows = case.service.mongo["activities"]
    await rows.update_one({"_id": off["_id"]}, {"$set": said | {"state": "cancelled"}})
    await rows.update_one({"_id": before["_id"]}, {"$set": said | {"state": "purged"}})
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    for name in ("off", "before"):
        assert (await case.becomes(name, state="purged", reason=None))["audit"][-1]["what"] == "purged"
    newest = {each.activity_id: each for each in await case.said(ActivityChanged)}
    assert {newest[row["_id"]].reason for row in (off, before)} == {None}


async def test_who_was_announced_by_a_process_that_was_killed_is_looked_for_anew(case: Case) -> None:
    erasures, now = case.service.mongo["erasures"], real_now()
    later = {"told_real_at": now - timedelta(minutes=9), "look_real_at": now + timedelta(hours=1)}
    await erasures.insert_one({"_id": case.contact_id, "b": 0} | later)
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    told = {"_id": case.contact_id, "told_real_at": {"$gte": now - timedelta(minutes=1)}}
    await eventually(lambda: erasures.find_one(told), "ten minutes from now")


async def test_an_activity_that_cannot_be_read_keeps_no_other_from_being_forgotten(case: Case) -> None:
    await case.know(case.campaign())
    await case.wire.publish(case.manual("broken", instructions="Ask Ann."))
    broken = await case.becomes("broken", state="available")
    await case.wire.publish(case.manual("behind", instructions="Ask Ann."))
    await case.becomes("behind", state="available")
    rows = case.service.mongo["activities"]
    odd = {"$set": {"audit": "odd", "due_at": NOON - timedelta(days=1)}}
    await rows.update_one({"_id": broken["_id"]}, odd)
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    await case.becomes("behind", state="purged", instructions="")
    await rows.delete_one({"_id": broken["_id"]})


async def test_what_is_open_for_a_contact_ends_with_its_erasure_and_nothing_said_stays(case: Case) -> None:
    await case.open()
    await case.wire.publish(case.manual("call", instructions="Ask Ann."), case.created("text"))
    await case.becomes("call", state="available")
    await case.becomes("text", state="dispatched")
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    call = await case.becomes("call", state="purged", reason="contact_erased")
    text = await case.becomes("text", state="purged", reason="contact_erased")
    assert call["instructions"] == ""
    assert text["destination"] is None
    recalled = await case.said(ActivityRecalled, "activity-dispatched.sms")
    assert [m.activity_id for m in recalled] == [case.id("text")]
    told = [(m.activity_id, m.state) for m in await case.said(ActivityChanged)]
    assert (case.id("call"), "cancelled") in told
