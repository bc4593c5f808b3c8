"""How long to wait, and which instant that is for one contact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from contracts.activities import ActivityCompleted
from contracts.vocabulary import to_millisecond

_FRIENDLY = re.compile(r"^(?:(\d+)w)?\s*(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?$")
_ISO_8601 = re.compile(r"^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$")
_LONGEST_DAYS = 3650
_GRAMMAR = "write it like 90s, 15m, 2h, 3d, 1d12h, 2w or PT2H, P3D"


@dataclass(frozen=True, slots=True)
class Delay:
    """Days are calendar days of the contact; seconds are seconds."""

    days: int = 0
    seconds: int = 0

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The same local time that many days later, then the seconds on top.

        A local time that a clock change skips becomes the one just as long after the change; of one that
        happens twice it is the first.
        """
        if self.days:
            local = moment.astimezone(zone).replace(tzinfo=None, fold=0)
            moment = (local + timedelta(days=self.days)).replace(tzinfo=zone)
        return moment.astimezone(UTC) + timedelta(seconds=self.seconds)


ONE_DAY = Delay(days=1)


def parse_delay(text: str) -> Delay:
    """Raises ValueError with a sentence that says what would be right."""
    if text.strip().startswith(("-", "P-", "PT-")):
        raise ValueError(f"{text!r} is negative, and nothing can be done in the past; {_GRAMMAR}")
    found = _ISO_8601.match(text) or _FRIENDLY.match(text.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no delay; {_GRAMMAR}")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    delay = Delay(weeks * 7 + days, hours * 3600 + minutes * 60 + seconds)
    if delay.days + delay.seconds / 86_400 > _LONGEST_DAYS:
        raise ValueError(f"{text!r} is longer than {_LONGEST_DAYS} days")
    return delay


def _checked(text: str) -> str:
    parse_delay(text)
    return text


DelayText = Annotated[
    str,
    AfterValidator(_checked),
    Field(max_length=40, examples=["2h", "3d", "90s", "PT2H"], description=f"A delay; {_GRAMMAR}."),
]


def due_at(completed: ActivityCompleted, delay: str | None) -> datetime:
    """When what follows is to happen: the time agreed with the contact, else the delay, else one day."""
    if completed.follow_up_at is not None:
        return to_millisecond(completed.follow_up_at.astimezone(UTC))
    wait = ONE_DAY if delay is None else parse_delay(delay)
    return to_millisecond(wait.after(completed.completed_at, zone_of(completed.contact_time_zone)))


def zone_of(name: str | None) -> ZoneInfo:
    """UTC for a contact whose zone nobody knows, or whose zone is none."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
