"""Every report equals a brute-force computation over the same messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.activities import ActivityChanged, ActivityCompleted, DispositionFlags
from contracts.campaigns import CampaignChanged, DispositionChanged
from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import ActivityKind, ActivityState, Mode, Source
from servicekit.metrics import Metrics
from servicekit.projection import Projection
from stats.domain.reports import quarter_of, stretches
from stats.use_cases.read_reports import Question, ReadReports
from stats.use_cases.record_activities import RecordActivities
from tests.engines import Engines
from tests.stats.conftest import Line
from tests.stats.parts import Parts, delivered, parts
from tests.stats.samples import THEN, interaction, name

ZONES = [ZoneInfo(key) for key in ("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")]
times = st.integers(0, 6 * 86_400_000 - 1).map(
    lambda milliseconds: datetime(2026, 3, 6, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)
dimensions = st.lists(
    st.sampled_from(["day", "campaign_id", "subject_id", "channel", "disposition", "agent", "source"]),
    unique=True,
    max_size=3,
)


@st.composite
def activities(draw: st.DrawFn) -> ActivityChanged:
    state = draw(st.sampled_from(ActivityState))
    created_at = draw(times)
    ended = state in ("completed", "failed", "purged")
    return ActivityChanged(
        activity_id=draw(st.sampled_from(["a1", "a2", "a3", "a4"])),  # type: ignore[arg-type]
        contact_id="c1",  # type: ignore[arg-type]
        kind=ActivityKind.CALL,
        mode=draw(st.sampled_from(Mode)),
        source=draw(st.sampled_from([Source.BATCH, Source.API])),
        subject_id=draw(st.sampled_from(["s1", "s2"])),  # type: ignore[arg-type]
        campaign_id=draw(st.sampled_from([None, "k1", "k2"])),  # type: ignore[arg-type]
        channel=draw(st.sampled_from([None, "sms"])),
        scheduled_at=draw(times),
        attempt_number=draw(st.integers(1, 12)),
        version=draw(st.integers(1, 5)),
        state=state,
        disposition=draw(st.sampled_from(["sold", "no-answer"])) if ended else None,
        created_at=created_at,
        created_by="test",
        started_at=draw(st.none() | times),
        completed_at=draw(times) if ended else None,
        completed_by=draw(st.sampled_from(["ann", "bob"])) if ended else None,
        changed_at=created_at + timedelta(hours=2),
    )


attempts = st.builds(
    InteractionRecorded,
    interaction_id=st.sampled_from(["m1", "m2", "m3"]),
    interaction_type=st.just("call"),
    version=st.integers(1, 3),
    contact_id=st.sampled_from("ab"),
    direction=st.sampled_from(["incoming", "outgoing", "unknown"]),
    occurred_at=times,
    subject_id=st.sampled_from(["s1", "s2"]),
    campaign_id=st.sampled_from([None, "k1", "k2"]),
    deleted=st.booleans(),
)


def brute_force(
    changes: Sequence[ActivityChanged], told: Sequence[InteractionRecorded], question: Question
) -> dict[tuple[Any, ...], Counter[str]]:
    newest: dict[str, Any] = {}
    messages: list[Any] = [*changes, *told]
    for m in messages:
        id_ = m.interaction_id if isinstance(m, InteractionRecorded) else m.activity_id
        if id_ not in newest or m.version > newest[id_].version:
            newest[id_] = m
    facts: list[tuple[datetime, dict[str, Any], dict[str, int]]] = []
    for m in newest.values():
        where = {"campaign_id": m.campaign_id, "subject_id": m.subject_id, "channel": m.channel}
        if isinstance(m, InteractionRecorded):
            if m.direction != "unknown" and not m.deleted:
                way = "attempts_in" if m.direction == "incoming" else "attempts_out"
                assert m.occurred_at is not None
                facts.append((m.occurred_at, where | {"channel": "call"}, {way: 1, "attempts": 1}))
            continue
        where["source"] = m.source
        facts.append((m.created_at, where, {"created": 1}))
        how = m.state
        if how == "purged" and m.completed_at and m.disposition:
            how = "completed"
        if how not in ("completed", "failed", "cancelled", "expired", "purged"):
            continue
        at = m.completed_at or m.changed_at
        by = (m.completed_by or m.assigned_to or m.owner) if m.mode == Mode.MANUAL else None
        where = where | {"disposition": m.disposition, "agent": by}
        numbers = {str(how): 1}
        if how == "completed":
            spent = at - (m.started_at or m.created_at)
            late = (m.started_at or at) - m.scheduled_at > timedelta(seconds=900)
            numbers |= {"duration_ms": max(0, round(spent / timedelta(milliseconds=1)))}
            numbers |= {"late" if late else "on_time": 1}
            sold = m.disposition == "sold"
            numbers |= {"success": 1, "reached": 1} if sold else {}
        facts.append((at, where, numbers))
    sums: dict[tuple[Any, ...], Counter[str]] = {}
    for at, where, numbers in facts:
        day = at.astimezone(question.zone).date()
        if not question.first <= day <= question.last:
            continue
        if any(where.get(name) not in values for name, values in (question.filters or {}).items()):
            continue
        group = tuple(day.isoformat() if name == "day" else where.get(name) for name in question.group_by)
        sums.setdefault(group, Counter()).update(numbers)
    return sums


@pytest.fixture(scope="session")
async def made(engines: Engines) -> Parts:
    made = await parts(engines, "statsreports")
    for projection in ("campaigns", "dispositions"):
        await made.mongo[projection].delete_many({})
    await made.mongo["dispositions"].insert_one(
        {"_id": "d1", "version": 1, "code": "sold", "success": True, "human_contact": True}
    )
    return made


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(
    st.lists(activities(), max_size=10),
    st.lists(attempts, max_size=8),
    st.sampled_from(ZONES),
    st.dates(date(2026, 3, 6), date(2026, 3, 11)),
    st.integers(0, 4),
    dimensions,
    st.dictionaries(st.just("campaign_id"), st.just(["k1"])),
)
async def test_a_report_equals_a_count_by_hand(
    made: Parts,
    changes: list[ActivityChanged],
    told: list[InteractionRecorded],
    zone: ZoneInfo,
    first: date,
    days: int,
    group_by: list[Any],
    filters: dict[str, list[str]],
) -> None:
    await made.clear()
    await made.mongo["activities"].delete_many({})
    made.clock.at = datetime(2026, 4, 1, tzinfo=UTC)
    by_version: dict[Any, Any] = {}
    changes = [by_version.setdefault((m.activity_id, m.version), m) for m in changes]
    told = [by_version.setdefault((m.interaction_id, m.version), m) for m in told]
    record = RecordActivities("activities", made.mongo, "one", Metrics())
    for start in range(0, len(changes), 3):
        await record([delivered(message) for message in changes[start : start + 3]])
    if told:
        await made.tell(told)
    reports = ReadReports(
        made.mongo, made.clock, Projection(made.mongo, "campaigns"), Projection(made.mongo, "dispositions")
    )
    question = Question(first, first + timedelta(days=days), zone, group_by, filters)
    rows = await reports.activity(question)
    answered = {}
    for row in rows:
        numbers = Counter({measure: value for measure, value in row.items() if measure not in group_by})
        del numbers["mean_duration_ms"]
        answered[tuple(row[each] for each in group_by)] = +numbers
    expected = {group: +numbers for group, numbers in brute_force(changes, told, question).items()}
    assert answered == {group: numbers for group, numbers in expected.items() if numbers}


@given(times, st.sampled_from([*ZONES, ZoneInfo("Africa/Cairo"), ZoneInfo("America/Havana")]))
def test_a_quarter_lies_in_the_local_day_of_each_of_its_moments(at: datetime, zone: ZoneInfo) -> None:
    day, quarter = quarter_of(at)
    (here,) = [cut for cut in stretches(day, zone) if cut.first <= quarter < cut.end]
    assert here.date == at.astimezone(zone).date()
    assert sum(cut.end - cut.first for cut in stretches(day, zone)) == 96


async def test_a_completed_activity_is_in_every_report(line: Line) -> None:
    campaign, activity, contact = name("campaign"), name("activity"), name()
    spec: dict[str, Any] = {
        "activity_id": activity,
        "contact_id": contact,
        "kind": "call",
        "mode": "manual",
        "source": "batch",
        "subject_id": "s1",
        "campaign_id": campaign,
        "channel": "voice",
        "scheduled_at": THEN,
        "created_at": THEN,
    }
    await line.tell(
        CampaignChanged(
            campaign_id=campaign,  # type: ignore[arg-type]
            version=1,
            code=campaign,
            name="Spring",
            channel="voice",
            group=f"group of {campaign}",
        ),
        DispositionChanged(
            disposition_id="sold-id", version=1, code="sold-it", name="Sold", success=True, human_contact=True
        ),
        ActivityChanged.model_validate(
            spec
            | {
                "version": 3,
                "state": "completed",
                "disposition": "sold-it",
                "created_by": "loader",
                "started_at": THEN + timedelta(minutes=5),
                "completed_at": THEN + timedelta(minutes=9),
                "completed_by": "=ann",
                "changed_at": THEN + timedelta(minutes=9),
            }
        ),
        ActivityCompleted.model_validate(
            spec
            | {
                "disposition": DispositionFlags(code="sold-it", human_contact=True),
                "contact_time_zone": "America/New_York",
                "completed_at": THEN + timedelta(minutes=9),
                "completed_by": "=ann",
            }
        ),
        interaction(contact, interaction_type="call", channel="voice", campaign_id=campaign),
    )
    asked = {"first": "2026-03-01", "last": "2026-03-01", "campaign_group": f"group of {campaign}"}
    answer = await line.http.get("/v1/reports/activity", params=asked | {"group_by": "campaign_group"})
    (row,) = answer.json()["rows"]
    assert row["campaign_group"] == f"group of {campaign}"
    assert (row["created"], row["completed"], row["attempts"], row["success"], row["reached"]) == (1,) * 5
    assert (row["mean_duration_ms"], row["on_time"]) == (240_000, 1)
    answer = await line.http.get("/v1/reports/histograms/hours", params=asked)
    reached = [hour for hour in answer.json()["rows"] if hour["reached"]]
    assert reached == [{"weekday": 7, "hour": 4, "completed": 1, "reached": 1}]
    answer = await line.http.get("/v1/reports/histograms/durations", params=asked)
    assert {bar["bar"]: bar["completed"] for bar in answer.json()["rows"]}["le_300"] == 1
    answer = await line.http.get(
        "/v1/reports/activity", params=asked | {"group_by": "agent", "format": "csv"}
    )
    assert answer.headers["content-type"].startswith("text/csv")
    assert "\r\n'=ann,0,1," in answer.text, "a formula is made harmless"
    answer = await line.http.get("/v1/reports/activity", params=asked | {"group_by": "colour"})
    assert answer.status_code == 422
    assert "'colour' is none of day, campaign_id" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("reports/histograms/hours", {"first": "9999-12-31", "last": "9999-12-31"}),
        ("reports/activity", {"first": "0001-01-01", "last": "0001-01-01", "zone": "Asia/Kathmandu"}),
        ("stats", {"contacted_since": "9999-12-31T23:59:59-12:00"}),
        ("stats", {"not_contacted_since": "0001-01-01T00:00:00+14:00"}),
        ("stats", {"contacted_since": "1772366400"}),
    ],
)
async def test_the_edges_of_the_calendar_are_refused(line: Line, path: str, asked: dict[str, str]) -> None:
    answer = await line.http.get(f"/v1/{path}", params=asked)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:parley:problem:invalid-request")


async def test_the_last_day_there_is_can_be_reported(line: Line) -> None:
    asked = {"first": "8999-12-31", "last": "8999-12-31", "zone": "Pacific/Kiritimati"}
    answer = await line.http.get("/v1/reports/histograms/hours", params=asked)
    assert answer.status_code == 200, answer.text
