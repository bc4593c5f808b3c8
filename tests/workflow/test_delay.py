"""When what follows is due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workflow.builders import NOON, completed
from workflow.domain.delay import Delay, due_at, parse_delay, zone_of

NEW_YORK = "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("90s", Delay(0, 90)),
        ("15m", Delay(0, 900)),
        ("2h", Delay(0, 7200)),
        ("3d", Delay(3, 0)),
        ("2w", Delay(14, 0)),
        ("1d12h", Delay(1, 43_200)),
        ("1d 12h 5m", Delay(1, 43_500)),
        ("0s", Delay(0, 0)),
        ("PT2H", Delay(0, 7200)),
        ("P3D", Delay(3, 0)),
        ("P1W", Delay(7, 0)),
        ("P1DT90S", Delay(1, 90)),
    ],
)
def test_a_delay_is_read(text: str, delay: Delay) -> None:
    assert parse_delay(text) == delay


@pytest.mark.parametrize("text", ["-2h", "-P1D", "P-1D", "PT-2H"])
def test_a_negative_delay_is_called_negative(text: str) -> None:
    with pytest.raises(ValueError, match="is negative"):
        parse_delay(text)


@pytest.mark.parametrize(
    "text", ["", " ", "P", "PT", "soon", "2", "2 hours", "P1M", "P1Y", "2h3d", "1.5h", "99999d"]
)
def test_what_is_no_delay_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no delay|longer than"):
        parse_delay(text)


@pytest.mark.parametrize(
    ("completed_at", "delay", "zone", "due"),
    [
        ("2026-03-02T17:00", "2h", NEW_YORK, "2026-03-02T19:00"),
        ("2026-03-07T17:00", "1d", NEW_YORK, "2026-03-08T16:00"),  # noon stays noon when clocks go forward
        ("2026-03-07T17:00", "24h", NEW_YORK, "2026-03-08T17:00"),  # hours are hours
        ("2026-10-31T16:00", "1d", NEW_YORK, "2026-11-01T17:00"),  # and back
        ("2026-03-07T07:30", "1d", NEW_YORK, "2026-03-08T07:30"),  # 02:30 is skipped: 03:30 it is
        ("2026-10-31T05:30", "1d", NEW_YORK, "2026-11-01T05:30"),  # 01:30 happens twice: the first
        ("2026-11-01T06:30", "0s", NEW_YORK, "2026-11-01T06:30"),  # the second 01:30, and no day between
        ("2026-03-07T17:00", "1d2h", NEW_YORK, "2026-03-08T18:00"),
        ("2026-03-07T17:00", "1d", None, "2026-03-08T17:00"),
        ("2026-03-07T17:00", "1d", "Atlantis/Capital", "2026-03-08T17:00"),
        ("2026-03-07T17:00", "1d", "America", "2026-03-08T17:00"),
        ("2026-03-07T17:00", "1d", "../../etc/passwd", "2026-03-08T17:00"),
        ("2026-03-07T17:00", None, NEW_YORK, "2026-03-08T16:00"),
    ],
)
def test_whole_days_keep_the_local_time(
    completed_at: str, delay: str | None, zone: str | None, due: str
) -> None:
    done = completed(completed_at=utc(completed_at), contact_time_zone=zone)
    assert due_at(done, delay) == utc(due)


def test_the_time_agreed_with_the_contact_beats_the_delay() -> None:
    agreed = NOON + timedelta(hours=5)
    assert due_at(completed(follow_up_at=agreed), "3d") == agreed


@given(
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    days=st.integers(0, 400),
    seconds=st.integers(0, 86_400),
    zone=st.sampled_from([NEW_YORK, "Australia/Lord_Howe", "Europe/Berlin", "Asia/Kathmandu", "UTC"]),
)
def test_a_delay_never_goes_back_and_is_off_by_a_clock_change_at_most(
    moment: datetime, days: int, seconds: int, zone: str
) -> None:
    due = Delay(days, seconds).after(moment, zone_of(zone))
    assert due >= moment
    assert abs(due - moment - timedelta(days=days, seconds=seconds)) <= timedelta(hours=2)
