"""Every verdict of the policy gate is in the ledger once, and the counts of them are exact."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.activities import ActivityDecided
from contracts.stats import MergeTargets
from servicekit.failpoints import FAILPOINTS
from servicekit.projection import Projection
from stats.use_cases.read_decisions import DecisionPlace, ReadDecisions
from stats.use_cases.read_reports import Question, ReadReports
from tests.engines import Engines
from tests.kit import eventually, failed_where_told
from tests.stats.conftest import NOW, Line
from tests.stats.parts import Parts, delivered, parts
from tests.stats.samples import contact_changed, decided, hours, name

DAY = {"first": "2026-03-01", "last": "2026-03-01"}


async def listed(line: Line, **asked: Any) -> list[dict[str, Any]]:
    """All pages of one row each."""
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = DAY | {"limit": 1} | asked
    while True:
        answer = await line.http.get("/v1/reports/decisions", params=params)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found
        params["cursor"] = answer.json()["next_cursor"]


async def test_why_somebody_was_not_contacted_is_told_the_newest_first(line: Line) -> None:
    contact, campaign = name(), name("campaign")
    waits = decided(
        contact,
        campaign_id=campaign,
        verdict="defer",
        reason="outside_window",
        until=hours(12),
        inputs={"zone": "America/New_York", "windows": ["08:00-21:00"]},
    )
    told = [
        waits,
        decided(contact, campaign_id=campaign, decided_at=hours(2)),
        decided(contact, campaign_id=campaign, decided_at=hours(2), verdict="allow", reason="allowed"),
        decided(name(), campaign_id=campaign, decided_at=hours(3)),
    ]
    await line.tell(*told, *told)
    rows = await listed(line, contact_id=contact)
    assert len(rows) == 3
    assert rows[-1] == {
        "decided_at": "2026-03-01T09:00:00Z",
        "contact_id": contact,
        "activity_id": waits.activity_id,
        "campaign_id": campaign,
        "channel": "sms",
        "verdict": "defer",
        "reason": "outside_window",
        "until": "2026-03-01T21:00:00Z",
        "inputs": {"zone": "America/New_York", "windows": ["08:00-21:00"]},
    }
    assert len(await listed(line, campaign_id=campaign)) == 4
    assert len(await listed(line, campaign_id=campaign, verdict=["allow", "defer"])) == 2
    assert len(await listed(line, contact_id=contact, reason="opted_out")) == 1
    assert len(await listed(line, activity_id=waits.activity_id)) == 1
    assert await listed(line, campaign_id=campaign, channel="voice") == []
    answer = await line.http.get("/v1/reports/decisions/counts", params=DAY | {"campaign_id": campaign})
    assert answer.json()["rows"] == [
        {"verdict": "allow", "reason": "allowed", "decisions": 1},
        {"verdict": "defer", "reason": "outside_window", "decisions": 1},
        {"verdict": "deny", "reason": "opted_out", "decisions": 2},
    ]


async def test_days_are_those_of_who_looks(line: Line) -> None:
    contact = name()
    await line.tell(decided(contact, decided_at=datetime(2026, 3, 1, 20, 0, tzinfo=UTC)))
    assert len(await listed(line, contact_id=contact)) == 1
    assert await listed(line, contact_id=contact, zone="Asia/Tokyo") == []
    (row,) = await listed(line, contact_id=contact, zone="Asia/Tokyo", first="2026-03-02", last="2026-03-02")
    assert row["decided_at"] == "2026-03-02T05:00:00+09:00"


async def test_a_spreadsheet_gets_all_of_it_and_no_formula(line: Line) -> None:
    contact = name()
    await line.tell(*(decided(contact, reason=f"={number}") for number in range(3)))
    answer = await line.http.get(
        "/v1/reports/decisions", params=DAY | {"contact_id": contact, "format": "csv", "limit": 1}
    )
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert {row["reason"] for row in rows} == {"'=0", "'=1", "'=2"}
    assert {row["contact_id"] for row in rows} == {contact}
    answer = await line.http.get("/v1/reports/decisions/counts", params=DAY | {"group_by": "colour"})
    assert answer.status_code == 422
    assert "'colour' is none of day, campaign_id" in answer.json()["detail"]
    answer = await line.http.get("/v1/reports/decisions", params=DAY | {"verdict": "perhaps"})
    assert answer.status_code == 422


async def test_verdicts_follow_a_merge_and_forget_the_erased(line: Line) -> None:
    loser, survivor, campaign = name(), name(), name("campaign")
    early, late = (decided(loser, campaign_id=campaign, inputs={"address": "x"}) for _ in range(2))
    await line.tell(contact_changed(loser), contact_changed(survivor), early)
    await line.tell(MergeTargets(command_id=name(), target_id=loser, survivor_id=survivor, occurred_at=NOW))
    await line.tell(late)
    assert await listed(line, contact_id=loser) == []
    assert len(await listed(line, contact_id=survivor)) == 2

    await line.wire.publish_raw("contact-changed", None, key=survivor.encode())

    async def forgotten() -> bool:
        return not await listed(line, contact_id=survivor)

    await eventually(forgotten, "the contact to be erased")
    await line.tell(decided(survivor, campaign_id=campaign), early, late)
    rows = await listed(line, campaign_id=campaign)
    assert len(rows) == 3
    for row in rows:
        assert (row["contact_id"], row["activity_id"], row["inputs"]) == (None, None, {})
    kept = [row async for row in line.service.mongo["decisions"].find({"campaign_id": campaign})]
    assert survivor not in str(kept)
    assert early.activity_id not in str(kept)
    answer = await line.http.get("/v1/reports/decisions/counts", params=DAY | {"campaign_id": campaign})
    assert [row["decisions"] for row in answer.json()["rows"]] == [3], "the totals stay"


@pytest.mark.parametrize(
    "place",
    [
        "stats.decisions.before_commit",
        "stats.decisions.before_following",
        "stats.record-decisions.before_offset_commit",
    ],
)
async def test_a_fault_anywhere_loses_and_doubles_no_verdict(line: Line, place: str) -> None:
    contact, campaign = name(), name("campaign")
    FAILPOINTS.arm(f"{place}=error@2")
    try:
        for _ in range(3):
            await line.tell(decided(contact, campaign_id=campaign))
        await failed_where_told()
    finally:
        FAILPOINTS.disarm()
    await line.rewind()
    assert len(await listed(line, contact_id=contact)) == 3
    answer = await line.http.get("/v1/reports/decisions/counts", params=DAY | {"campaign_id": campaign})
    assert [row["decisions"] for row in answer.json()["rows"]] == [3]


times = st.integers(0, 4 * 86_400_000 - 1).map(
    lambda milliseconds: datetime(2026, 3, 6, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)
verdicts = st.builds(
    decided,
    st.sampled_from("ab"),
    activity_version=st.integers(1, 3),
    campaign_id=st.sampled_from([None, "k1", "k2"]),
    channel=st.sampled_from([None, "sms"]),
    verdict=st.sampled_from(["deny", "defer"]),
    reason=st.sampled_from(["opted_out", "cap_reached"]),
    decided_at=times,
)
GROUPS = {"k1": "north", "k2": "south"}


@pytest.fixture(scope="session")
async def made(engines: Engines) -> Parts:
    made = await parts(engines, "statsdecisions")
    await made.mongo["campaigns"].delete_many({})
    await made.mongo["campaigns"].insert_many([{"_id": id_, "group": group} for id_, group in GROUPS.items()])
    return made


def by_hand(
    told: Sequence[ActivityDecided], question: Question
) -> list[tuple[ActivityDecided, dict[str, Any]]]:
    """The verdicts that the question is about, each with what it can be grouped by."""
    found = []
    for m in told:
        day = m.decided_at.astimezone(question.zone).date()
        facts = m.model_dump(mode="json") | {
            "day": day.isoformat(),
            "campaign_group": GROUPS.get(m.campaign_id or ""),
        }
        asked = (question.filters or {}).items()
        if question.first <= day <= question.last and all(facts[name] in values for name, values in asked):
            found.append((m, facts))
    return found


@settings(max_examples=15, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.lists(verdicts, max_size=12),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]).map(ZoneInfo),
    st.dates(date(2026, 3, 5), date(2026, 3, 9)),
    st.integers(0, 3),
    st.lists(
        st.sampled_from(["day", "campaign_id", "campaign_group", "channel", "verdict", "reason"]),
        unique=True,
        max_size=3,
    ),
    st.fixed_dictionaries(
        {}, optional={"campaign_group": st.just(["north"]), "reason": st.just(["opted_out"])}
    ),
)
async def test_the_report_equals_a_count_by_hand(
    made: Parts,
    told: list[ActivityDecided],
    zone: ZoneInfo,
    first: date,
    days: int,
    group_by: list[str],
    filters: dict[str, list[str]],
) -> None:
    for collection in ("decisions", "decision_cells"):
        await made.mongo[collection].delete_many({})
    for start in range(0, len(told), 5):
        await made.books.record_decisions([delivered(message) for message in told[start : start + 5]])
    await made.books.record_decisions([delivered(message) for message in told[2:]])
    reports = ReadReports(
        made.mongo, made.clock, Projection(made.mongo, "campaigns"), Projection(made.mongo, "dispositions")
    )
    read = ReadDecisions(made.mongo, reports)
    question = Question(first, first + timedelta(days=days), zone, group_by, filters)
    expected = by_hand(told, question)

    counted = {
        tuple(row[each] for each in group_by): row["decisions"] for row in await read.counted(question)
    }
    assert counted == Counter(tuple(facts[each] for each in group_by) for _, facts in expected)

    pages: list[Any] = []
    while page := await read.page(
        question, DecisionPlace(pages[-1]["decided_at"], pages[-1]["_id"]) if pages else None, 3
    ):
        pages += page
    assert [row["decided_at"] for row in pages] == sorted((m.decided_at for m, _ in expected), reverse=True)
    assert {row["activity_id"] for row in pages} == {m.activity_id for m, _ in expected}
    assert [row["_id"] async for row in read.all(question)] == [row["_id"] for row in pages]
