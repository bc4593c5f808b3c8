"""The worklist and what people do with it, over REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from activities.adapters.mongo_contacts import MongoContacts, keep_contact
from activities.domain.activity import Activity
from activities.domain.catalog import Catalog
from activities.domain.outcomes import NotInCatalog
from activities.use_cases.work_activity import WorkActivity
from contracts.activities import ActivityChanged, ActivityCompleted
from contracts.channel_sms import InteractionRecorded
from servicekit.pages import cursor_of
from servicekit.projection import Projection
from servicekit.unit_of_work import Changes, Store
from servicekit.verdict import following
from tests.activities.builders import NOON, SUBJECT, campaign, catalog
from tests.activities.line import Case
from tests.kit import eventually

LATER = NOON + timedelta(hours=1)


@pytest.fixture
async def rest(case: Case) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{case.service.port}/v1", timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
async def _known(case: Case) -> None:
    await case.know(campaign(), case.contact())


def call(case: Case, **changes: Any) -> dict[str, Any]:
    return {
        "contact_id": case.contact_id,
        "kind": "call",
        "subject_id": "subject-1",
        "campaign_id": "campaign-1",
        **changes,
    }


async def made(rest: httpx.AsyncClient, case: Case, **changes: Any) -> str:
    answer = await rest.post("/activities", json=call(case, **changes))
    assert answer.status_code == 201, answer.text
    id_: str = answer.json()["activity_id"]
    assert answer.headers["location"] == f"/v1/activities/{id_}"
    return id_


async def asked(rest: httpx.AsyncClient, id_: str, what: str, **body: Any) -> httpx.Response:
    return await rest.post(f"/activities/{id_}/{what}", json=body)


async def test_a_manual_activity_is_claimed_started_and_completed(
    rest: httpx.AsyncClient, case: Case
) -> None:
    id_ = await made(rest, case, instructions="Call about the renewal")
    assert (await asked(rest, id_, "claim", agent="ann")).json()["state"] == "assigned"
    started = await asked(rest, id_, "start", agent="ann")
    assert (started.json()["state"], started.headers["etag"]) == ("in_progress", '"3"')
    done = await asked(
        rest,
        id_,
        "complete",
        disposition="sold",
        notes="Took the full plan",
        captured={"plan": "full"},
        preparation_notes="Ask for people",
        follow_up_at="2026-04-01T12:00:00Z",
    )
    assert done.status_code == 200, done.text
    seen = (await rest.get(f"/activities/{id_}")).json()
    assert (seen["state"], seen["completed_by"], seen["disposition"]) == ("completed", "ann", "sold")
    assert [entry["what"] for entry in seen["audit"]] == ["created", "assigned", "started", "completed"]
    assert "bucket" not in seen
    (completed,) = await case.said(ActivityCompleted)
    assert completed.preparation_notes == "Ask for people"
    assert completed.follow_up_at is not None
    assert completed.contact_time_zone == "America/New_York"
    (logged,) = await case.said(InteractionRecorded)
    assert (logged.interaction_type, logged.direction, logged.agent) == ("call", "outgoing", "ann")


async def test_a_follow_up_in_the_past_is_refused_and_changes_nothing(
    rest: httpx.AsyncClient, case: Case
) -> None:
    id_ = await made(rest, case, owner="ann")
    before = (await rest.get(f"/activities/{id_}")).json()
    late = await asked(rest, id_, "complete", disposition="sold", follow_up_at="2020-01-01T12:00:00Z")
    assert (late.status_code, late.json()["type"]) == (422, "urn:parley:problem:follow-up-passed")
    assert late.json()["detail"] == "The follow-up at 2020-01-01 12:00 UTC has passed."
    assert (await rest.get(f"/activities/{id_}")).json() == before


class CatalogThatEmpties:
    """Somebody changes the activity while this is read, and nothing is in it when it is read again."""

    def __init__(self, case: Case, activity_id: str) -> None:
        self.activities = Store(case.service.mongo, "activities", Activity, "activity_id")
        self._case = case
        self._activity_id = activity_id
        self._read = False

    async def read(self) -> Catalog:
        if self._read:
            return Catalog()
        self._read = True
        activity = await self.activities.get(self._activity_id)
        assert activity is not None
        await self._case.service.committer.commit(Changes([(self.activities, activity, following(activity))]))
        return catalog()


async def test_who_has_to_decide_again_ends_with_what_the_catalogue_then_has(
    rest: httpx.AsyncClient, case: Case
) -> None:
    id_ = await made(rest, case, owner="ann")
    empties = CatalogThatEmpties(case, id_)
    known = MongoContacts(Projection(case.service.mongo, "contacts", keep_contact))
    work = WorkActivity(case.service.commands(empties.activities), case.clock, empties, known)
    with pytest.raises(NotInCatalog):
        await work.complete(id_, "sold", None, {})


async def test_of_many_who_claim_one_activity_exactly_one_gets_it(
    rest: httpx.AsyncClient, case: Case
) -> None:
    id_ = await made(rest, case)
    answers = await asyncio.gather(*(asked(rest, id_, "claim", agent=f"agent-{n}") for n in range(6)))
    (won,) = [answer for answer in answers if answer.status_code == 200]
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert len(refused) == 5
    assert {problem["taken_by"] for problem in refused} == {won.json()["assigned_to"]}
    again = await asked(rest, id_, "claim", agent=won.json()["assigned_to"])
    assert (again.status_code, again.json()["version"]) == (200, won.json()["version"])


async def test_somebody_elses_activity_is_theirs(rest: httpx.AsyncClient, case: Case) -> None:
    id_ = await made(rest, case, owner="ann")
    for what, body in {
        "claim": {"agent": "bob"},
        "start": {"agent": "bob"},
        "release": {"agent": "bob"},
        "complete": {"actor": "bob", "disposition": "sold"},
    }.items():
        answer = await asked(rest, id_, what, **body)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:parley:problem:taken")
    assert (await asked(rest, id_, "release", agent="ann")).json()["state"] == "available"


async def test_the_same_id_or_key_again_makes_nothing_new(rest: httpx.AsyncClient, case: Case) -> None:
    new = call(case, activity_id=case.id("fixed"))
    first, second = [await rest.post("/activities", json=new) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 200)
    key = {"Idempotency-Key": case.id("key")}
    first, second = [await rest.post("/activities", json=call(case), headers=key) for _ in range(2)]
    assert first.json()["activity_id"] == second.json()["activity_id"]
    assert len(await case.said(ActivityChanged)) == 2


async def test_a_key_that_a_nightly_job_uses_makes_every_nights_activity(
    rest: httpx.AsyncClient, case: Case
) -> None:
    key = {"Idempotency-Key": case.id("nightly")}
    made = []
    for night in ("Monday", "Tuesday", "Tuesday"):
        answer = await rest.post("/activities", json=call(case, instructions=night), headers=key)
        made.append(answer.json())
        # As the database leaves it after 24 hours.
        await case.service.mongo["idempotency_keys"].delete_one({"_id": key["Idempotency-Key"]})
    assert [activity["instructions"] for activity in made] == ["Monday", "Tuesday", "Tuesday"]
    assert len({activity["activity_id"] for activity in made}) == 2


async def test_nothing_is_made_for_a_contact_that_was_erased(rest: httpx.AsyncClient, case: Case) -> None:
    await case.know(case.contact(2))
    await case.wire.publish_raw("contact-changed", None, key=case.contact_id.encode())
    await eventually(
        lambda: case.service.mongo["contacts"].find_one({"_id": case.contact_id, "erased": True}), "erasure"
    )
    for changes in ({}, {"kind": "sms", "mode": "automated", "channel": "sms"}):
        answer = await rest.post("/activities", json=call(case, **changes))
        assert answer.json()["type"] == "urn:parley:problem:impossible-activity"
        assert "was erased" in answer.json()["detail"]
    assert await case.service.mongo["activities"].count_documents({"contact_id": case.contact_id}) == 0


async def test_an_automated_activity_passes_the_same_gate(rest: httpx.AsyncClient, case: Case) -> None:
    answer = await rest.post("/activities", json=call(case, kind="sms", mode="automated", channel="sms"))
    assert answer.json()["state"] == "dispatched"
    decision = (await rest.get("/decisions", params={"activity_id": answer.json()["activity_id"]})).json()
    assert decision["decision"]["verdict"] == "allow"
    assert decision["decision"]["inputs"]["time_zone"] == "America/New_York"
    mute = await rest.post("/activities", json=call(case, mode="automated", channel="pigeon"))
    assert mute.json()["type"] == "urn:parley:problem:impossible-activity"


async def test_exclusive_requests_that_race_make_one_open_activity(
    rest: httpx.AsyncClient, case: Case
) -> None:
    answers = await asyncio.gather(
        *(rest.post("/activities", json=call(case, exclusive=True)) for _ in range(6))
    )
    states = sorted(answer.json()["state"] for answer in answers)
    assert states == ["available", *["cancelled"] * 5]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"subject_id": "nothing"}, 422, "unknown-subject"),
        ({"campaign_id": "nothing"}, 422, "unknown-campaign"),
        ({"colour": "red"}, 422, "invalid-request"),
        ({"scheduled_at": "2026-03-04T12:00:00"}, 422, "invalid-request"),
        ({"urgency": "extreme"}, 422, "invalid-request"),
    ],
)
async def test_a_bad_request_is_answered_with_what_is_wrong(
    rest: httpx.AsyncClient, case: Case, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await rest.post("/activities", json=call(case, **change))
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:parley:problem:{code}")


@pytest.mark.parametrize(
    "told",
    ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "9000-01-01T00:00:00Z", "-1", 1772366400],
)
async def test_what_is_no_usable_time_is_refused_everywhere(
    rest: httpx.AsyncClient, case: Case, told: Any
) -> None:
    id_ = await made(rest, case, owner="ann")
    for answer in (
        await rest.post("/activities", json=call(case, scheduled_at=told)),
        await asked(rest, id_, "complete", disposition="sold", follow_up_at=told),
        await asked(rest, id_, "reschedule", scheduled_at=told),
        await rest.get("/activities", params={"due_before": told}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:parley:problem:invalid-request")
    assert (await rest.get(f"/activities/{id_}")).json()["version"] == 1


@pytest.mark.parametrize("change", [{"contact_id": "somebody-else"}, {"subject_id": "subject-2"}])
async def test_a_known_id_is_not_given_to_another_activity(
    rest: httpx.AsyncClient, case: Case, change: dict[str, str]
) -> None:
    await case.know(SUBJECT.evolve(subject_id="subject-2", code="survey"))
    mine = call(case, activity_id=f"known-{case.contact_id}")
    first = await rest.post("/activities", json=mine)
    again = await rest.post("/activities", json=mine | {"instructions": "Call twice"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other = await rest.post("/activities", json=mine | change)
    assert (other.status_code, other.json()["type"]) == (409, "urn:parley:problem:activity-exists")
    assert next(iter(change)) in other.json()["detail"]


async def test_the_last_time_there_is_can_be_used(rest: httpx.AsyncClient, case: Case) -> None:
    last = "8999-12-31T23:59:59Z"
    id_ = await made(rest, case, scheduled_at=last)
    assert (await asked(rest, id_, "reschedule", scheduled_at=last)).status_code == 200
    found = await rest.get("/activities", params={"due_before": last, "contact_id": case.contact_id})
    assert (found.status_code, found.json()["items"]) == (200, [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"disposition": "unheard-of"}, "disposition-not-allowed"),
        ({"disposition": "never"}, "disposition-not-allowed"),
        ({"disposition": "sold", "captured": {"shoe": 9}}, "invalid-captured"),
        ({"disposition": "sold", "captured": {"plan": "gold"}}, "invalid-captured"),
        ({"disposition": "sold", "captured": {"people": 2**63}}, "invalid-captured"),
        ({"disposition": "sold", "actor": None}, "actor-missing"),
    ],
)
async def test_an_activity_cannot_end_badly(
    rest: httpx.AsyncClient, case: Case, body: dict[str, Any], code: str
) -> None:
    id_ = await made(rest, case)
    answer = await asked(rest, id_, "complete", **{"actor": "ann", **body})
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:parley:problem:{code}")
    assert (await rest.get(f"/activities/{id_}")).json()["version"] == 1


@pytest.mark.parametrize("captured", [r'{"\ud800": 1}', r'{"people": "\ud800"}', '{"people": NaN}'])
async def test_what_is_hardly_json_is_refused_too(rest: httpx.AsyncClient, case: Case, captured: str) -> None:
    id_ = await made(rest, case)
    body = f'{{"disposition": "sold", "actor": "ann", "captured": {captured}}}'
    headers = {"Content-Type": "application/json"}
    answer = await rest.post(f"/activities/{id_}/complete", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:parley:problem:invalid-captured")


async def test_illegal_moves_are_refused_and_change_nothing(rest: httpx.AsyncClient, case: Case) -> None:
    id_ = await made(rest, case)
    cancelled = await asked(rest, id_, "cancel", reason="wrong number", actor="ann")
    assert (cancelled.json()["state"], cancelled.json()["reason"]) == ("cancelled", "wrong number")
    answer = await asked(rest, id_, "claim", agent="ann")
    assert (answer.status_code, answer.json()["state"]) == (409, "cancelled")
    assert answer.json()["legal_from"] == ["available"]
    assert (await asked(rest, "nowhere", "claim", agent="ann")).status_code == 404
    assert (await rest.get(f"/activities/{id_}")).json()["version"] == 2


async def test_a_version_that_moved_is_refused(rest: httpx.AsyncClient, case: Case) -> None:
    id_ = await made(rest, case)
    stale = {"If-Match": '"7"'}
    answer = await rest.post(f"/activities/{id_}/claim", json={"agent": "ann"}, headers=stale)
    assert answer.status_code == 412
    fresh = {"If-Match": '"1"'}
    answer = await rest.post(f"/activities/{id_}/claim", json={"agent": "ann"}, headers=fresh)
    assert answer.status_code == 200
    again = await rest.post(f"/activities/{id_}/claim", json={"agent": "ann"}, headers=fresh)
    assert (again.status_code, again.json()["version"]) == (200, 2), "the answer may have got lost"
    nonsense = {"If-Match": "blue"}
    answer = await rest.post(f"/activities/{id_}/claim", json={"agent": "ann"}, headers=nonsense)
    assert answer.status_code == 400


@pytest.mark.parametrize("source", ["batch", "workflow"])
async def test_nobody_speaks_for_a_batch_or_a_flow(rest: httpx.AsyncClient, case: Case, source: str) -> None:
    answer = await rest.post("/activities", json=call(case, source=source))
    assert answer.status_code == 422


async def test_a_rescheduled_activity_comes_back_at_its_time(rest: httpx.AsyncClient, case: Case) -> None:
    id_ = await made(rest, case, owner="ann")
    at = LATER.astimezone(ZoneInfo("Asia/Kolkata")).isoformat()
    moved = (await asked(rest, id_, "reschedule", scheduled_at=at, urgency="high", actor="ann")).json()
    assert (moved["state"], moved["urgency"]) == ("scheduled", "high")
    assert moved["scheduled_at"] == LATER.isoformat().replace("+00:00", "Z"), "in UTC from the beginning"
    case.at(LATER)

    async def back() -> bool:
        seen = (await rest.get(f"/activities/{id_}")).json()
        return (seen["state"], seen["assigned_to"]) == ("assigned", "ann")

    await eventually(back, "ann to have it again")


async def test_no_activity_is_rescheduled_to_a_time_that_has_passed(
    rest: httpx.AsyncClient, case: Case
) -> None:
    id_ = await made(rest, case, owner="ann")
    refused = await asked(rest, id_, "reschedule", scheduled_at="2020-01-01T09:00:00Z")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:parley:problem:time-passed")
    assert refused.json()["detail"].startswith("2020-01-01 09:00 UTC has passed; leave it out")
    now = case.service.clock.now().isoformat()
    assert (await asked(rest, id_, "reschedule", scheduled_at=now)).status_code == 200
    assert (await asked(rest, id_, "reschedule")).status_code == 200


async def test_a_correction_runs_nothing_again(rest: httpx.AsyncClient, case: Case) -> None:
    id_ = await made(rest, case, owner="ann")
    await asked(rest, id_, "complete", disposition="sold")
    corrected = await asked(rest, id_, "correct", actor="eve", disposition="no-answer", notes="Voice mail")
    assert (corrected.json()["disposition"], corrected.json()["completed_by"]) == ("no-answer", "ann")
    assert corrected.json()["audit"][-1]["who"] == "eve"
    assert (await asked(rest, id_, "correct", actor="eve")).status_code == 422
    assert (await asked(rest, id_, "correct", actor="eve", disposition="never")).status_code == 422
    assert len(await case.said(ActivityCompleted)) == 1
    changed = max(await case.said(ActivityChanged), key=lambda change: change.version)
    assert changed.disposition == "no-answer"


async def test_a_purged_activity_keeps_who_and_when(rest: httpx.AsyncClient, case: Case) -> None:
    id_ = await made(rest, case, owner="ann", instructions="secret")
    assert (await asked(rest, id_, "purge", actor="eve")).status_code == 409
    await asked(rest, id_, "complete", disposition="sold", notes="secret")
    purged = await asked(rest, id_, "purge", actor="eve")
    assert purged.json()["state"] == "purged"
    assert "secret" not in purged.text
    assert purged.json()["audit"][-1]["what"] == "purged"
    assert (await asked(rest, id_, "purge", actor="eve")).status_code == 200


async def test_lists_are_filtered_sorted_by_meaning_and_paged(rest: httpx.AsyncClient, case: Case) -> None:
    urgencies = ("low", "very_high", "normal", "high", "very_low")
    for minutes, urgency in enumerate(urgencies):
        at = (NOON - timedelta(minutes=minutes)).isoformat()
        await made(rest, case, urgency=urgency, scheduled_at=at, owner="ann" if minutes % 2 else None)
    mine = {"contact_id": case.contact_id}
    by_urgency, cursor = [], None
    for _ in range(3):
        page: dict[str, Any] = {**mine, "sort": "urgency", "limit": 2} | (
            {"cursor": cursor} if cursor else {}
        )
        answer = (await rest.get("/activities", params=page)).json()
        by_urgency += [item["urgency"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert by_urgency == ["very_high", "high", "normal", "low", "very_low"]
    assert cursor is None
    by_due = (await rest.get("/activities", params=mine)).json()["items"]
    assert [item["urgency"] for item in by_due] == list(reversed(urgencies))
    anns = (await rest.get("/activities", params={**mine, "owner": "ann", "state": "assigned"})).json()[
        "items"
    ]
    assert {item["urgency"] for item in anns} == {"very_high", "high"}
    before = {**mine, "due_before": (NOON - timedelta(minutes=2)).isoformat()}
    assert len((await rest.get("/activities", params=before)).json()["items"]) == 2
    at = NOON.isoformat()
    forged = (
        "junk",
        cursor_of(at, "x"),
        cursor_of(2**63, at, "x"),
        cursor_of(1, "0001-01-01T00:00:00+14:00", "x"),
    )
    for cursor in forged:
        answer = await rest.get("/activities", params={**mine, "sort": "urgency", "cursor": cursor})
        assert answer.status_code == 422, cursor
    assert (await rest.get("/activities", params={**mine, "limit": 5000})).status_code == 422


async def test_the_worklist_has_what_is_mine_and_what_is_anybodys(
    rest: httpx.AsyncClient, case: Case
) -> None:
    me, you = case.id("me"), case.id("you")
    free = await made(rest, case, urgency="very_high")
    mine = await made(rest, case, owner=me, urgency="high")
    theirs = await made(rest, case, owner=you, urgency="very_high")
    items = (await rest.get("/next", params={"agent": me, "limit": 1000})).json()["items"]
    found = [item["activity_id"] for item in items]
    assert found.index(free) < found.index(mine)
    assert theirs not in found


async def test_counts_by_state_are_of_one_campaign_or_batch(rest: httpx.AsyncClient, case: Case) -> None:
    await case.know(case.campaign())
    await case.settle()  # only then does the service know that it knows
    own = {"campaign_id": case.campaign_id}
    first = await made(rest, case, **own)
    await made(rest, case, **own)
    await asked(rest, first, "cancel")
    await case.wire.publish(case.manual(batch_id=case.id("batch")))
    await case.becomes(state="available")
    counts = (await rest.get("/activities/counts", params=own)).json()
    assert counts["total"] == 3
    assert {state: count for state, count in counts["states"].items() if count} == {
        "available": 2,
        "cancelled": 1,
    }
    batch = (await rest.get("/activities/counts", params={"batch_id": case.id("batch")})).json()
    assert batch["total"] == 1
    assert (await rest.get("/activities/counts")).json()["total"] >= 3
