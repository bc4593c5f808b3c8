"""Windows on the contact's own wall clock, whatever that clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.domain.contact_window import (
    EVERY_OFFSET,
    SPREAD,
    is_inside,
    is_inside_all,
    next_closing,
    next_common_opening,
    next_opening,
    spread,
    zone_named,
)
from contracts.campaigns import ContactWindow

ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/St_Johns",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Beirut",
)
DAYTIME = ContactWindow()
MINUTE = timedelta(minutes=1)

zones = st.sampled_from(ZONES).map(ZoneInfo)
moments = st.datetimes(datetime(2011, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
clocks = st.tuples(st.integers(0, 23), st.sampled_from((0, 1, 15, 30, 59)))


@st.composite
def windows(draw: st.DrawFn) -> ContactWindow:
    start, end = sorted(draw(st.lists(clocks, min_size=2, max_size=2, unique=True)))
    days = draw(st.sets(st.integers(1, 7), min_size=1))
    return ContactWindow(
        start=f"{start[0]:02}:{start[1]:02}",
        end=draw(st.sampled_from((f"{end[0]:02}:{end[1]:02}", "24:00"))),
        weekdays=tuple(sorted(days)),
    )


@given(moments, zones, windows())
def test_the_next_opening_is_later_and_inside(now: datetime, zone: ZoneInfo, window: ContactWindow) -> None:
    opening = next_opening(now, zone, window)
    if opening is not None:
        assert opening > now
        assert is_inside(opening, zone, window)


@given(moments, zones)
def test_a_daily_window_that_is_closed_opens_within_a_day_and_never_earlier_than_told(
    now: datetime, zone: ZoneInfo
) -> None:
    if is_inside(now, zone, DAYTIME):
        return
    opening = next_opening(now, zone, DAYTIME)
    assert opening is not None
    assert opening - now <= timedelta(hours=12, minutes=1) or zone.key == "Pacific/Apia"
    probe = now
    while probe < opening:
        assert not is_inside(probe, zone, DAYTIME)
        probe += timedelta(minutes=7)


@given(moments, zones, windows(), st.text(min_size=1, max_size=12))
def test_a_wake_up_is_spread_but_stays_inside(
    now: datetime, zone: ZoneInfo, window: ContactWindow, key: str
) -> None:
    opening = next_opening(now, zone, window)
    if opening is None:
        return
    wake = spread(opening, key, (zone,), window)
    assert opening - timedelta(milliseconds=1) < wake <= opening + SPREAD
    assert is_inside(wake, zone, window)
    assert wake == spread(opening, key, (zone,), window)


@given(moments, zones, windows(), st.floats(0, 1, exclude_max=True))
def test_a_window_closes_when_the_wall_says_so_and_not_before(
    now: datetime, zone: ZoneInfo, window: ContactWindow, part: float
) -> None:
    opening = next_opening(now, zone, window)
    if opening is None:
        return
    closing = next_closing(opening, zone, window)
    assert opening < closing <= opening + timedelta(hours=26)
    assert window.end == "24:00" or not is_inside(closing, zone, window)
    assert is_inside(opening + (closing - opening - timedelta(milliseconds=1)) * part, zone, window)


@settings(max_examples=50)
@given(moments, st.lists(zones, min_size=2, max_size=4), windows())
def test_a_common_opening_is_inside_everywhere(
    now: datetime, several: list[ZoneInfo], window: ContactWindow
) -> None:
    moment = next_common_opening(now, several, window)
    if moment is not None:
        assert moment >= now
        assert is_inside_all(moment, several, window)


def test_no_daytime_is_daytime_everywhere() -> None:
    assert next_common_opening(datetime(2026, 3, 4, 17, tzinfo=UTC), EVERY_OFFSET, DAYTIME) is None


def test_a_window_that_never_closes_is_open_everywhere() -> None:
    always = ContactWindow(start="00:00", end="24:00")
    now = datetime(2026, 3, 4, 17, tzinfo=UTC)
    assert next_common_opening(now, EVERY_OFFSET, always) == now


def test_every_offset_is_asked_that_a_zone_has() -> None:
    zones = map(ZoneInfo, sorted(available_timezones() - {"Factory", "localtime"}))
    year = [datetime(2026, month, 15, tzinfo=UTC) for month in range(1, 13)]
    offsets = {moment.astimezone(zone).utcoffset() for zone in zones for moment in year}
    assert offsets <= {offset.utcoffset(None) for offset in EVERY_OFFSET}


@pytest.mark.parametrize(
    ("zone", "now", "window", "opening"),
    [
        ("America/New_York", "2026-03-08T04:00Z", ("08:00", "21:00"), "2026-03-08T12:00Z"),
        ("America/New_York", "2026-11-01T03:00Z", ("08:00", "21:00"), "2026-11-01T13:00Z"),
        ("America/New_York", "2026-03-08T06:00Z", ("02:30", "04:00"), "2026-03-08T07:30Z"),
        ("America/New_York", "2026-03-08T06:00Z", ("02:00", "03:00"), "2026-03-09T06:00Z"),
        ("America/New_York", "2026-11-01T04:00Z", ("01:30", "01:45"), "2026-11-01T05:30Z"),
        ("America/New_York", "2026-11-01T05:50Z", ("01:30", "01:45"), "2026-11-01T06:30Z"),
        ("Asia/Kathmandu", "2026-03-04T00:00Z", ("08:00", "21:00"), "2026-03-04T02:15Z"),
        ("Pacific/Chatham", "2026-09-26T12:00Z", ("08:00", "21:00"), "2026-09-26T18:15Z"),
    ],
    ids=[
        "the day that loses an hour",
        "the day that gains an hour",
        "a start that the clocks skip",
        "a window that the clocks skip",
        "a start that comes twice, first",
        "a start that comes twice, second",
        "three quarters of an hour off",
        "three quarters off, losing an hour",
    ],
)
def test_the_next_opening_on_hard_days(zone: str, now: str, window: tuple[str, str], opening: str) -> None:
    hours = ContactWindow(start=window[0], end=window[1])
    found = next_opening(datetime.fromisoformat(now), ZoneInfo(zone), hours)
    assert found == datetime.fromisoformat(opening)


@pytest.mark.parametrize(
    ("zone", "now", "window", "closing"),
    [
        ("America/New_York", "2026-03-04T17:00Z", ("08:00", "21:00"), "2026-03-05T02:00Z"),
        ("America/New_York", "2026-03-08T06:15Z", ("01:00", "02:30"), "2026-03-08T07:00Z"),
        ("America/New_York", "2026-11-01T05:15Z", ("00:30", "01:30"), "2026-11-01T05:30Z"),
        ("America/New_York", "2026-11-01T06:15Z", ("00:30", "01:30"), "2026-11-01T06:30Z"),
        ("America/New_York", "2026-03-08T06:15Z", ("00:00", "24:00"), "2026-03-09T04:00Z"),
        ("Pacific/Chatham", "2026-09-26T18:15Z", ("08:00", "21:00"), "2026-09-27T07:15Z"),
        ("America/Nuuk", "2026-03-28T12:00Z", ("00:00", "23:30"), "2026-03-29T01:00Z"),
        ("Africa/Cairo", "2026-04-23T12:00Z", ("08:00", "24:00"), "2026-04-23T22:00Z"),
        ("America/New_York", "2026-11-01T05:20Z", ("01:15", "09:00"), "2026-11-01T06:00Z"),
        ("America/New_York", "2026-11-01T06:20Z", ("01:15", "09:00"), "2026-11-01T14:00Z"),
    ],
    ids=[
        "an evening",
        "an end that the clocks skip",
        "an end that comes twice, first",
        "an end that comes twice, second",
        "midnight after a day that lost an hour",
        "three quarters off",
        "an end that is skipped with the rest of the day",
        "a midnight that is skipped",
        "clocks that go back to before the start",
        "a start that was passed twice",
    ],
)
def test_the_next_closing_on_hard_days(zone: str, now: str, window: tuple[str, str], closing: str) -> None:
    hours = ContactWindow(start=window[0], end=window[1])
    found = next_closing(datetime.fromisoformat(now), ZoneInfo(zone), hours)
    assert abs(found - datetime.fromisoformat(closing)) <= timedelta(milliseconds=1)


def test_the_start_is_inside_and_the_end_is_not() -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 6, 1, 8, tzinfo=zone)
    assert is_inside(start, zone, DAYTIME)
    assert not is_inside(start - MINUTE, zone, DAYTIME)
    assert not is_inside(start.replace(hour=21), zone, DAYTIME)


@pytest.mark.parametrize("name", ["", None, "Mars/Olympus", "../etc/passwd", "America"])
def test_a_zone_nobody_knows_is_none(name: str | None) -> None:
    assert zone_named(name) is None
