"""The statistics block, lists and totals over REST."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from contracts.stats import AttemptCounters
from servicekit.pages import cursor_of
from stats.use_cases.read_counters import block_of, days_since
from tests.stats.conftest import Line
from tests.stats.samples import contact_changed, hours, interaction, name

moments = st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def test_days_are_counted_in_the_zone_of_who_looks() -> None:
    at, now = datetime(2026, 3, 9, 23, 30, tzinfo=UTC), datetime(2026, 3, 10, 0, 30, tzinfo=UTC)
    assert days_since(at, ZoneInfo("UTC"), now) == 1
    assert days_since(at, ZoneInfo("Asia/Tokyo"), now) == 0
    assert days_since(None, ZoneInfo("UTC"), now) is None


@given(moments, moments)
def test_days_since_a_contact_are_never_negative(at: datetime, now: datetime) -> None:
    days = days_since(at, ZoneInfo("Pacific/Apia"), now)
    assert days is not None
    assert days >= 0


def test_at_equal_times_the_arrow_is_incoming() -> None:
    at = hours(1)
    counters = AttemptCounters(
        contact_count=2,
        contact_count_in=1,
        contact_count_out=1,
        last_contact_at=at,
        last_contact_at_in=at,
        last_contact_at_out=at,
    )
    block = block_of(counters, ZoneInfo("Europe/Berlin"))
    assert block.direction == "incoming"
    assert block.headline == "Times contacted: 2"
    assert block.last_contacted is not None
    assert block.last_contacted.isoformat() == "2026-03-01T11:00:00+01:00"


async def test_somebody_nobody_heard_of_was_never_contacted(line: Line) -> None:
    told = await line.statistics(name())
    assert told["version"] == 0
    assert told["total"]["contact_count"] == 0
    assert told["total"]["last_contact_at"] is None
    assert told["total"]["days_since_last_contact"] is None
    assert told["block"] == {"headline": "Not contacted yet", "last_contacted": None, "direction": None}


async def test_an_unknown_zone_is_a_problem_document(line: Line) -> None:
    answer = await line.http.get(f"/v1/contacts/{name()}/stats", params={"zone": "Europe/Atlantis"})
    assert answer.status_code == 422
    assert "'Europe/Atlantis' is not an IANA time zone name" in answer.json()["detail"]


async def test_an_unchanged_block_is_not_sent_again(line: Line) -> None:
    contact = name()
    await line.tell(interaction(contact))
    path = f"/v1/contacts/{contact}/stats"
    tag = (await line.http.get(path)).headers["etag"]
    assert (await line.http.get(path, headers={"If-None-Match": tag})).status_code == 304
    await line.tell(interaction(contact))
    assert (await line.http.get(path, headers={"If-None-Match": tag})).status_code == 200


async def test_lists_sort_filter_and_page(line: Line) -> None:
    prefix = name("lead")
    ids = [f"{prefix}-{number}" for number in range(7)]
    await line.tell(
        *(
            interaction(
                name(), targets=[{"type": "lead", "id": id_}], occurred_at=hours(number), direction="incoming"
            )
            for number, id_ in enumerate(ids)
            for _ in range(number)
        ),
        interaction(name(), targets=[{"type": "lead", "id": ids[0]}], direction="unknown"),
    )

    async def listed(**asked: Any) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            params: dict[str, Any] = (
                {"target_type": "lead", "limit": 2} | asked | ({"cursor": cursor} if cursor else {})
            )
            answer = await line.http.get("/v1/stats", params=params)
            assert answer.status_code == 200, answer.text
            found += [item["target_id"] for item in answer.json()["items"]]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return [id_ for id_ in found if id_.startswith(f"{prefix}-")]

    contacted = ids[1:]
    assert await listed(sort="-contact_count") == list(reversed(contacted))
    assert await listed(sort="last_contact_at", limit=3) == contacted
    assert await listed(sort="contact_count", contact_count_min=3, contact_count_max=4) == ids[3:5]
    assert await listed(sort="contact_count", contacted_since=hours(5).isoformat()) == ids[5:]
    not_ours = (cursor_of(), cursor_of("not a time", "x"), cursor_of("2026-01-05T10:00:00", "x"))
    for forged in ("!", "bnVsbA==", *not_ours):
        answer = await line.http.get("/v1/stats", params={"cursor": forged})
        assert answer.status_code == 422
    for beyond in ({"contact_count_min": 2**63}, {"sort": "contact_count", "cursor": cursor_of(2**63, "x")}):
        assert (await line.http.get("/v1/stats", params=beyond)).status_code == 422
    exactly: dict[str, Any] = {
        "target_type": "lead",
        "sort": "contact_count",
        "contact_count_min": 3,
        "limit": 1000,
    }
    whole = (await line.http.get("/v1/stats", params=exactly)).json()["items"]
    page = await line.http.get("/v1/stats", params=exactly | {"limit": len(whole)})
    assert (len(page.json()["items"]), page.json()["next_cursor"]) == (len(whole), None)


async def test_contacts_are_listed_as_never_contacted_from_the_start(line: Line) -> None:
    contact = name("fresh")
    await line.tell(contact_changed(contact))
    for sort in ("last_contact_at", "-last_contact_at"):
        found: list[str] = []
        params = {"never_contacted": True, "sort": sort, "limit": 2}
        while True:
            page = (await line.http.get("/v1/stats", params=params)).json()
            found += [item["target_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert contact in found
        assert len(found) == len(set(found))


async def test_totals_add_up_from_both_sides(line: Line) -> None:
    contact = name()
    await line.tell(interaction(contact), interaction(contact, direction="incoming"))
    totals = (await line.http.get("/v1/totals")).json()
    assert totals["equal"]
    contacts = totals["target_types"]["contact"]
    assert contacts["contact_count"] == contacts["ledger_in"] + contacts["ledger_out"] >= 2
    assert totals["ledger_rows"] >= totals["interactions"]


async def test_the_ledger_is_read_after_an_erasure(line: Line) -> None:
    contact, account, campaign = name(), name("account"), name("campaign")
    about = [{"id": contact}, {"type": "account", "id": account}]
    alone, shared = interaction(contact, campaign_id=campaign), interaction(contact, targets=about)
    await line.tell(alone, shared)
    answer = await line.http.delete(f"/v1/targets/contact/{contact}")
    assert answer.status_code == 204, answer.text
    rows: dict[str, dict[str, Any]] = {}
    cursor = None
    while cursor is not None or not rows:
        answer = await line.http.get("/v1/ledger", params={"cursor": cursor} if cursor else {})
        assert answer.status_code == 200, answer.text
        rows |= {row["interaction_id"]: row for row in answer.json()["items"]}
        cursor = answer.json()["next_cursor"]
    nobodys, accounts = rows[alone.interaction_id], rows[shared.interaction_id]
    assert (nobodys["erased"], nobodys["target_id"], nobodys["campaign_id"]) == (True, None, campaign)
    assert (accounts["erased"], accounts["target_id"]) == (False, account)


async def test_a_type_of_targets_without_an_id_is_no_target_of_the_ledger(line: Line) -> None:
    answer = await line.http.get("/v1/ledger", params={"target_type": "contact"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:parley:problem:incomplete-target")
    assert answer.json()["detail"] == "A target_type needs a target_id."
    contact = name()
    await line.tell(interaction(contact))
    for asked in ({"target_id": contact}, {"target_type": "contact", "target_id": contact}):
        (row,) = (await line.http.get("/v1/ledger", params=asked)).json()["items"]
        assert row["target_id"] == contact
