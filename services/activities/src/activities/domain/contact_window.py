"""When somebody may be contacted, by the clock on their own wall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from zlib import crc32
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contracts.campaigns import ContactWindow

_BETWEEN_HOURS = (-9.5, -3.5, -2.5, 3.5, 4.5, 5.5, 5.75, 6.5, 8.75, 9.5, 10.5, 12.75, 13.75)
EVERY_OFFSET: tuple[tzinfo, ...] = tuple(
    timezone(timedelta(hours=hours)) for hours in sorted((*range(-12, 15), *_BETWEEN_HOURS))
)
"""Somebody of unknown zone may live in any of these."""

SPREAD = timedelta(minutes=10)
_DAY = timedelta(days=1)
_DAYS_AHEAD = 9
"""One more than a week: the next opening of a window on one weekday, seen from just after it closed."""


@lru_cache(maxsize=2048)
def zone_named(name: str | None) -> tzinfo | None:
    """None for no zone, and for a name that nobody knows."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@lru_cache(maxsize=1024)
def _hours(window: ContactWindow) -> tuple[time, time | None]:
    end = None if window.end == "24:00" else time.fromisoformat(window.end)
    return time.fromisoformat(window.start), end


def is_inside(moment: datetime, zone: tzinfo, window: ContactWindow) -> bool:
    local = moment.astimezone(zone)
    start, end = _hours(window)
    wall = local.time()
    return local.isoweekday() in window.weekdays and start <= wall and (end is None or wall < end)


def is_inside_all(moment: datetime, zones: Sequence[tzinfo], window: ContactWindow) -> bool:
    return all(is_inside(moment, zone, window) for zone in zones)


def next_opening(after: datetime, zone: tzinfo, window: ContactWindow) -> datetime | None:
    """The next instant at which the window opens in this zone; None if it never does."""
    return next((opening for opening in _openings(after, zone, window) if opening > after), None)


def _openings(after: datetime, zone: tzinfo, window: ContactWindow) -> Iterator[datetime]:
    """In order. A start that the clocks skip, or show twice, is tried both ways."""
    start, _ = _hours(window)
    today = after.astimezone(zone).date()
    for days in range(-1, _DAYS_AHEAD):
        wall = datetime.combine(today + timedelta(days=days), start, zone)
        readings = sorted({wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)})
        yield from (reading for reading in readings if is_inside(reading, zone, window))


def next_common_opening(after: datetime, zones: Sequence[tzinfo], window: ContactWindow) -> datetime | None:
    """The next instant that is inside the window in all of the zones; None if the coming week has none."""
    moment = after
    horizon = after + timedelta(days=_DAYS_AHEAD)
    while moment < horizon:
        closed = [zone for zone in zones if not is_inside(moment, zone, window)]
        if not closed:
            return moment
        openings = [next_opening(moment, zone, window) for zone in closed]
        moment = max((opening for opening in openings if opening is not None), default=horizon)
        if None in openings:
            return None
    return None


def next_closing(moment: datetime, zone: tzinfo, window: ContactWindow) -> datetime:
    """The first instant after one inside the window that is no longer in that day's."""
    _, end = _hours(window)
    today = moment.astimezone(zone).date()
    wall = datetime.combine(today, end, zone) if end else datetime.combine(today + _DAY, time.min, zone)
    instants = {wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)}
    if (change := _change_of_clocks(moment, max(instants), zone)) is not None:
        instants.add(change)

    def is_over(at: datetime) -> bool:
        return at.astimezone(zone).date() != today or not is_inside(at, zone, window)

    return next(at for at in sorted(instants) if at > moment and is_over(at))


def _change_of_clocks(after: datetime, until: datetime, zone: tzinfo) -> datetime | None:
    """Between two instants of a day or so: whether the clocks skip or repeat an hour, and from when."""
    before, behind = int(after.timestamp()), int(until.timestamp())

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, zone).utcoffset()

    if offset(before) == offset(behind):
        return None
    while behind - before > 1:
        middle = (before + behind) // 2
        if offset(middle) == offset(before):
            before = middle
        else:
            behind = middle
    return datetime.fromtimestamp(behind, UTC)


def spread(opening: datetime, key: str, zones: Sequence[tzinfo], window: ContactWindow) -> datetime:
    """The same key always wakes at the same distance from the opening, still inside the window."""
    offset = SPREAD * (crc32(key.encode()) % 10_000 / 10_000)
    while offset >= timedelta(milliseconds=1):
        moment = opening + offset
        if is_inside_all(moment, zones, window):
            return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        offset /= 2
    return opening
