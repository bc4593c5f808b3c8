"""The workflow through its topics and its REST API."""

import math
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.activities import ActivityCompleted, ActivityCreated
from contracts.campaigns import catalog_id
from contracts.contacts import SetPreference
from servicekit.clock import DrivenClock
from servicekit.service import Service
from tests.engines import Engines
from tests.kit import Wire, eventually, frozen_clock, rewind, running, settled
from tests.workflow.builders import NOON, completed, follow_up_id
from workflow.main import build
from workflow.settings import Settings

RENEWAL: dict[str, Any] = {
    "subject": "renewal",
    "when": {
        "no-answer": [{"try_again": {"max_attempts": 3, "delay": "2h", "exhausted": [{"finish": {}}]}}],
        "sold": [
            {"new_activity": {"subject": "onboarding", "kind": "call", "delay": "2d"}},
            {"finish": {}},
        ],
        "opted-out": [{"set_preference": {"preference": "do-not-sms", "opted_out": True}}],
    },
}


@pytest.fixture
def clock(tmp_path: Path) -> DrivenClock:
    return frozen_clock(tmp_path, NOON - timedelta(days=1))


@pytest.fixture
async def wire(engines: Engines, namespace: str) -> AsyncIterator[Wire]:
    wire = Wire(engines, namespace)
    yield wire
    await wire.close()


@pytest.fixture
async def service(engines: Engines, namespace: str, clock: DrivenClock) -> AsyncIterator[Service]:
    async with running(build, Settings, engines, namespace, clock=clock) as service:
        yield service


@pytest.fixture
async def api(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


def client_of(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}/v1")


async def apply(api: httpx.AsyncClient, *flows: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = await api.put("/flows", json={"flows": flows}, params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def errors_of(answer: httpx.Response, status: int = 422) -> list[str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [f"{error['where']}: {error['what']}" for error in answer.json()["errors"]]


async def test_a_completion_leads_to_what_the_flow_says(
    service: Service, api: httpx.AsyncClient, wire: Wire
) -> None:
    await apply(api, RENEWAL)
    await wire.publish(
        completed("no-answer", activity_id="a1", contact_id="c1"),
        completed("sold", activity_id="a2", contact_id="c2"),
        completed("opted-out", activity_id="a3", contact_id="c3"),
        completed("busy", activity_id="a4", contact_id="c4"),
        completed("no-answer", activity_id="a5", contact_id="c5", attempt_number=3),
    )
    made = {m.activity_id: m for m in await wire.expect(ActivityCreated, 2)}
    assert set(made) == {follow_up_id("no-answer/0", "a1"), follow_up_id("sold/0", "a2")}
    (command,) = await wire.expect(SetPreference, 1)
    assert (command.contact_id, command.preference, command.opted_out) == ("c3", "do-not-sms", True)
    await settled(service)

    decision = (await api.get("/decisions/a1")).json()
    assert decision["result"] == "decided"
    assert decision["flow_version"] == 1
    assert decision["actions"][0]["produced_id"] == follow_up_id("no-answer/0", "a1")
    assert (await api.get("/decisions/a4")).json()["result"] == "no_flow"
    assert (await api.get("/decisions/nobody")).status_code == 404

    counts = (await api.get("/decisions/counts", params={"subject": "renewal"})).json()
    told = {name: value for name, value in counts.items() if name != "items"}
    assert told == {
        "decided": 4,
        "no_flow": 1,
        "activities": 2,
        "preferences": 1,
        "exhausted": 1,
        "chain_limit": 0,
    }
    assert (await api.get("/decisions/counts", params={"subject": "other"})).json()["items"] == []


async def test_a_rewind_changes_nothing(service: Service, api: httpx.AsyncClient, wire: Wire) -> None:
    await apply(api, RENEWAL)
    dispositions = ["sold", "no-answer", "opted-out", "busy"]
    await wire.publish(
        *[completed(dispositions[n % 4], activity_id=f"a{n}", contact_id=f"c{n}") for n in range(80)]
    )
    await wire.expect(ActivityCreated, 40)
    await wire.expect(SetPreference, 20)
    await settled(service)
    before = (await api.get("/decisions/counts")).json()
    await apply(api, {"subject": "renewal", "when": {"busy": [{"new_activity": {}}]}})

    await rewind(service)
    await settled(service)
    repeats = {"subscriber": service.bus.subscriptions[0].name, "outcome": "unchanged"}
    assert service.metrics.registry.get_sample_value("parley_messages_consumed_total", repeats) == 80
    assert len(await wire.records("activity-created")) == 40
    assert len(await wire.records("contact-commands")) == 20
    assert (await api.get("/decisions/counts")).json() == before


async def test_a_completion_delivered_twice_in_one_batch_is_decided_once(
    service: Service, api: httpx.AsyncClient, wire: Wire
) -> None:
    await apply(api, RENEWAL)
    await wire.publish(*[completed("sold", activity_id="a1")] * 5)
    await wire.expect(ActivityCreated, 1)
    await settled(service)
    assert len(await wire.records("activity-created")) == 1


async def test_poison_does_not_block_the_good(service: Service, api: httpx.AsyncClient, wire: Wire) -> None:
    await apply(api, RENEWAL)
    good = completed("sold", activity_id="good")
    await wire.publish_raw("activity-completed", b"not json", key=b"contact-1")
    await wire.publish(completed("sold", activity_id="deep", chain_depth=-7), good)
    made = await wire.expect(ActivityCreated, 1)
    assert [m.parent_id for m in made] == ["good"]
    await settled(service)
    assert len(await wire.dead_letters("activity-completed")) == 2


async def test_a_campaign_flow_beats_the_subject_flow(
    service: Service, api: httpx.AsyncClient, wire: Wire
) -> None:
    special = {"subject": "renewal", "campaign": "spring", "when": {"sold": [{"finish": {}}]}}
    _, applied = await apply(api, RENEWAL, special)
    await wire.publish(
        completed("sold", activity_id="in", contact_id="c1"),
        completed("sold", activity_id="out", contact_id="c2", campaign_id=None),
    )
    (made,) = await wire.expect(ActivityCreated, 1)
    await settled(service)
    assert made.parent_id == "out"
    assert (await api.get("/decisions/in")).json()["flow_id"] == applied["flow_id"]
    assert len(await wire.messages(ActivityCreated)) == 1


async def test_an_activity_finishes_under_the_version_it_was_created_under(
    service: Service, api: httpx.AsyncClient, wire: Wire, clock: DrivenClock
) -> None:
    await apply(api, RENEWAL)
    clock.set(NOON, rate=0)
    await eventually(lambda: _shows(service, NOON), "the service to see the time")
    (applied,) = await apply(api, {"subject": "renewal", "when": {"sold": [{"finish": {}}]}})
    assert (applied["result"], applied["version"]) == ("published", 2)
    await wire.publish(
        completed("sold", activity_id="old", contact_id="c1", created_at=NOON - timedelta(hours=1)),
        completed("sold", activity_id="new", contact_id="c2", created_at=NOON + timedelta(hours=1)),
    )
    (made,) = await wire.expect(ActivityCreated, 1)
    assert made.parent_id == "old"
    await settled(service)
    assert (await api.get("/decisions/new")).json()["flow_version"] == 2


async def _shows(service: Service, moment: datetime) -> bool:
    return service.clock.now() == moment


async def test_applying_the_same_bundle_again_changes_nothing(api: httpx.AsyncClient) -> None:
    (first,) = await apply(api, RENEWAL)
    (again,) = await apply(api, RENEWAL)
    assert (first["result"], again["result"]) == ("published", "unchanged")
    assert (again["flow_id"], again["version"]) == (first["flow_id"], 1)


async def test_a_dry_run_says_what_would_happen_and_writes_nothing(api: httpx.AsyncClient) -> None:
    (would,) = await apply(api, RENEWAL, dry_run=True)
    assert (would["result"], would["version"]) == ("published", 1)
    assert (await api.get("/flows")).json()["items"] == []


async def test_a_draft_is_published_and_rolled_back(api: httpx.AsyncClient) -> None:
    (applied,) = await apply(api, RENEWAL)
    path = f"/flows/{applied['flow_id']}"
    assert (await api.post(f"{path}/publish")).json()["type"] == "urn:parley:problem:nothing-to-publish"
    other = {"subject": "renewal", "when": {"sold": [{"finish": {}}]}}
    (drafted,) = await apply(api, other, publish=False)
    assert (drafted["result"], drafted["version"]) == ("drafted", 1)
    flow = (await api.post(f"{path}/publish")).json()
    assert flow["draft"] is None
    back = (await api.post(f"{path}/rollback", json={"version": 1})).json()
    assert back["published"][-1]["restores"] == 1
    assert back["published"][-1]["rules"]["when"] == back["published"][0]["rules"]["when"]
    missing = await api.post(f"{path}/rollback", json={"version": 9})
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Version 9 was never published; there are 1 to 3."
    assert (await api.post("/flows/nothing/publish")).status_code == 404


async def test_flows_and_versions_are_paged(api: httpx.AsyncClient) -> None:
    flows: list[dict[str, Any]] = [
        {"subject": code, "when": {"sold": [{"finish": {}}]}} for code in ("one", "two", "three")
    ]
    await apply(api, *flows)
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = (await api.get("/flows", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += [flow["subject"] for flow in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert sorted(found) == ["one", "three", "two"]
    assert pages == math.ceil(3 / 2)

    (applied,) = await apply(api, {"subject": "one", "when": {"sold": [{"try_again": {"max_attempts": 2}}]}})
    path = f"/flows/{applied['flow_id']}/versions"
    newest = (await api.get(path, params={"limit": 1})).json()
    assert [version["number"] for version in newest["items"]] == [2]
    rest = (await api.get(path, params={"cursor": newest["next_cursor"]})).json()
    assert [version["number"] for version in rest["items"]] == [1]
    assert rest["next_cursor"] is None
    assert (await api.get(path, params={"cursor": "2"})).json()["type"] == "urn:parley:problem:bad-cursor"


async def test_one_fault_and_nothing_is_changed(api: httpx.AsyncClient) -> None:
    wrong = {
        "subject": "renewal",
        "when": {"no-answer": [{"try_again": {"max_attempts": 3, "delay": "-2h"}}]},
    }
    (error,) = await errors_of(
        await api.put("/flows", json={"flows": [RENEWAL | {"subject": "fine"}, wrong]})
    )
    assert error.startswith("flows[1].when.no-answer[0].delay: '-2h' is negative")
    assert (await api.get("/flows")).json()["items"] == []


async def test_two_flows_for_the_same_thing_are_refused(api: httpx.AsyncClient) -> None:
    (error,) = await errors_of(await api.put("/flows", json={"flows": [RENEWAL, RENEWAL]}))
    assert error == "flows[1]: has the same subject and campaign as flows[0]"


async def test_a_preview_is_what_then_happens(service: Service, api: httpx.AsyncClient, wire: Wire) -> None:
    await apply(api, RENEWAL)
    done = completed("sold", contact_time_zone="America/New_York", preparation_notes="Ask for Dana.")
    told = {
        "disposition": "sold",
        "subject": "renewal",
        "campaign": "spring",
        "completed_at": "2026-03-02T12:00:00Z",
        **done.model_dump(
            mode="json",
            include={"activity_id", "contact_id", "contact_time_zone", "preparation_notes", "endpoint_id"},
        ),
    }
    shown = (await api.post("/preview", json={"completion": told})).json()
    assert await wire.messages(ActivityCreated) == []
    assert (await api.get("/decisions/activity-1")).status_code == 404
    await wire.publish(done)
    (made,) = await wire.expect(ActivityCreated, 1)
    assert shown["activities"] == [made.model_dump(mode="json")]
    assert shown["decision"] == (await api.get("/decisions/activity-1")).json()


async def test_a_preview_may_be_of_a_draft_or_of_rules_nobody_saved(api: httpx.AsyncClient) -> None:
    (applied,) = await apply(api, RENEWAL)
    await apply(api, {"subject": "renewal", "when": {"sold": [{"finish": {}}]}}, publish=False)
    sold = {"completion": {"disposition": "sold"}}
    saved = sold | {"flow_id": applied["flow_id"]}
    assert len((await api.post("/preview", json=saved)).json()["activities"]) == 1
    assert (await api.post("/preview", json=saved | {"version": "draft"})).json()["activities"] == []
    assert len((await api.post("/preview", json=saved | {"version": 1})).json()["activities"]) == 1
    assert (await api.post("/preview", json=saved | {"version": 7})).status_code == 404

    unsaved = sold | {"flow": RENEWAL | {"subject": "another"}}
    shown = (await api.post("/preview", json=unsaved)).json()
    assert shown["activities"][0]["scheduled_at"] == "2026-03-03T12:00:00Z"
    assert shown["activities"][0]["subject_id"] == catalog_id("subject", "onboarding")
    wrong = sold | {"flow": {"subject": "x", "when": {"sold": [{"new_activity": {"mode": "automated"}}]}}}
    (error,) = await errors_of(await api.post("/preview", json=wrong))
    assert error == "flow.when.sold[0].channel: an automated activity needs a channel"


async def test_a_preview_must_say_which_flow(api: httpx.AsyncClient) -> None:
    (error,) = await errors_of(await api.post("/preview", json={"completion": {"disposition": "sold"}}))
    assert error == "the request: say which flow: by flow, flow_id, or the subject of the completion"


async def test_the_service_shows_its_topics(service: Service) -> None:
    async with httpx.AsyncClient() as client:
        document = (await client.get(f"http://127.0.0.1:{service.port}/asyncapi.json")).json()
    assert ActivityCompleted.__name__ in document["components"]["messages"]
