"""Every report equals a brute-force computation over the same messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.activities import ActivityChanged, ActivityCompleted, DispositionFlags
from contracts.campaigns import CampaignChanged, DispositionChanged
from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import ActivityKind, ActivityState, Mode, Source
from servicekit.metrics import Metrics
from servicekit.projection import Projection
from stats.domain.reports import quarter_of, stretches
from stats.use_cases.read_reports import OpenQuestion, Question, ReadReports
from stats.use_cases.record_activities import RecordActivities
from tests.engines import Engines
from tests.stats.conftest import Line
from tests.stats.parts import Parts, delivered, parts
from tests.stats.samples import THEN, interaction, name

IDS = [f"a{number}" for number in range(8)]
ZONES = [ZoneInfo(key) for key in ("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")]
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
times = st.integers(0, 3 * 86_400_000 - 1).map(
    lambda milliseconds: datetime(2026, 3, 7, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)
"""Around the night in which New York loses an hour."""
dimensions = st.lists(
    st.sampled_from(
        [
            "day",
            "campaign_id",
            "campaign_group",
            "subject_id",
            "channel",
            "disposition",
            "agent",
            "source",
            "status",
        ]
    ),
    unique=True,
    max_size=3,
)


@st.composite
def activities(draw: st.DrawFn) -> ActivityChanged:
    state = draw(st.sampled_from([*ActivityState, *(ActivityState.COMPLETED,) * 4]))
    created_at = draw(times)
    ended = state in ("completed", "failed", "purged")
    return ActivityChanged(
        activity_id=draw(st.sampled_from(IDS)),  # type: ignore[arg-type]
        contact_id="c1",  # type: ignore[arg-type]
        kind=ActivityKind.CALL,
        mode=draw(st.sampled_from(Mode)),
        source=draw(st.sampled_from([Source.BATCH, Source.API])),
        subject_id=draw(st.sampled_from(["s1", "s2"])),  # type: ignore[arg-type]
        campaign_id=draw(st.sampled_from([None, "k1", "k2", "k3"])),  # type: ignore[arg-type]
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
    campaign_id=st.sampled_from([None, "k1", "k2", "k3"]),
    deleted=st.booleans(),
)


@st.composite
def completions(draw: st.DrawFn) -> ActivityCompleted:
    return ActivityCompleted(
        activity_id=draw(st.sampled_from(IDS)),  # type: ignore[arg-type]
        contact_id="c1",  # type: ignore[arg-type]
        kind=ActivityKind.CALL,
        mode=Mode.MANUAL,
        source=Source.API,
        subject_id=draw(st.sampled_from(["s1", "s2"])),  # type: ignore[arg-type]
        campaign_id=draw(st.sampled_from([None, "k1", "k2", "k3"])),  # type: ignore[arg-type]
        channel=draw(st.sampled_from([None, "sms"])),
        scheduled_at=THEN,
        created_at=THEN,
        disposition=DispositionFlags(code="sold", human_contact=draw(st.booleans())),
        contact_time_zone=draw(st.sampled_from([None, "America/New_York", "Asia/Kathmandu"])),
        completed_at=draw(times),
        completed_by="ann",
    )


Fact = tuple[datetime, dict[str, Any], Counter[Any]]
"""When, where, and what it adds to reports (by their names) and to histograms (by their bars)."""


def facts_of_activity(m: ActivityChanged) -> Iterator[Fact]:
    where = {
        "campaign_id": m.campaign_id,
        "campaign_group": GROUPS.get(m.campaign_id or ""),
        "subject_id": m.subject_id,
        "channel": m.channel,
        "source": m.source,
    }
    how = "completed" if m.state == "purged" and m.completed_at and m.disposition else str(m.state)
    ended = how in ("completed", "failed", "cancelled", "expired", "purged")
    where["status"] = how if ended else "open"
    yield m.created_at, where, Counter(created=1)
    if not ended:
        return
    at = m.completed_at or m.changed_at
    by = (m.completed_by or m.assigned_to or m.owner) if m.mode == Mode.MANUAL else None
    numbers: Counter[Any] = Counter({how: 1})
    if how == "completed":
        spent = max(timedelta(0), at - (m.started_at or m.created_at))
        bar = next((f"le_{s}" for s in BARS if spent <= timedelta(seconds=s)), "longer")
        late = (m.started_at or at) - m.scheduled_at > timedelta(seconds=900)
        numbers |= {"duration_ms": round(spent / timedelta(milliseconds=1)), "late" if late else "on_time": 1}
        numbers |= {"success": 1, "reached": 1} if m.disposition == "sold" else {}
        numbers |= {("durations", bar): 1, ("attempts", min(m.attempt_number, 10)): 1}
    yield at, where | {"disposition": m.disposition, "agent": by}, numbers


def facts_of_attempt(m: InteractionRecorded) -> Iterator[Fact]:
    if m.direction != "unknown" and not m.deleted:
        assert m.occurred_at is not None
        where = {
            "campaign_id": m.campaign_id,
            "campaign_group": GROUPS.get(m.campaign_id or ""),
            "subject_id": m.subject_id,
            "channel": "call",
        }
        way = "attempts_in" if m.direction == "incoming" else "attempts_out"
        yield m.occurred_at, where, Counter({way: 1, "attempts": 1})


def fact_of_completion(m: ActivityCompleted) -> Fact:
    where = {
        "campaign_id": m.campaign_id,
        "campaign_group": GROUPS.get(m.campaign_id or ""),
        "subject_id": m.subject_id,
        "channel": m.channel,
        "status": "completed",
    }
    local = m.completed_at.astimezone(ZoneInfo(m.contact_time_zone or "UTC"))
    hour = ("hours", local.isoweekday(), local.hour)
    reached = int(m.disposition.human_contact)
    return m.completed_at, where, Counter({hour: 1, (*hour, "reached"): reached})


def by_hand(facts: Iterable[Fact], question: Question) -> dict[tuple[Any, ...], Counter[Any]]:
    sums: dict[tuple[Any, ...], Counter[Any]] = {}
    for at, where, numbers in facts:
        day = at.astimezone(question.zone).date()
        if not question.first <= day <= question.last:
            continue
        if any(where.get(name) not in values for name, values in (question.filters or {}).items()):
            continue
        group = tuple(day.isoformat() if name == "day" else where.get(name) for name in question.group_by)
        sums.setdefault(group, Counter()).update(numbers)
    return sums


BARS = (60, 300, 900, 3600, 14_400, 86_400, 604_800)
GROUPS = {"k1": "north", "k2": "north", "k3": "south"}


@dataclass
class Told:
    changes: list[ActivityChanged]
    completed: list[ActivityCompleted]
    attempts: list[InteractionRecorded]

    def __post_init__(self) -> None:
        """A version is always the same message, and an activity is completed once."""
        first: dict[Any, Any] = {}
        self.changes = [first.setdefault((m.activity_id, m.version), m) for m in self.changes]
        self.attempts = [first.setdefault((m.interaction_id, m.version), m) for m in self.attempts]
        self.completed = list({m.activity_id: m for m in reversed(self.completed)}.values())

    def activities(self) -> list[ActivityChanged]:
        return list({m.activity_id: m for m in sorted(self.changes, key=lambda m: m.version)}.values())

    def facts(self) -> list[Fact]:
        newest = {m.interaction_id: m for m in sorted(self.attempts, key=lambda m: m.version)}
        return [
            *(fact for m in self.activities() for fact in facts_of_activity(m)),
            *(fact for m in newest.values() for fact in facts_of_attempt(m)),
            *map(fact_of_completion, self.completed),
        ]


everything_told = st.builds(
    Told,
    st.lists(activities(), min_size=8, max_size=14),
    st.lists(completions(), max_size=4),
    st.lists(attempts, max_size=8),
)
some_filters: st.SearchStrategy[dict[str, list[str]]] = st.sampled_from(
    [
        {},
        {},
        {"campaign_id": ["k1"]},
        {"campaign_group": ["north"]},
        {"campaign_group": ["north", "south"]},
        {"channel": ["sms"]},
        {"source": ["api"], "campaign_group": ["south", "north"]},
    ]
)
questions = st.builds(
    lambda first, days, *rest: Question(first, first + timedelta(days=days), *rest),
    st.sampled_from([date(2026, 3, day) for day in (6, 7, 8, 9)]),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from(ZONES),
    dimensions,
    st.builds(
        lambda filters, status: filters | status,
        some_filters,
        st.sampled_from([{}, {}, {"status": ["open"]}, {"status": ["completed", "failed"]}]),
    ),
)
some_questions = st.lists(questions, min_size=4, max_size=6)


def same_every_time(examples: int) -> settings:
    return settings(
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
    )


async def tell(made: Parts, told: Told) -> ReadReports:
    await made.clear()
    for collection in ("activities", "campaigns", "dispositions"):
        await made.mongo[collection].delete_many({})
    await made.mongo["dispositions"].insert_many(
        [{"_id": "d1", "version": 1, "code": "sold", "success": True, "human_contact": True}]
    )
    await made.mongo["campaigns"].insert_many([{"_id": id_, "group": group} for id_, group in GROUPS.items()])
    made.clock.at = NOW
    changed = RecordActivities("activities", made.mongo, "one", Metrics())
    completed = RecordActivities("completions", made.mongo, "one", Metrics())
    for start in range(0, len(told.changes), 3):
        await changed([delivered(message) for message in told.changes[start : start + 3]])
    await completed([delivered(message) for message in (*told.completed, *told.completed)])
    if told.attempts:
        await made.tell(told.attempts)
    return ReadReports(
        made.mongo, made.clock, Projection(made.mongo, "campaigns"), Projection(made.mongo, "dispositions")
    )


async def reports_equal_a_count_by_hand(made: Parts, told: Told, asked: Sequence[Question]) -> None:
    reports = await tell(made, told)
    for question in asked:
        await report_equals_a_count_by_hand(reports, told, question)


async def report_equals_a_count_by_hand(reports: ReadReports, told: Told, question: Question) -> None:
    answered = {}
    for row in await reports.activity(question):
        assert row.pop("mean_duration_ms") == (
            round(row["duration_ms"] / row["completed"]) if row["completed"] else None
        )
        group = tuple(row.pop(each) for each in question.group_by)
        answered[group] = +Counter(row)
    counted = by_hand(told.facts(), question)
    plain = {
        group: +Counter({name: value for name, value in numbers.items() if isinstance(name, str)})
        for group, numbers in counted.items()
    }
    assert answered == {group: numbers for group, numbers in plain.items() if numbers}

    bars = sum(counted.values(), Counter())
    for row in await reports.histogram("durations", question):
        assert row["completed"] == bars["durations", row["bar"]]
    for row in await reports.histogram("attempts", question):
        assert row["completed"] == bars["attempts", row["attempt"]]
    for row in await reports.histogram("hours", question):
        hour = ("hours", row["weekday"], row["hour"])
        assert (row["completed"], row["reached"]) == (bars[hour], bars[*hour, "reached"])


@pytest.fixture(scope="session")
async def made(engines: Engines) -> Parts:
    return await parts(engines, "statsreports")


@same_every_time(60)
@given(everything_told, some_questions)
async def test_reports_equal_a_count_by_hand(made: Parts, told: Told, asked: list[Question]) -> None:
    await reports_equal_a_count_by_hand(made, told, asked)


@same_every_time(80)
@given(
    everything_told,
    st.sampled_from(ZONES),
    st.sampled_from([["campaign_group"], ["campaign_group", "channel"], ["state"], ["agent", "state"], []]),
    some_filters,
    st.sampled_from([None, date(2026, 3, 7), date(2026, 3, 8)]),
    st.sampled_from([None, date(2026, 3, 8), date(2026, 3, 9)]),
)
async def test_the_backlog_equals_a_count_by_hand(
    made: Parts,
    told: Told,
    zone: ZoneInfo,
    group_by: list[str],
    filters: dict[str, list[str]],
    first: date | None,
    last: date | None,
) -> None:
    reports = await tell(made, told)
    counted: dict[tuple[Any, ...], Counter[str]] = {}
    oldest: dict[tuple[Any, ...], datetime] = {}
    for m in told.activities():
        by = (m.completed_by or m.assigned_to or m.owner) if m.mode == Mode.MANUAL else None
        where = {
            "state": m.state,
            "campaign_id": m.campaign_id,
            "campaign_group": GROUPS.get(m.campaign_id or ""),
            "channel": m.channel,
            "source": m.source,
            "agent": by,
        }
        day = m.scheduled_at.astimezone(zone).date()
        if m.state in ("completed", "failed", "cancelled", "expired", "purged"):
            continue
        if (first and day < first) or (last and day > last):
            continue
        if any(where[name] not in values for name, values in filters.items()):
            continue
        group = tuple(where[name] for name in group_by)
        numbers = counted.setdefault(group, Counter())
        late = NOW - m.scheduled_at
        numbers.update(open=1, overdue=int(late > timedelta(0)))
        numbers.update(
            {f"overdue_more_than_{days}_days": int(late > timedelta(days=days)) for days in (1, 3, 7, 30)}
        )
        oldest[group] = min(oldest.get(group, m.scheduled_at), m.scheduled_at)
    rows = await reports.backlog(OpenQuestion(zone, group_by, filters, first, last))
    answered = {tuple(row.pop(each) for each in group_by): row for row in rows}
    assert {group: row.pop("oldest_scheduled_at") for group, row in answered.items()} == oldest
    assert {group: +Counter(row) for group, row in answered.items()} == {
        group: +numbers for group, numbers in counted.items()
    }


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
    answer = await line.http.get("/v1/reports/activity", params=asked | {"status": ["failed", "open"]})
    assert answer.json()["rows"] == []
    answer = await line.http.get(
        "/v1/reports/activity", params=asked | {"status": "completed", "group_by": "status"}
    )
    (row,) = answer.json()["rows"]
    assert (row["status"], row["created"], row["completed"], row["attempts"]) == ("completed", 1, 1, 0)
    answer = await line.http.get("/v1/reports/activity", params=asked | {"status": "done"})
    assert answer.status_code == 422
    answer = await line.http.get(
        "/v1/reports/activity", params=asked | {"group_by": "agent", "format": "csv"}
    )
    assert answer.headers["content-type"].startswith("text/csv")
    assert "\r\n'=ann,0,1," in answer.text, "a formula is made harmless"
    answer = await line.http.get("/v1/reports/activity", params=asked | {"group_by": "colour"})
    assert answer.status_code == 422
    assert "'colour' is none of day, campaign_id" in answer.json()["detail"]


async def test_the_backlog_has_filters_groups_and_a_spreadsheet(line: Line) -> None:
    campaign = name("campaign")

    def waiting(**said: Any) -> ActivityChanged:
        return ActivityChanged.model_validate(
            {
                "activity_id": name("activity"),
                "contact_id": name(),
                "kind": "call",
                "mode": "manual",
                "source": "batch",
                "subject_id": "s1",
                "campaign_id": campaign,
                "channel": "voice",
                "scheduled_at": THEN,
                "created_at": THEN,
                "changed_at": THEN,
                "created_by": "loader",
                "version": 1,
                "state": "available",
            }
            | said
        )

    await line.tell(
        waiting(),
        waiting(source="api", owner="=ann"),
        waiting(scheduled_at=datetime(2027, 1, 1, 23, 0, tzinfo=UTC), state="scheduled"),
        waiting(state="completed", completed_at=THEN, disposition="sold"),
    )

    async def backlog(**asked: Any) -> list[dict[str, Any]]:
        answer = await line.http.get("/v1/reports/backlog", params={"campaign_id": campaign} | asked)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows

    available, scheduled = await backlog(zone="Asia/Tokyo")
    assert (available["state"], available["open"], available["overdue"]) == ("available", 2, 2)
    assert (available["overdue_more_than_7_days"], available["overdue_more_than_30_days"]) == (2, 0)
    assert available["oldest_scheduled_at"] == "2026-03-01T18:00:00+09:00"
    assert (scheduled["state"], scheduled["open"], scheduled["overdue"]) == ("scheduled", 1, 0)
    assert [row["open"] for row in await backlog(source="api", group_by="agent")] == [1]
    assert [row["open"] for row in await backlog(first="2027-01-01", group_by="")] == [1]
    assert await backlog(zone="Asia/Tokyo", first="2027-01-01", last="2027-01-01") == []
    answer = await line.http.get(
        "/v1/reports/backlog",
        params={"campaign_id": campaign, "group_by": "agent", "last": "2026-12-31", "format": "csv"},
    )
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[1:] == [
        "'=ann,1,1,1,1,1,0,2026-03-01 09:00:00+00:00",
        ",1,1,1,1,1,0,2026-03-01 09:00:00+00:00",
    ]
    answer = await line.http.get("/v1/reports/backlog", params={"group_by": "day"})
    assert "'day' is none of state, campaign_id" in answer.json()["detail"]


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


@pytest.mark.parametrize("told", ["20261128", "0", "-1", "1.5", "2026-11-28T12:00:00Z", "today"])
@pytest.mark.parametrize("path", ["activity", "backlog", "histograms/hours"])
async def test_a_day_is_written_like_one(line: Line, path: str, told: str) -> None:
    asked = {"first": told, "last": told}
    answer = await line.http.get(f"/v1/reports/{path}", params=asked)
    assert answer.status_code == 422
    assert "not a day such as 2026-03-01" in answer.text
    assert "zero time" not in answer.text


async def test_a_histogram_is_not_grouped(line: Line) -> None:
    asked = {"first": "2026-03-01", "last": "2026-03-01", "group_by": "channel"}
    answer = await line.http.get("/v1/reports/histograms/hours", params=asked)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:parley:problem:no-grouping")


async def test_hours_are_not_reported_by_what_they_are_not_kept_by(line: Line) -> None:
    for unkept, value in (("agent", "ann"), ("source", "api"), ("disposition", "sold")):
        asked = {"first": "2026-01-01", "last": "2026-01-02", unkept: value}
        answer = await line.http.get("/v1/reports/histograms/hours", params=asked)
        assert (answer.status_code, answer.json()["detail"]) == (422, f"Hours are not kept by {unkept}.")


async def test_the_last_day_there_is_can_be_reported(line: Line) -> None:
    asked = {"first": "8999-12-31", "last": "8999-12-31", "zone": "Pacific/Kiritimati"}
    answer = await line.http.get("/v1/reports/histograms/hours", params=asked)
    assert answer.status_code == 200, answer.text
