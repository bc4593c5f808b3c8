"""Recounting: names exactly what is wrong, mends it, and touches nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from contracts.stats import Recalculate
from tests.kit import eventually
from tests.stats.conftest import NOW, Line
from tests.stats.samples import hours, interaction, name


async def finished(line: Line, run_id: str) -> dict[str, Any]:
    async def over() -> dict[str, Any] | None:
        answer = await line.http.get(f"/v1/recalculations/{run_id}")
        if answer.status_code == 404:
            return None
        run: dict[str, Any] = answer.json()
        return run if run["state"] == "finished" else None

    run: dict[str, Any] = await eventually(over, "the recalculation to finish")
    return run


async def recalculate(line: Line, **asked: Any) -> dict[str, Any]:
    answer = await line.http.post("/v1/recalculations", json=asked)
    assert answer.status_code == 202, answer.text
    return await finished(line, answer.json()["id"])


async def found(line: Line, run: dict[str, Any]) -> dict[str, int]:
    answer = await line.http.get(f"/v1/recalculations/{run['id']}/differences")
    return {item["target_id"]: item["count_off_by"] for item in answer.json()["items"]}


async def corrupt(line: Line, contact: str, **fields: Any) -> None:
    await line.service.mongo["targets"].update_one({"_id": f"contact/{contact}"}, {"$set": fields})


async def test_a_dry_run_names_exactly_what_is_corrupted_and_a_run_mends_it(line: Line) -> None:
    right, many, dated, lost = name(), name(), name(), name()
    await line.tell(*(interaction(contact) for contact in (right, many, dated, lost)))
    before = {row["_id"]: row async for row in line.service.mongo["targets"].find()}
    await corrupt(line, many, **{"channels.sms.out": 7})
    await corrupt(line, dated, **{"channels.sms.last_out": hours(9)})
    await line.service.mongo["targets"].delete_one({"_id": f"contact/{lost}"})
    dry = await recalculate(line, dry_run=True)
    assert (dry["outcome"], dry["written"]) == ("different", 0)
    assert await found(line, dry) == {many: 6, dated: 0, lost: -1}
    assert await line.counts(many) == (0, 7)
    run = await recalculate(line)
    assert (run["outcome"], run["different"], run["written"]) == ("written", 3, 3)
    await line.at_rest()
    assert not await line.differences()
    assert await line.counts(lost) == (0, 1)
    assert (await line.statistics(lost))["version"] > before[f"contact/{lost}"]["version"]
    after = {row["_id"]: row async for row in line.service.mongo["targets"].find()}
    assert after[f"contact/{right}"] == before[f"contact/{right}"]
    assert (await recalculate(line))["outcome"] == "equal"


async def test_columns_of_lists_are_mended_too(line: Line) -> None:
    contact = name()
    await line.tell(interaction(contact))
    await corrupt(line, contact, **{"listed.contact_count": 40})
    run = await recalculate(line, target_type="contact", target_id=contact)
    assert (run["outcome"], run["looked_at"]) == ("written", 1)
    await line.at_rest()
    document = await line.service.mongo["targets"].find_one({"_id": f"contact/{contact}"})
    assert document["listed"]["contact_count"] == 1


async def test_a_run_by_command_looks_only_at_its_scope(line: Line) -> None:
    inside, outside = name("lead"), name("lead")
    await line.tell(
        interaction(name(), targets=[{"type": "lead", "id": inside}], occurred_at=hours(100)),
        interaction(name(), targets=[{"type": "lead", "id": outside}]),
    )
    for lead in (inside, outside):
        await line.service.mongo["targets"].update_one(
            {"_id": f"lead/{lead}"}, {"$set": {"channels.sms.out": 3}}
        )
    run_id = name("run")
    await line.tell(
        Recalculate(
            command_id=run_id, target_type="lead", contacted_from=hours(99), dry_run=True, occurred_at=NOW
        )
    )
    run = await finished(line, run_id)
    assert await found(line, run) == {inside: 2}
    assert (await recalculate(line, target_type="lead"))["written"] == 2


async def test_a_run_can_be_paused_and_resumed(line: Line) -> None:
    await line.tell(*(interaction(name()) for _ in range(5)))
    answer = await line.http.post("/v1/recalculations", json={"targets_per_second": 2})
    run_id = answer.json()["id"]
    answer = await line.http.post(f"/v1/recalculations/{run_id}/pause")
    assert answer.json()["state"] == "paused"
    assert (await line.http.post(f"/v1/recalculations/{run_id}/pause")).status_code == 409
    assert (await line.http.post(f"/v1/recalculations/{run_id}/resume")).json()["state"] == "running"
    assert (await line.http.post(f"/v1/recalculations/{run_id}/cancel")).json()["state"] == "cancelled"
    assert (await line.http.get("/v1/recalculations/nothing")).status_code == 404


@pytest.mark.parametrize(
    "asked",
    [
        {"target_id": "c"},
        {"target_type": "An Account"},
        {"contacted_from": "2026-03-02T00:00:00Z", "contacted_to": "2026-03-01T00:00:00Z"},
    ],
)
async def test_a_scope_that_makes_no_sense_is_refused(line: Line, asked: dict[str, str]) -> None:
    answer = await line.http.post("/v1/recalculations", json=asked)
    assert answer.status_code == 422


async def test_one_target_without_its_type_is_not_everything(line: Line) -> None:
    run = name()
    await line.tell(Recalculate(command_id=run, target_id="c", occurred_at=NOW))
    (letter,) = [
        letter
        for letter in await line.wire.dead_letters("stats-commands")
        if letter["dlq_detail"] == "A target_id needs a target_type."
    ]
    assert letter["dlq_reason"] == "refused"
    assert (await line.http.get(f"/v1/recalculations/{run}")).status_code == 404


async def test_a_slow_run_holds_up_no_other_and_can_be_cancelled(line: Line) -> None:
    await line.tell(*(interaction(name()) for _ in range(3)))
    slow = (await line.http.post("/v1/recalculations", json={"targets_per_second": 0.001})).json()["id"]
    assert (await recalculate(line))["outcome"] == "equal"
    run = (await line.http.get(f"/v1/recalculations/{slow}")).json()
    assert (run["state"], run["looked_at"]) == ("running", 1)
    answer = await line.http.post(f"/v1/recalculations/{slow}/cancel")
    assert answer.json()["state"] == "cancelled"


def parley(line: Line, *command: str) -> tuple[int, dict[str, Any]]:
    """What the command line ends with, and what it prints."""
    against = f"stats=http://127.0.0.1:{line.service.port}"
    called = [sys.executable, "-m", "cli", *command, "--against", against, "--json"]
    done = subprocess.run(called, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout)


async def test_the_command_line_ends_with_zero_only_if_nothing_is_left_to_mend(line: Line) -> None:
    right, wrong = name("account"), name("account")
    await line.tell(
        interaction(name(), targets=[{"type": "account", "id": right}, {"type": "account", "id": wrong}])
    )
    await line.service.mongo["targets"].update_one(
        {"_id": f"account/{wrong}"}, {"$set": {"channels.sms.out": 5}}
    )
    recalculation = ("stats", "recalculate", "--target-type", "account")
    code, told = await asyncio.to_thread(parley, line, *recalculation, "--dry-run")
    assert code == 1
    assert [(each["target_id"], each["count_off_by"]) for each in told["differences"]] == [(wrong, 4)]
    code, told = await asyncio.to_thread(parley, line, *recalculation)
    assert (code, told["outcome"], told["written"]) == (0, "written", 1)
    await line.at_rest()
    code, told = await asyncio.to_thread(parley, line, *recalculation, "--dry-run")
    assert (code, told["outcome"], told["differences"]) == (0, "equal", [])
