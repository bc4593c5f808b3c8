"""What every service's HTTP side does, whatever the service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict
from pymongo import MongoClient

from cli.engines import ports
from cli.engines.database import EmbeddedDatabase
from servicekit.pages import TAGGED, IfMatch, etag, version_of
from servicekit.problems import MEDIA_TYPE, Problem, answer, answered_by, install
from servicekit.refusals import NotFound
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from tests.engines import Engines
from tests.kit import eventually, running


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dish: str
    count: int


def _page(after: Annotated[str, Query(alias="from")] = "") -> str:
    return after


class SoldOut(Exception):
    pass


def _problem_of(refusal: Exception) -> Problem | None:
    match refusal:
        case SoldOut():
            return Problem(409, "sold-out", "Nothing is left of it", str(refusal))
    return None


class Kitchen:
    def __init__(self) -> None:
        self.cooked: list[str] = []
        self.slow = asyncio.Event()
        self.slow.set()

    def build(self, settings: ServiceSettings) -> Service:
        service = Service("kitchen", settings)
        router = APIRouter(route_class=answered_by(_problem_of))

        @router.post("/v1/orders", status_code=201)
        async def cook(order: Order) -> dict[str, int]:
            await self.slow.wait()
            if order.dish == "fire":
                self.cooked.append("fire")
                raise RuntimeError("the kitchen burns")
            if order.dish == "truffles":
                raise SoldOut("Come back in autumn.")
            self.cooked.append(order.dish)
            return {"number": len(self.cooked)}

        @router.get("/v1/orders")
        async def find(paging: Annotated[str, Depends(_page)], dish: str | None = None) -> list[str]:
            return [made for made in self.cooked if dish in (None, made)]

        @router.put("/v1/orders/{id_}")
        async def change(id_: str, order: Order, if_match: IfMatch = None) -> int | None:
            return version_of(if_match)

        @router.get("/v1/orders/{id_}")
        async def show(id_: str) -> None:
            raise NotFound("order", id_)

        @router.get("/v1/menu", responses=TAGGED)
        async def menu(response: Response) -> list[str]:
            response.headers["ETag"] = etag(7)
            return ["soup"]

        service.routes(router)
        return service


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


@pytest.fixture
async def client(kitchen: Kitchen, engines: Engines, namespace: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running(kitchen.build, ServiceSettings, engines, namespace) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as made,
    ):
        yield made


SOUP = {"dish": "soup", "count": 2}


async def test_the_same_key_gets_the_same_answer_and_one_effect(
    client: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/orders", json=SOUP, headers=key)
    again = await client.post("/v1/orders", json=SOUP, headers=key)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, b'{"number":1}')
    assert again.headers["idempotency-replayed"] == "true"
    assert kitchen.cooked == ["soup"]


async def test_the_same_json_otherwise_written_is_the_same_request(
    client: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    for body in (
        '{"dish":"soup","count":2}',
        '{\n  "count": 2,\n  "dish": "soup"\n}',
        '{"dish":"soup","count":3}',
    ):
        headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
        answer = await client.post("/v1/orders", content=body, headers=headers)
        assert answer.status_code == (201 if "2" in body else 422)
    assert kitchen.cooked == ["soup"]


async def test_replicas_of_before_and_after_an_update_know_each_others_requests(
    client: httpx.AsyncClient, kitchen: Kitchen, engines: Engines, namespace: str
) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    body = b'{"dish":"soup", "count":2}'
    await client.post("/v1/orders", content=body, headers=headers)
    # Commits of before compared this, and wrote it; then one wrote that for some hours.
    by_bytes = hashlib.sha256(b"\n".join((b"/v1/orders", b"", str(len(body)).encode(), body))).hexdigest()
    by_json = hashlib.sha256(b'/v1/orders\n\n{"count": 2, "dish": "soup"}').hexdigest()
    with MongoClient[dict[str, Any]](engines.mongo) as mongo:
        (name,) = [name for name in mongo.list_database_names() if name.startswith(namespace)]
        kept = mongo[name]["idempotency_keys"].find_one({"_id": "k1"})
        assert kept is not None
        assert kept["fingerprint"] == by_bytes
        for before in (by_bytes, by_json):
            as_before = {"$set": {"fingerprint": before}, "$unset": {"said": ""}}
            mongo[name]["idempotency_keys"].update_one({"_id": "k1"}, as_before)
            again = await client.post("/v1/orders", content=body, headers=headers)
            assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
            other = await client.post("/v1/orders", content=body.replace(b"2", b"3"), headers=headers)
            assert other.status_code == 422
    assert kitchen.cooked == ["soup"]


async def test_two_keys_are_refused(client: httpx.AsyncClient, kitchen: Kitchen) -> None:
    keys = [("Idempotency-Key", "k1"), ("Idempotency-Key", "k2")]
    refused = await client.post("/v1/orders", json=SOUP, headers=keys)
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:parley:problem:bad-idempotency-key")
    assert kitchen.cooked == []


async def test_no_body_is_no_body_whether_its_length_is_told_or_not(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/orders", headers={"Idempotency-Key": "k1", "Content-Length": "0"})
    request = client.build_request("POST", "/v1/orders", headers={"Idempotency-Key": "k1"})
    request.headers.pop("Content-Length", None)
    again = await client.send(request)
    assert (first.status_code, again.status_code) == (422, 422)
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_key_does_not_make_a_failure_of_what_is_only_refused(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    for depth in (300, 900, 20_000):
        body = '{"dish":' + "[" * depth + "]" * depth + "}"
        headers["Idempotency-Key"] = f"depth {depth}"
        assert (await client.post("/v1/orders", content=body, headers=headers)).status_code in (400, 422)
    headers["Idempotency-Key"] = "large"
    await client.post("/v1/orders", content=f'{{"dish":{10**23 + 1}}}', headers=headers)
    other = await client.post("/v1/orders", content=f'{{"dish":{10**23 + 2}}}', headers=headers)
    assert other.json()["type"] == "urn:parley:problem:idempotency-key-reused"


@pytest.mark.parametrize("known", ['"7"', 'W/"7"', '"6", "7"', "*"])
async def test_what_is_known_is_not_sent_again(client: httpx.AsyncClient, known: str) -> None:
    answer = await client.get("/v1/menu", headers={"If-None-Match": known})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"7"')
    assert "content-type" not in answer.headers
    newer = await client.get("/v1/menu", headers={"If-None-Match": '"6"'})
    assert (newer.status_code, newer.json()) == (200, ["soup"])
    untagged = await client.get("/v1/orders", headers={"If-None-Match": known})
    assert untagged.status_code == 200


async def test_the_document_tells_where_a_version_may_be_known(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert "If-None-Match" in [each["name"] for each in paths["/v1/menu"]["get"]["parameters"]]
    assert "304" in paths["/v1/menu"]["get"]["responses"]
    assert "304" not in paths["/v1/orders"]["get"]["responses"]


async def test_a_request_that_broke_off_was_none(client: httpx.AsyncClient, kitchen: Kitchen) -> None:
    head = "POST /v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k1\r\nContent-Length: 40\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(head.encode() + b'{"dish": "so')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await client.get("/v1/orders")).json() == []
    answer = await client.post("/v1/orders", json=SOUP, headers={"Idempotency-Key": "k1"})
    assert (answer.status_code, kitchen.cooked) == (201, ["soup"])


async def test_what_a_use_case_refuses_is_answered_as_its_routes_say(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/orders", json=SOUP | {"dish": "truffles"})
    assert (refused.status_code, refused.headers["content-type"]) == (409, MEDIA_TYPE)
    assert refused.json() == {
        "type": "urn:parley:problem:sold-out",
        "title": "Nothing is left of it",
        "status": 409,
        "detail": "Come back in autumn.",
    }
    unknown = await client.post("/v1/orders", json=SOUP | {"dish": "fire"})
    assert (unknown.status_code, unknown.json()["type"]) == (500, "urn:parley:problem:internal")


def test_a_problem_that_quotes_half_a_character_is_still_an_answer() -> None:
    told = answer(Problem(422, "odd", "Odd", "no such field: \ud800 \u00e9"))
    assert json.loads(bytes(told.body))["detail"] == "no such field: ? \u00e9"


async def test_a_time_without_a_zone_is_refused_with_how_to_write_one() -> None:
    app = FastAPI()
    install(app)

    @app.get("/at")
    async def at(time: AwareDatetime) -> None: ...

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://kit") as asking:
        refused = await asking.get("/at", params={"time": "2026-12-05T10:00"})
    assert refused.status_code == 422
    assert "query.time: a time needs its zone, as in 2026-03-01T12:00:00Z" in refused.json()["detail"]


async def test_the_same_key_for_another_request_is_refused(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k1"}
    await client.post("/v1/orders", json=SOUP, headers=key)
    other = await client.post("/v1/orders", json=SOUP | {"count": 3}, headers=key)
    assert other.status_code == 422
    assert other.headers["content-type"] == MEDIA_TYPE


async def test_the_same_key_while_the_first_runs_is_a_conflict(
    client: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    key = {"Idempotency-Key": "k1"}
    kitchen.slow.clear()
    first = asyncio.create_task(client.post("/v1/orders", json=SOUP, headers=key))
    await asyncio.wait([first], timeout=0.2)
    second = await client.post("/v1/orders", json=SOUP, headers=key)
    kitchen.slow.set()
    assert second.status_code == 409
    assert (await first).status_code == 201
    assert kitchen.cooked == ["soup"]


async def test_what_an_earlier_life_of_this_instance_left_running_runs_again_at_once(
    client: httpx.AsyncClient, kitchen: Kitchen, engines: Engines, namespace: str
) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/orders", json=SOUP, headers=key)
    with MongoClient[dict[str, Any]](engines.mongo) as mongo:
        (name,) = [name for name in mongo.list_database_names() if name.startswith(namespace)]
        killed = {"$set": {"state": "running", "by.life": "killed"}, "$unset": {"answer": ""}}
        mongo[name]["idempotency_keys"].update_one({"_id": "k1"}, killed)
        again = await client.post("/v1/orders", json=SOUP, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert kitchen.cooked == ["soup", "soup"]
        other = {"$set": {"state": "running", "by": {"instance": "another", "life": "alive"}}}
        mongo[name]["idempotency_keys"].update_one({"_id": "k1"}, other)
        assert (await client.post("/v1/orders", json=SOUP, headers=key)).status_code == 409


async def test_who_starts_without_a_database_says_that_it_is_away(kitchen: Kitchen, engines: Engines) -> None:
    settings = ServiceSettings(
        host="127.0.0.1",
        port=0,
        kafka_bootstrap_servers=engines.kafka,
        mongo_url="mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=300",
    )
    async with (
        kitchen.build(settings).running() as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=20) as client,
    ):
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["why"].startswith("database: ")


async def test_a_key_that_cannot_be_kept_is_told_to_try_again(kitchen: Kitchen, engines: Engines) -> None:
    settings = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka,
        mongo_url="mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=300",
        instance="kitchen-0",
        port=0,
    )
    async with (
        kitchen.build(settings).running() as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=20) as client,
    ):
        answer = await client.post("/v1/orders", json=SOUP, headers={"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["title"] == "The database does not answer"
    assert kitchen.cooked == []


async def test_what_was_done_while_the_database_went_away_is_done_once(
    kitchen: Kitchen, engines: Engines, tmp_path: Path
) -> None:
    database = EmbeddedDatabase(tmp_path, ports.choose("database"))
    await asyncio.to_thread(database.start)
    try:
        of_its_own = Engines(engines.kafka, database.url, engines.kind)
        async with (
            running(kitchen.build, ServiceSettings, of_its_own, "") as service,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as client,
        ):
            kitchen.slow.clear()
            key = {"Idempotency-Key": "k1"}
            asked = asyncio.create_task(client.post("/v1/orders", json=SOUP, headers=key))
            await eventually(lambda: service.mongo["idempotency_keys"].find_one({"_id": "k1"}), "the claim")
            await asyncio.to_thread(database.stop)
            kitchen.slow.set()
            first = await asked
            await asyncio.to_thread(database.start)
            again = await client.post("/v1/orders", json=SOUP, headers=key)
        assert (first.status_code, first.json()) == (201, {"number": 1})
        assert (again.status_code, again.json()) == (201, {"number": 1})
        assert "idempotency-replayed" in again.headers
        assert kitchen.cooked == ["soup"]
    finally:
        await asyncio.to_thread(database.stop)


async def test_a_failed_request_may_be_tried_again_with_its_key(
    client: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    key = {"Idempotency-Key": "k1"}
    for _ in range(2):
        failed = await client.post("/v1/orders", json=SOUP | {"dish": "fire"}, headers=key)
        assert failed.status_code == 500
        assert "burns" not in failed.text
    assert kitchen.cooked == ["fire", "fire"]


async def test_errors_are_problem_documents_that_name_the_fault(client: httpx.AsyncClient) -> None:
    unknown = await client.post("/v1/orders", json=SOUP | {"spice": 1})
    assert unknown.status_code == 422
    assert "body.spice" in unknown.json()["detail"]
    missing = await client.get("/v1/orders/7")
    assert (missing.status_code, missing.json()["detail"]) == (404, "There is no order with id '7'.")
    assert (await client.get("/nowhere")).headers["content-type"] == MEDIA_TYPE
    refused = await client.delete("/v1/orders")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, POST")
    for body in (b'"\xff"', b"[" * 3000):
        unread = await client.post("/v1/orders", content=body, headers={"Content-Type": "application/json"})
        assert unread.status_code in (400, 422)
        assert unread.json()["detail"]


async def test_a_parameter_that_nobody_knows_is_refused_and_the_known_ones_are_named(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/v1/orders", params={"dish": "soup", "from": "x"})).json() == []
    misspelt = await client.get("/v1/orders", params={"dihs": "soup"})
    assert misspelt.status_code == 422
    assert misspelt.json()["detail"] == "query.dihs: unknown parameter; this takes dish, from"
    none = await client.post("/v1/orders", params={"dish": "soup"}, json=SOUP)
    assert none.json()["detail"] == "query.dish: unknown parameter; this takes none"


async def test_a_condition_that_nobody_looks_at_is_refused(
    client: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    condition = {"If-Match": '"3"'}
    refused = await client.post("/v1/orders", json=SOUP, headers=condition)
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:parley:problem:if-match-not-taken")
    unless = {"If-None-Match": "*"}
    for method, path in (("POST", "/v1/orders"), ("PUT", "/v1/orders/7")):
        refused = await client.request(method, path, json=SOUP, headers=unless)
        told = refused.status_code, refused.json()["type"]
        assert told == (400, "urn:parley:problem:if-none-match-not-taken")
    assert kitchen.cooked == []
    assert (await client.put("/v1/orders/7", json=SOUP, headers=condition)).json() == 3
    assert (await client.get("/v1/orders", headers=condition)).status_code == 200


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "is missing"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "is application/x-www-form-urlencoded"),
        ({"Content-Type": "Text/JSON; charset=utf-8"}, "is text/json"),
    ],
)
async def test_a_body_that_is_not_called_json_is_refused_with_the_header_to_mend(
    client: httpx.AsyncClient, kitchen: Kitchen, sent: dict[str, str], said: str
) -> None:
    key = {"Idempotency-Key": "k1"}
    refused = await client.post("/v1/orders", content=json.dumps(SOUP), headers=sent | key)
    assert (refused.status_code, refused.headers["content-type"]) == (415, MEDIA_TYPE)
    assert refused.json()["type"] == "urn:parley:problem:not-called-json"
    assert refused.json()["detail"] == (
        f"The header Content-Type {said}: send the JSON body with Content-Type: application/json."
    )
    mended = await client.post("/v1/orders", json=SOUP, headers=key)
    assert (mended.status_code, kitchen.cooked) == (201, ["soup"]), "the key is free for the mended request"


@pytest.mark.parametrize(
    "called", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
async def test_a_body_that_is_called_json_in_any_way_is_read(client: httpx.AsyncClient, called: str) -> None:
    taken = await client.post("/v1/orders", content=json.dumps(SOUP), headers={"Content-Type": called})
    assert taken.status_code == 201
    assert (await client.post("/v1/orders")).status_code == 422, "no body has no content type"


async def test_the_document_tells_where_a_body_must_be_called_json(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    named = {f"{method} {path}": each for path in paths for method, each in paths[path].items()}
    refusing = {name for name, operation in named.items() if "415" in operation["responses"]}
    assert refusing == {"post /v1/orders", "put /v1/orders/{id_}"}


async def test_a_parameter_with_one_value_is_not_taken_twice(client: httpx.AsyncClient) -> None:
    twice = await client.get("/v1/orders", params=[("dish", "soup"), ("dish", "stew")])
    assert twice.status_code == 422
    assert twice.json()["detail"] == "query.dish: takes one value"


async def test_a_body_beyond_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    big = await client.post("/v1/orders", json=SOUP | {"dish": "x" * 300_000})
    assert big.status_code == 413


async def test_health_metrics_and_documents_are_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).json()["ready"] is True
    everything = (await client.get("/metrics")).text
    assert "parley_outbox_rows" in everything
    assert "parley_lag_messages" in everything
    chosen = (await client.get("/metrics", params={"name[]": ["parley_outbox_rows"]})).text
    assert "parley_outbox_rows" in chosen
    assert "parley_lag_messages" not in chosen
    assert "\nparley_clock_ahead_seconds 0.0\n" in everything, "the database has the same clock here"
    document = (await client.get("/openapi.json")).json()
    assert document["info"]["title"] == "Parley kitchen"
    order = document["paths"]["/v1/orders"]["post"]
    assert [each["name"] for each in order["parameters"]] == ["Idempotency-Key"]
    assert {"4XX", "503"} <= order["responses"].keys()


async def test_the_reference_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text, flags=re.DOTALL)
    named = re.findall(r"""(?:src=|href=|url: )["']([^"']+)["']""", page.text)
    assert len(named) == 4, "script, style, icon and the document"
    for each in named:
        found = await client.get(str(page.url.join(each)))
        assert (found.status_code, len(found.content) > 1000) == (200, True), each
    assert (await client.get("/redoc")).status_code == 404


async def test_a_background_task_that_keeps_failing_is_told_by_its_name(
    engines: Engines, namespace: str
) -> None:
    broken, came_back = True, 0
    looked_at = asyncio.Event()

    async def sender() -> None:
        if broken:
            await looked_at.wait()
            raise TypeError("a row that cannot be read")
        await service.stopping.wait()

    async def without_its_dependency() -> None:
        nonlocal came_back
        came_back += 1
        raise ConnectionRefusedError("down")

    def build(settings: ServiceSettings) -> Service:
        made = Service("kitchen", settings)
        made.calm_seconds = 0.05
        made.background("sender", sender)
        made.background("waiter", without_its_dependency)
        return made

    async with running(build, ServiceSettings, engines, namespace) as service:
        url = f"http://127.0.0.1:{service.port}"
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:

            async def says(status: int, failing: list[str]) -> bool:
                told = await client.get("/livez")
                return (told.status_code, told.json()["failing"]) == (status, failing)

            async def failures() -> str:
                gauge = {"name[]": ["parley_background_failures"]}
                return (await client.get("/metrics", params=gauge)).text

            assert await says(200, [])
            looked_at.set()
            await eventually(lambda: says(503, ["sender"]), "the sender to be told of")

            async def tried_again() -> bool:
                return came_back >= 3

            await eventually(tried_again, "the waiter to be tried again")
            shown = await failures()
            assert 'parley_background_failures{task="sender"} 0.0' not in shown
            assert 'parley_background_failures{task="waiter"} 0.0' in shown
            # It publishes nothing, and so no relay runs.
            assert 'task="relay"' not in shown
            waits = (await client.get("/metrics", params={"name[]": ["parley_dependency_waits_total"]})).text
            assert 'parley_dependency_waits_total{error="ConnectionRefusedError",waiting="waiter"}' in waits
            broken = False
            await eventually(lambda: says(200, []), "the sender to be well again")
            assert 'parley_background_failures{task="sender"} 0.0' in await failures()
