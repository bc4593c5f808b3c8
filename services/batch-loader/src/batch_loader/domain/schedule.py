"""When the activities of a batch are due."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, TypeVar, assert_never
from zlib import crc32
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from batch_loader.domain.filters import ZoneName
from contracts.vocabulary import Number, Time, to_millisecond

D = TypeVar("D", bound=date)

_TOLERANCE = timedelta(minutes=5)
"""Of clocks that differ, and of requests that take a while."""


def _a_date(text: str) -> str:
    return _in_reach(date.fromisoformat(text)).isoformat()


def _in_reach(day: D) -> D:
    if not 2000 <= day.year < 3000:
        raise ValueError("write a year from 2000 to 2999")
    return day


class _Spread(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    spread_hours: Number = Field(default=0, ge=0, le=24 * 31)
    """Activities are spread evenly over this long; where each is depends on its id."""


class Now(_Spread):
    """Due when the load begins."""

    kind: Literal["now"] = "now"


class At(_Spread):
    """Due at one instant everywhere."""

    kind: Literal["at"]
    at: Annotated[Time, AfterValidator(_in_reach)]


class LocalTime(_Spread):
    """Due when the clock on the contact's wall shows this."""

    kind: Literal["local_time"]
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(_a_date)]
    time: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    unknown_zone: ZoneName = "UTC"
    """Used for a contact whose zone is unknown; the policy gate decides later whether anything is sent."""


Schedule = Annotated[Now | At | LocalTime, Field(discriminator="kind")]


_LAST_TO_SEE_A_DAY_END = timedelta(hours=12)
"""Nobody's clock is further behind UTC."""


def has_passed(schedule: Schedule, now: datetime) -> bool:
    """Whether this moment, or for wall clocks this day, is over for everybody."""
    match schedule:
        case Now():
            return False
        case At(at=at):
            return at < now - _TOLERANCE
        case LocalTime(date=day):
            end = datetime.combine(date.fromisoformat(day), time.max, UTC)
            return end + _LAST_TO_SEE_A_DAY_END < now
        case _:
            assert_never(schedule)


def due_at(schedule: Schedule, zone: str | None, activity_id: str, loading_since: datetime) -> datetime:
    """Depends on nothing but its arguments, so that a load that was killed plans the same times again."""
    start = _start(schedule, zone, loading_since)
    return to_millisecond(start + timedelta(hours=schedule.spread_hours * _fraction(activity_id)))


def _start(schedule: Schedule, zone: str | None, loading_since: datetime) -> datetime:
    match schedule:
        case Now():
            return loading_since
        case At(at=at):
            return at.astimezone(UTC)
        case LocalTime():
            return _instant(schedule, zone)
        case _:
            assert_never(schedule)


def _instant(schedule: LocalTime, zone: str | None) -> datetime:
    """A time that is skipped in spring is taken as much later; one that comes twice is its first."""
    wall = datetime.combine(date.fromisoformat(schedule.date), time.fromisoformat(schedule.time))
    return wall.replace(tzinfo=_zone(zone) or ZoneInfo(schedule.unknown_zone)).astimezone(UTC)


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _fraction(activity_id: str) -> float:
    return crc32(activity_id.encode()) / 2**32
