import asyncio

import pytest

from contracts.campaigns import (
    AgentProfileChanged,
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    PolicyChanged,
    SubjectChanged,
    catalog_id,
)
from servicekit.delivery import headers_of
from tests.campaigns.conftest import BUNDLE, Running, a_bundle
from tests.kit import settled


async def announced(campaigns: Running) -> list[tuple[str, str]]:
    await settled(campaigns.service)
    records = await campaigns.wire.records("catalog-changed")
    return sorted((headers_of(record)["ce_type"], record.key.decode()) for record in records)


async def test_a_bundle_is_applied_once_and_announced(campaigns: Running) -> None:
    dry = await campaigns.apply(BUNDLE, dry_run=True)
    assert (len(dry["created"]), dry["dry_run"]) == (7, True)
    assert (await campaigns.api.get("/v1/campaigns")).json()["items"] == []

    first = await campaigns.apply(BUNDLE)
    assert first["created"] == [
        "dispositions/sold",
        "dispositions/no-answer",
        "endpoints/main",
        "policies/us-default",
        "agent_profiles/scripted",
        "subjects/renewal",
        "campaigns/spring",
    ]
    again = await campaigns.apply(BUNDLE)
    assert (again["created"], again["changed"], len(again["unchanged"])) == ([], [], 7)
    assert len(await announced(campaigns)) == 7
    for message, count in (
        (SubjectChanged, 1),
        (DispositionChanged, 2),
        (CampaignChanged, 1),
        (EndpointChanged, 1),
        (PolicyChanged, 1),
        (AgentProfileChanged, 1),
    ):
        assert len(await campaigns.wire.expect(message, count)) == count
    (subject,) = await campaigns.wire.messages(SubjectChanged)
    assert subject.data_schema == BUNDLE["subjects"][0]["data_schema"]
    assert (await campaigns.api.get("/v1/subjects/renewal")).json()["data_schema"] == subject.data_schema


async def test_two_bundles_at_once_leave_one_truth(campaigns: Running) -> None:
    answers = await asyncio.gather(*(campaigns.apply(BUNDLE) for _ in range(4)))
    assert sorted(len(answer["created"]) for answer in answers) == [0, 0, 0, 7]
    assert len(await announced(campaigns)) == 7


async def test_a_wrong_bundle_changes_nothing_and_lists_every_fault(campaigns: Running) -> None:
    wrong = a_bundle(
        campaigns=[BUNDLE["campaigns"][0] | {"endpoint": "x"}], policies=[{"code": "P"}], flows=[]
    )
    answer = await campaigns.api.put("/v1/bundle", json=wrong)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    places = {error["where"]: error["what"] for error in answer.json()["errors"]}
    assert places["campaigns[0].endpoint"] == "no endpoint with code 'x'; there are: main"
    assert {"flows", "policies[0].code", "policies[0].name"} <= places.keys()
    assert await announced(campaigns) == []
    torn = await campaigns.api.put("/v1/bundle", content=b'{"campaigns": [')
    assert (torn.status_code, torn.json()["type"]) == (422, "urn:parley:problem:not-json")


async def test_a_campaign_moves_over_rest_and_a_bundle_does_not_move_it_back(campaigns: Running) -> None:
    await campaigns.apply(BUNDLE)

    async def move(name: str) -> tuple[int, str]:
        answer = await campaigns.api.post(f"/v1/campaigns/spring/{name}")
        return answer.status_code, answer.json().get("state") or answer.json()["detail"]

    refused, why = await move("pause")
    assert (refused, why) == (409, "campaign 'spring' is draft; it cannot pause, it can start or stop.")
    assert await move("start") == (200, "running")
    assert await move("start") == (200, "running")
    assert (await campaigns.apply(BUNDLE))["changed"] == []
    assert await move("pause") == (200, "paused")
    assert await move("resume") == (200, "running")
    assert await move("stop") == (200, "stopped")
    assert (await move("start"))[0] == 409
    assert (await campaigns.api.post("/v1/campaigns/spring/fly")).status_code == 422
    assert (await campaigns.api.post("/v1/campaigns/autumn/start")).status_code == 404
    moves = await campaigns.wire.expect(CampaignChanged, 5)
    assert [message.state for message in moves] == ["draft", "running", "paused", "running", "stopped"]
    assert [message.version for message in moves] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("by", ["code", "id"])
async def test_one_item_is_put_and_found(campaigns: Running, by: str) -> None:
    written = {"channel": "sms", "address": "+12025550101"}
    made = await campaigns.api.put("/v1/endpoints/second", json=written)
    assert (made.status_code, made.headers["ETag"]) == (200, '"1"')
    again = await campaigns.api.put("/v1/endpoints/second", json=written)
    assert again.json() == made.json()
    name = "second" if by == "code" else catalog_id("endpoint", "second")
    assert (await campaigns.api.get(f"/v1/endpoints/{name}")).json() == made.json()
    assert (await campaigns.api.get("/v1/endpoints/third")).status_code == 404

    taken = await campaigns.api.put("/v1/endpoints/third", json=written)
    assert taken.json()["errors"] == [
        {"where": "address", "what": "endpoint 'second' has this address on channel sms"}
    ]
    other = await campaigns.api.put("/v1/endpoints/third", json=written | {"code": "fourth"})
    assert other.json()["errors"] == [{"where": "code", "what": "must be 'third', as in the path"}]


async def test_a_subject_whose_activities_end_without_a_disposition_is_refused(campaigns: Running) -> None:
    written = {"name": "Renewal", "disposition_required": False}
    refused = await campaigns.api.put("/v1/subjects/renewal", json=written)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"where": "disposition_required", "what": "must be true: every activity ends with a disposition"}
    ]
    assert await announced(campaigns) == []


async def test_lists_come_in_pages_and_the_documents_are_whole(campaigns: Running) -> None:
    await campaigns.apply({"dispositions": [{"code": f"d{n}", "name": "D"} for n in range(5)]})
    first = (await campaigns.api.get("/v1/dispositions", params={"limit": 3})).json()
    rest = await campaigns.api.get("/v1/dispositions", params={"limit": 3, "cursor": first["next_cursor"]})
    codes = [item["code"] for item in first["items"] + rest.json()["items"]]
    assert (codes, rest.json()["next_cursor"]) == ([f"d{n}" for n in range(5)], None)
    document = (await campaigns.api.get("/openapi.json")).json()
    assert "/v1/agent-profiles/{code}" in document["paths"]
    assert "#/$defs/" not in str(document)
    assert "campaigns" in (await campaigns.api.get("/v1/bundle/schema")).json()["properties"]


async def test_an_item_may_ask_for_the_version_its_author_saw(campaigns: Running) -> None:
    await campaigns.apply(BUNDLE)
    path, written = "/v1/endpoints/main", {"channel": "sms", "address": "+12025550109"}
    stale = await campaigns.api.put(path, json=written, headers={"If-Match": '"7"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:parley:problem:version-moved")
    fresh = await campaigns.api.put(path, json=written, headers={"If-Match": '"1"'})
    assert (fresh.status_code, fresh.headers["ETag"]) == (200, '"2"')
    again = await campaigns.api.put(path, json=written, headers={"If-Match": '"1"'})
    assert (again.status_code, again.json()) == (200, fresh.json()), "the answer may have got lost"
    other = written | {"address": "+12025550108"}
    nobody = await campaigns.api.put("/v1/endpoints/new", json=other, headers={"If-Match": '"1"'})
    assert (nobody.status_code, "there is none" in nobody.json()["detail"]) == (412, True)
    assert (await campaigns.api.get("/v1/endpoints/new")).status_code == 404
    start, key = "/v1/campaigns/spring/start", {"Idempotency-Key": "start-spring"}
    assert (await campaigns.api.post(start, headers={"If-Match": '"7"', **key})).status_code == 412
    started = await campaigns.api.post(start, headers={"If-Match": '"1"', **key})
    assert (started.status_code, started.json()["state"]) == (200, "running"), "with a fresh ETag it is tried"
    assert (await campaigns.api.post(start, headers={"If-Match": '"1"'})).status_code == 200


async def test_an_item_may_be_made_only_if_there_is_none(campaigns: Running) -> None:
    path, unless = "/v1/endpoints/main", {"If-None-Match": "*"}
    written = {"channel": "sms", "address": "+12025550109"}
    made = await campaigns.api.put(path, json=written, headers=unless)
    assert (made.status_code, made.headers["ETag"]) == (200, '"1"')
    for again in (written, written | {"address": "+12025550108"}):
        stands = await campaigns.api.put(path, json=again, headers=unless)
        assert (stands.status_code, stands.json()["type"]) == (412, "urn:parley:problem:stands-already")
    assert (await campaigns.api.get(path)).json() == made.json()
    for odd in ({"If-None-Match": '"1"'}, unless | {"If-Match": '"1"'}):
        refused = await campaigns.api.put(path, json=written, headers=odd)
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:parley:problem:bad-if-none-match")
    operation = (await campaigns.api.get("/openapi.json")).json()["paths"]["/v1/endpoints/{code}"]["put"]
    named = {parameter["name"].lower() for parameter in operation["parameters"]}
    assert {"if-match", "if-none-match"} <= named
