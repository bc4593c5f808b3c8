"""The REST API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from batch_loader.adapters.mongo_audience import MongoAudience
from batch_loader.adapters.mongo_open_activities import MongoOpenActivities
from batch_loader.domain.batch import Batch
from batch_loader.domain.choices import Catalog, Item, StoppedCampaign
from batch_loader.domain.copies import Copy
from batch_loader.domain.filters import Filters
from batch_loader.ports import NoAnswer, Reading
from batch_loader.use_cases.preview_batch import PreviewBatch
from batch_loader.use_cases.steer_batch import SteerBatch
from contracts.campaigns import CampaignChanged
from contracts.vocabulary import ActivityState, CampaignState, PreferenceKind
from servicekit.unit_of_work import Changes, Store
from tests.batch_loader.builders import AUTOMATIC, CAMPAIGN, CATALOG, ENDPOINT, SUBJECT
from tests.batch_loader.line import Line, line
from tests.engines import Engines
from tests.kit import eventually


async def refused(here: Line, body: dict[str, Any], status: int = 422) -> str:
    answer = await here.api.post("/v1/batches", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


async def test_a_draft_is_checked_kept_and_found_again(here: Line) -> None:
    await here.knows([])
    schedule = {"kind": "local_time", "date": "2126-02-03", "time": "09:00", "spread_hours": 2}
    filters = {"fields": {"a.b": ["x", 1], "$odd": True}, "last_subjects": ["survey"], "limit": 5}
    answer = await here.api.post(
        "/v1/batches",
        json={"name": " Spring ", "filters": filters, "choices": AUTOMATIC | {"schedule": schedule}},
    )
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/v1/batches/{made['batch_id']}"
    assert answer.headers["etag"] == '"1"'
    assert (made["name"], made["state"], made["version"]) == ("Spring", "draft", 1)
    assert made["choices"]["campaign_id"] == CAMPAIGN
    assert made["choices"]["endpoint_id"] == ENDPOINT
    assert made["choices"]["schedule"]["time"] == "09:00"
    assert made["filters"]["fields"] == filters["fields"]
    assert await here.get(made) == made


async def test_a_wrong_draft_is_refused_with_one_clear_sentence(here: Line) -> None:
    await here.knows([])
    draft: dict[str, Any] = {"name": "x", "filters": {}, "choices": AUTOMATIC}
    assert (
        await refused(here, draft | {"choices": AUTOMATIC | {"campaign": "autumn"}})
        == "There is no campaign 'autumn'; known: spring."
    )
    assert (
        await refused(here, draft | {"choices": AUTOMATIC | {"endpoint": "mailbox"}})
        == "Endpoint 'mailbox' is for email, but the batch uses sms."
    )
    assert "body.filters.colour: there is no such field" in await refused(
        here, draft | {"filters": {"colour": 1}}
    )
    assert "not an IANA time zone" in await refused(here, draft | {"filters": {"time_zones": ["Mars"]}})
    past = AUTOMATIC | {"schedule": {"kind": "local_time", "date": "2020-01-01", "time": "09:00"}}
    assert (
        await refused(here, draft | {"choices": past})
        == "The schedule 2020-01-01 09:00 has passed; leave it out to begin when the batch is loaded."
    )
    assert "needs an agent_profile" in await refused(
        here, draft | {"choices": {"campaign": "spring", "subject": "renewal", "source": "automatic"}}
    )
    listed = (await here.api.get("/v1/batches", params={"limit": 1000})).json()["items"]
    assert "x" not in {batch["name"] for batch in listed}


async def test_a_preview_counts_and_shows_nobodys_number(here: Line) -> None:
    await here.knows(
        [
            *(here.contact(number) for number in range(20)),
            *(here.contact(number, PreferenceKind.DO_NOT_SMS, phones=()) for number in range(20, 24)),
            *(here.contact(number, phones=()) for number in range(24, 30)),
        ]
    )
    batch = await here.draft(filters={"limit": 25})
    stored = await here.tell(batch, "preview")
    assert (stored["count"], stored["selected"]) == (30, 25)
    assert stored["skipped"] == {"opted_out": 4, "no_address": 6}
    assert len(stored["sample"]) == 10
    assert stored["sample"][0] == {
        "contact_id": here.id(0),
        "contact_type": here.crowd,
        "time_zone": "America/New_York",
        "phone": "+12•••••••00",
        "skipped": None,
    }
    answer = await here.api.post(
        "/v1/batches/preview",
        json={
            "filters": {"contact_type": here.crowd, "include_opted_out": True, "limit": 3},
            "channel": "sms",
        },
    )
    given = answer.json()
    assert (given["count"], given["selected"], len(given["sample"])) == (30, 3, 3)
    assert given["skipped"] == {"no_address": 10}
    assert (await here.get(batch))["version"] == 1


async def test_a_preview_counts_whom_the_load_skips_for_an_open_activity(here: Line) -> None:
    await here.knows(
        [
            *(here.contact(number) for number in range(30)),
            here.contact(30, PreferenceKind.DO_NOT_SMS),
            here.contact(31, phones=()),
        ]
    )
    busy = (0, 3, *range(20, 30), 30, 31)
    await here.wire.publish(
        *(here.changed(number, f"{here.crowd}-{number}", 1, ActivityState.SCHEDULED) for number in busy),
        here.changed(1, f"{here.crowd}-ended", 1, ActivityState.COMPLETED),
        here.changed(2, f"{here.crowd}-another", 1, ActivityState.SCHEDULED, subject_id="another-subject"),
    )
    theirs = {"_id": {"$regex": f"^{here.crowd}-"}}

    async def known() -> bool:
        return bool(await here.service.mongo["open_activities"].count_documents(theirs) == len(busy) + 2)

    await eventually(known, "their activities")
    batch = await here.draft()
    seen = await here.tell(batch, "preview")
    reasons = {"opted_out": 1, "no_address": 1, "duplicate_open_activity": 12}
    assert (seen["count"], seen["looked_at"], seen["skipped"]) == (32, 32, reasons)
    duplicate = "duplicate_open_activity"
    marked = [row["skipped"] for row in seen["sample"]]
    assert marked == [duplicate, None, None, duplicate, *[None] * 6]
    await here.tell(batch, "load")
    assert (await here.becomes(batch, "loaded"))["skipped"] == reasons

    everybody = await here.tell(await here.draft(duplicate_rule="none"), "preview")
    assert (everybody["looked_at"], everybody["skipped"]) == (None, {"opted_out": 1, "no_address": 1})
    told: dict[str, Any] = {"filters": {"contact_type": here.crowd}}
    assert (await here.api.post("/v1/batches/preview", json=told)).json()["skipped"] == {}
    by_code = await here.api.post("/v1/batches/preview", json=told | {"subject": "renewal"})
    assert by_code.json()["skipped"] == {duplicate: 32}
    unknown = await here.api.post("/v1/batches/preview", json=told | {"subject": "nothing"})
    assert unknown.status_code == 422


async def _only_a_subject() -> Catalog:
    return Catalog(subjects=(Item(SUBJECT, "renewal"),))


class Silent:
    """Kafka that does not answer."""

    async def look(self, copies: Iterable[Copy]) -> Reading:
        raise NoAnswer

    async def look_again(self, reading: Reading) -> Reading:
        raise NoAnswer


async def test_a_preview_of_a_great_many_looks_at_the_first_only(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(12))
    mongo = here.service.mongo
    in_a_hurry = PreviewBatch(
        MongoAudience(mongo),
        MongoOpenActivities(mongo),
        _only_a_subject,
        Silent(),
        here.service.clock,
        page_size=5,
        looking_seconds=0,
    )
    seen = await in_a_hurry(Filters(contact_type=here.crowd), "sms", "renewal")
    assert (seen.count, seen.looked_at) == (12, 5)


async def test_batches_are_listed_sorted_and_by_the_page(engines: Engines, namespace: str) -> None:
    async with line(engines, namespace) as here:
        await here.knows([])
        names = ["b", "d", "a", "c", "e"]
        made = [await here.draft(name) for name in names]
        await here.tell(made[1], "cancel")

        async def pages(**asked: Any) -> list[str]:
            seen: list[str] = []
            cursor = None
            while True:
                told = asked | ({"cursor": cursor} if cursor else {})
                page = (await here.api.get("/v1/batches", params=told)).json()
                seen.extend(batch["name"] for batch in page["items"])
                cursor = page["next_cursor"]
                if cursor is None:
                    return seen

        assert await pages() == names[::-1]
        assert await pages(limit=2) == names[::-1]
        assert await pages(limit=2, sort="created_at") == names
        assert await pages(limit=2, sort="name") == sorted(names)
        assert await pages(limit=1, sort="-name") == sorted(names, reverse=True)
        assert await pages(limit=2, state="cancelled") == ["d"]
        by_name = (await here.api.get("/v1/batches", params={"sort": "name", "limit": 1})).json()[
            "next_cursor"
        ]
        assert (await here.api.get("/v1/batches", params={"cursor": by_name})).status_code == 422
        for wrong in ({"cursor": "nonsense"}, {"sort": "colour"}, {"limit": 0}, {"state": "asleep"}):
            assert (await here.api.get("/v1/batches", params=wrong)).status_code == 422


async def test_a_stopped_campaign_takes_no_batch(engines: Engines, namespace: str) -> None:
    async with line(engines, namespace) as here:
        await here.knows([here.contact(1)])
        body = {"name": "Late", "choices": AUTOMATIC}
        again = {"Idempotency-Key": "late"}
        early = (await here.api.post("/v1/batches", json=body, headers=again)).json()
        paused, loaded = await here.draft("Paused"), await here.draft("Loaded")
        await here.tell(loaded, "load")
        await here.becomes(loaded, "loaded")
        await here.service.mongo["batches"].update_one(
            {"_id": paused["batch_id"]}, {"$set": {"state": "paused"}}
        )
        (spring,) = (each for each in CATALOG if isinstance(each, CampaignChanged))
        await here.wire.publish(spring.evolve(version=2, state=CampaignState.STOPPED))
        campaigns = here.service.mongo["campaigns"]
        await eventually(lambda: campaigns.count_documents({"version": 2}), "the campaign to be stopped")

        said = "Campaign 'spring' is stopped for good; draft one for another campaign."
        for batch, move in ((early, "load"), (paused, "resume")):
            problem = await here.tell(batch, move, 409)
            assert (problem["type"], problem["detail"]) == ("urn:parley:problem:campaign-stopped", said)
        assert await refused(here, {"name": "New", "choices": AUTOMATIC}, 409) == said
        assert (await here.get(early))["version"] == 1
        assert (await here.tell(loaded, "load"))["state"] == "loaded", "the answer may have got lost"
        await here.service.mongo["idempotency_keys"].delete_one({"_id": "late"})
        assert (await here.api.post("/v1/batches", json=body, headers=again)).status_code == 200
        for batch in (early, paused):
            assert (await here.tell(batch, "cancel"))["state"] == "cancelled"


async def test_who_has_to_decide_again_hears_of_a_campaign_that_was_stopped_meanwhile(here: Line) -> None:
    await here.knows([])
    draft = await here.draft()
    batches = Store(here.service.mongo, "batches", Batch, "batch_id")
    campaign = Item(draft["choices"]["campaign_id"], "spring")

    async def catalog() -> Catalog:
        batch = await batches.get(draft["batch_id"])
        assert batch is not None
        if batch.version > 1:
            return Catalog(campaigns=(replace(campaign, stopped=True),))
        await here.service.committer.commit(
            Changes([(batches, batch, batch.model_copy(update={"version": 2}))])
        )
        return Catalog(campaigns=(campaign,))

    commands, clock = here.service.commands(batches), here.service.clock
    steer = SteerBatch(commands, MongoAudience(here.service.mongo), catalog, clock, lambda: None)
    with pytest.raises(StoppedCampaign):
        await steer(draft["batch_id"], "load")


async def test_a_move_may_ask_for_the_version_it_saw(here: Line) -> None:
    await here.knows([])
    batch = await here.draft()
    path = f"/v1/batches/{batch['batch_id']}/cancel"
    stale = await here.api.post(path, headers={"If-Match": '"7"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:parley:problem:version-moved")
    moved = await here.api.post(path, headers={"If-Match": '"1"'})
    assert (moved.status_code, moved.headers["etag"]) == (200, '"2"')
    again = await here.api.post(path, headers={"If-Match": '"1"'})
    assert (again.status_code, again.headers["etag"]) == (200, '"2"'), "the answer may have got lost"


async def test_what_does_not_exist_is_not_found(here: Line) -> None:
    assert (await here.api.get("/v1/batches/nothing")).status_code == 404
    for move in ("load", "pause", "resume", "cancel", "preview"):
        answer = await here.api.post(f"/v1/batches/nothing/{move}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no batch with id 'nothing'."


async def test_a_repeated_draft_with_the_same_key_makes_one_batch(here: Line) -> None:
    await here.knows([])
    body = {"name": "Once", "choices": AUTOMATIC}
    answers = [
        await here.api.post("/v1/batches", json=body, headers={"Idempotency-Key": here.crowd})
        for _ in range(2)
    ]
    assert answers[0].json()["batch_id"] == answers[1].json()["batch_id"]
    listed = (await here.api.get("/v1/batches", params={"limit": 1000})).json()["items"]
    assert [batch["name"] for batch in listed].count("Once") == 1


async def test_a_draft_stays_the_same_when_the_catalogue_moved_on(here: Line) -> None:
    await here.knows([])
    body = {"name": "Moved on", "choices": AUTOMATIC}
    key = {"Idempotency-Key": f"{here.crowd}-moved-on"}
    first = (await here.api.post("/v1/batches", json=body, headers=key)).json()
    await here.service.mongo["idempotency_keys"].delete_one({"_id": key["Idempotency-Key"]})
    await here.service.mongo["batches"].update_one(
        {"_id": first["batch_id"]}, {"$set": {"choices.endpoint_id": "that-of-yesterday"}}
    )
    again = await here.api.post("/v1/batches", json=body, headers=key)
    assert (again.status_code, again.json()["batch_id"]) == (200, first["batch_id"])


async def test_a_draft_whose_answer_was_lost_with_its_process_is_the_same_batch(here: Line) -> None:
    await here.knows([])
    body = {"name": "Lost", "choices": AUTOMATIC}
    key = {"Idempotency-Key": f"{here.crowd}-lost"}
    first = await here.api.post("/v1/batches", json=body, headers=key)
    # As a kill between the transaction and the kept answer leaves it, once the claim has run out.
    await here.service.mongo["idempotency_keys"].delete_one({"_id": key["Idempotency-Key"]})
    again = await here.api.post("/v1/batches", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["batch_id"] == again.json()["batch_id"]
    listed = (await here.api.get("/v1/batches", params={"limit": 1000})).json()["items"]
    assert [batch["name"] for batch in listed].count("Lost") == 1
    await here.service.mongo["idempotency_keys"].delete_one({"_id": key["Idempotency-Key"]})
    other = await here.api.post("/v1/batches", json=body | {"name": "Found"}, headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:parley:problem:idempotency-key-reused"
