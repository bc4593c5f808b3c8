"""Nobody writes the counters: they follow from the ledger alone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from contracts.message import wire_headers
from contracts.stats import AttemptCounters, SetParent
from tests.stats.conftest import NOW, Line
from tests.stats.samples import interaction, name

COUNTERS = [*AttemptCounters.model_fields, "days_since_last_contact", "total", "channels"]


@pytest.mark.parametrize(
    "path", ["contacts/{id}/stats", "targets/contact/{id}/stats", "targets/contact/{id}/roll-up", "stats"]
)
async def test_what_shows_counters_takes_no_writes(line: Line, path: str) -> None:
    contact = name()
    await line.tell(interaction(contact))
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await line.http.request(method, f"/v1/{path.format(id=contact)}", json={"contact_count": 7})
        assert answer.status_code == 405, answer.text
    assert await line.counts(contact) == (0, 1)


async def test_no_request_of_any_route_may_carry_a_counter(line: Line) -> None:
    routes = (await line.http.get("/openapi.json")).json()["paths"]
    writing = [
        (method, re.sub(r"{.*?}", "contact", path))
        for path, methods in routes.items()
        for method, operation in methods.items()
        if "requestBody" in operation
    ]
    assert len(writing) >= 5
    for method, path in writing:
        for counter in COUNTERS:
            answer = await line.http.request(method, path, json={counter: 7})
            assert answer.status_code == 422, f"{method} {path}"
            assert f"{counter}: there is no such field" in answer.json()["detail"], answer.text


async def test_a_counter_in_a_message_is_nothing(line: Line) -> None:
    contact, account = name(), name("account")
    told = interaction(contact)
    command = SetParent(
        command_id=name(), target_id=contact, parent_type="account", parent_id=account, occurred_at=NOW
    )
    for message in (told, command):
        more: dict[str, Any] = dict.fromkeys(AttemptCounters.model_fields, 7)
        body = message.model_copy(update={}).model_dump_json(exclude_none=True)[:-1]
        extra = ",".join(f'"{field}":{value}' for field, value in more.items())
        await line.wire.publish_raw(
            message.wire.topic.name,
            f"{body},{extra}}}".encode(),
            message.key().encode(),
            wire_headers(message, "test", NOW.isoformat()),
        )
    await line.at_rest()
    assert await line.counts(contact) == (0, 1)
    assert not await line.differences()
