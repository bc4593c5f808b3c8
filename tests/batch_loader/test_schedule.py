from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from batch_loader.domain.schedule import At, LocalTime, Now, Schedule, due_at, has_passed
from tests.batch_loader.builders import NOON

ZONES = ["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
schedules: TypeAdapter[Schedule] = TypeAdapter(Schedule)


def local(day: str, at: str, **more: object) -> LocalTime:
    return LocalTime.model_validate({"kind": "local_time", "date": day, "time": at} | more)


def test_now_is_when_the_load_began() -> None:
    assert due_at(Now(), None, "a", NOON) == NOON


def test_an_absolute_time_is_the_same_instant_everywhere() -> None:
    at = At(kind="at", at=datetime.fromisoformat("2026-03-01T09:00:00+02:00"))
    assert {due_at(at, zone, "a", NOON) for zone in [*ZONES, None]} == {datetime(2026, 3, 1, 7, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("now", "passed"),
    [("2026-03-01T23:00:00Z", False), ("2026-03-02T11:30:00Z", False), ("2026-03-02T12:00:00Z", True)],
)
def test_a_day_has_passed_when_it_is_over_for_everybody(now: str, passed: bool) -> None:
    assert has_passed(local("2026-03-01", "09:00"), datetime.fromisoformat(now)) is passed


@given(hours=st.integers(0, 10 * 366 * 24))
def test_what_is_due_now_has_not_passed(hours: int) -> None:
    now = NOON + timedelta(hours=hours)
    assert not has_passed(Now(), now)
    assert not has_passed(At(kind="at", at=now), now)
    assert has_passed(At(kind="at", at=now - timedelta(hours=1)), now)


@given(
    day=st.dates(date(2020, 1, 1), date(2030, 12, 31)),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(ZONES),
)
def test_the_wall_clock_of_the_contact_shows_the_local_time(
    day: date, hour: int, minute: int, zone: str
) -> None:
    due = due_at(local(day.isoformat(), f"{hour:02}:{minute:02}"), zone, "a", NOON)
    shown = due.astimezone(ZoneInfo(zone))
    asked = datetime.combine(day, time(hour, minute))
    if shown.replace(tzinfo=None) != asked:
        # The wall clock skipped that time: it is due as much later as was skipped.
        skipped = shown.replace(tzinfo=None) - asked
        an_hour_earlier = (due - timedelta(hours=3)).astimezone(ZoneInfo(zone))
        assert skipped == shown.utcoffset() - an_hour_earlier.utcoffset()  # type: ignore[operator]
        assert skipped > timedelta(0)


def test_a_time_that_is_skipped_in_spring_is_an_hour_later() -> None:
    due = due_at(local("2026-03-08", "02:30"), "America/New_York", "a", NOON)
    assert due.astimezone(ZoneInfo("America/New_York")).isoformat() == "2026-03-08T03:30:00-04:00"


def test_a_time_that_comes_twice_in_autumn_is_its_first() -> None:
    due = due_at(local("2026-11-01", "01:30"), "America/New_York", "a", NOON)
    assert due == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize("zone", [None, "Nowhere/Atlantis", "../etc/passwd"])
def test_an_unknown_zone_falls_back(zone: str | None) -> None:
    assert due_at(local("2026-03-08", "09:00"), zone, "a", NOON) == datetime(2026, 3, 8, 9, tzinfo=UTC)
    other = local("2026-03-08", "09:00", unknown_zone="Asia/Kolkata")
    assert due_at(other, zone, "a", NOON) == datetime(2026, 3, 8, 3, 30, tzinfo=UTC)


@given(st.floats(0, 48), st.text(min_size=1, max_size=40))
def test_a_spread_stays_inside_its_hours_and_is_the_same_again(hours: float, activity_id: str) -> None:
    due = due_at(Now(spread_hours=hours), None, activity_id, NOON)
    assert NOON <= due <= NOON + timedelta(hours=hours)
    assert due == due_at(Now(spread_hours=hours), None, activity_id, NOON)


def test_a_spread_is_even() -> None:
    schedule = Now(spread_hours=10)
    hours = [0] * 10
    for number in range(5000):
        due = due_at(schedule, None, f"activity-{number}", NOON)
        hours[int((due - NOON).total_seconds() // 3600)] += 1
    assert min(hours) > 400
    assert max(hours) < 600


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "tomorrow"},
        {"kind": "at"},
        {"kind": "at", "at": "2026-03-01T09:00:00"},
        {"kind": "at", "at": "9999-12-31T23:00:00Z"},
        {"kind": "at", "at": "1798761600"},
        {"kind": "at", "at": 1798761600},
        {"kind": "local_time", "date": "2026-02-30", "time": "09:00"},
        {"kind": "local_time", "date": "0001-01-01", "time": "09:00"},
        {"kind": "local_time", "date": "2026-02-03", "time": "24:00"},
        {"kind": "local_time", "date": "2026-02-03", "time": "09:00", "unknown_zone": "Nowhere"},
        {"kind": "now", "at": "2026-03-01T09:00:00Z"},
        {"kind": "now", "spread_hours": -1},
    ],
)
def test_an_impossible_schedule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        schedules.validate_python(wrong)
