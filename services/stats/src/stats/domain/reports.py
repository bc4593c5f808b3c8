"""Report counters: for each UTC day and each combination of what a report can ask for.

A cell keeps its numbers for the whole day and for each quarter of an hour, because a local day of any
zone is made of whole quarters of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

Row = dict[str, Any]


class Cell(NamedTuple):
    """What a report can filter and group by."""

    day: int
    """Days since 1970-01-01, UTC."""
    campaign_id: str | None = None
    subject_id: str | None = None
    channel: str | None = None
    endpoint_id: str | None = None
    disposition: str | None = None
    agent: str | bool | None = None
    """True: all of them together."""
    source: str | None = None
    status: str | None = None
    """How the activity ended, or `open`; of attempts none."""


class DecisionCell(NamedTuple):
    """The same for verdicts of the policy gate."""

    day: int
    campaign_id: str | None
    channel: str | None
    verdict: str
    reason: str


AnyCell = TypeVar("AnyCell", Cell, DecisionCell)
Numbers = dict[tuple[int, str], int]
"""(quarter of the UTC day, measure) -> how many."""
Cells = dict[Cell, Numbers]
DecisionCells = dict[DecisionCell, Numbers]
DECISIONS = "decisions"
"""The one measure of a decision cell."""

EPOCH = date(1970, 1, 1)
QUARTER = 900
QUARTERS = 96


def quarter_of(at: datetime) -> tuple[int, int]:
    """UTC day and quarter of the day."""
    return divmod(int(at.timestamp()) // QUARTER, QUARTERS)


def add(cells: dict[AnyCell, Numbers], cell: AnyCell, quarter: int, measure: str, by: int) -> None:
    numbers = cells.setdefault(cell, {})
    key = (quarter, measure)
    numbers[key] = numbers.get(key, 0) + by


def of_all_agents(cells: Cells) -> Cells:
    """The same numbers without saying which agent."""
    together: Cells = {}
    for cell, numbers in cells.items():
        for (quarter, measure), by in numbers.items():
            add(together, cell if cell.agent is None else cell._replace(agent=True), quarter, measure, by)
    return together


def count_attempt(cells: Cells, row: Row, sign: int) -> None:
    day, quarter = quarter_of(row["at"])
    get = row.get
    cell = Cell(
        day,
        get("campaign_id"),
        get("subject_id"),
        row["channel"],
        get("endpoint_id"),
        get("disposition"),
        get("agent"),
    )
    add(cells, cell, quarter, "attempts_in" if row["direction"] == "incoming" else "attempts_out", sign)


def count_activity(cells: Cells, activity: Row, sign: int) -> None:
    """What one activity, as it stands, adds to the reports."""
    if activity["version"]:
        _count_life(cells, activity, sign)
    if "picked" in activity:
        _count_hour(cells, activity["picked"], sign)


def _count_life(cells: Cells, activity: Row, sign: int) -> None:
    get = activity.get
    dimensions = (get("campaign_id"), get("subject_id"), get("channel"), get("endpoint_id"))
    source = get("source")
    day, quarter = quarter_of(activity["created_at"])
    end = end_of(activity)
    status = OPEN if end is None else end[0]
    add(cells, Cell(day, *dimensions, source=source, status=status), quarter, "created", sign)
    if end is None:
        return
    how, ended_at = end
    day, quarter = quarter_of(ended_at)
    cell = Cell(day, *dimensions, get("disposition"), get("agent"), source, status)
    add(cells, cell, quarter, how, sign)
    if how != "completed":
        return
    began_at = get("started_at") or activity["created_at"]
    milliseconds = max(0, round((ended_at - began_at).total_seconds() * 1000))
    add(cells, cell, quarter, "duration_ms", sign * milliseconds)
    add(cells, cell, quarter, f"duration_{bucket_of_duration(milliseconds)}", sign)
    add(cells, cell, quarter, f"attempt_{min(activity['attempt_number'], MOST_ATTEMPTS)}", sign)
    late = (get("started_at") or ended_at) - activity["scheduled_at"]
    add(cells, cell, quarter, "on_time" if late.total_seconds() <= ON_TIME_SECONDS else "late", sign)


def _count_hour(cells: Cells, picked: Row, sign: int) -> None:
    """The hour of the contact's own week in which an activity ended, and whether a person was reached."""
    day, quarter = quarter_of(picked["at"])
    get = picked.get
    dimensions = (get("campaign_id"), get("subject_id"), get("channel"), get("endpoint_id"))
    cell = Cell(day, *dimensions, status="completed")
    hour = f"hour_{picked['weekday']}_{picked['hour']}"
    add(cells, cell, quarter, hour, sign)
    if picked["human_contact"]:
        add(cells, cell, quarter, f"{hour}_reached", sign)


def end_of(activity: Row) -> tuple[str, datetime] | None:
    """How and when an activity ended; a purge does not undo that it was completed."""
    state = activity["state"]
    if state == "purged" and activity.get("completed_at") is not None and activity.get("disposition"):
        state = "completed"
    if state not in ENDS:
        return None
    return state, activity.get("completed_at") or activity["changed_at"]


OPEN = "open"
ENDS = ("completed", "failed", "cancelled", "expired", "purged")
MOST_ATTEMPTS = 10
"""The last bar of the histogram of attempts: that many, or more."""
ON_TIME_SECONDS = 900
DURATIONS = (60, 300, 900, 3600, 14_400, 86_400, 604_800)
"""Upper ends of the bars of the histogram of durations, in seconds; the last bar has none."""


def bucket_of_duration(milliseconds: int) -> str:
    for seconds in DURATIONS:
        if milliseconds <= seconds * 1000:
            return f"le_{seconds}"
    return "longer"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Quarters of one UTC day that lie in one local day: from `first` up to but not including `end`."""

    first: int
    end: int
    date: date


@lru_cache(maxsize=10_000)
def stretches(day: int, zone: ZoneInfo) -> tuple[Stretch, ...]:
    """A UTC day cut into local days. Every zone's midnight is at a quarter of UTC since 1972."""

    def local(quarter: int) -> date:
        return datetime.fromtimestamp((day * QUARTERS + quarter) * QUARTER, zone).date()

    cuts: list[Stretch] = []
    first, last = 0, local(QUARTERS - 1)
    while first < QUARTERS:
        here = local(first)
        end = QUARTERS
        if here != last:
            low, end = first, QUARTERS - 1
            while end - low > 1:
                middle = (low + end) // 2
                low, end = (middle, end) if local(middle) == here else (low, middle)
        cuts.append(Stretch(first, end, here))
        first = end
    return tuple(cuts)


class Part(NamedTuple):
    """Quarters of a UTC day that a report asks for, and how many days later than that the local day is."""

    first: int
    end: int
    later: int = 0

    @property
    def is_whole(self) -> bool:
        return self.end - self.first == QUARTERS


_WHOLE = (Part(0, QUARTERS),)


def days_by_parts(start: datetime, end: datetime, zone: ZoneInfo | None) -> dict[tuple[Part, ...], list[int]]:
    """The UTC days between two moments, together where the same quarters of them are asked for.

    zone: where each day is cut into its local days; None: it is not cut.
    """
    low, low_quarter = quarter_of(start)
    high, high_quarter = quarter_of(end)
    days: dict[tuple[Part, ...], list[int]] = {}
    for day in range(low, high + (high_quarter > 0)):
        first = low_quarter if day == low else 0
        last = high_quarter if day == high else QUARTERS
        if zone is not None:
            here = EPOCH + timedelta(days=day)
            parts = tuple(
                Part(max(first, cut.first), min(last, cut.end), (cut.date - here).days)
                for cut in stretches(day, zone)
                if max(first, cut.first) < min(last, cut.end)
            )
        else:
            parts = (Part(first, last),) if (first, last) != (0, QUARTERS) else _WHOLE
        days.setdefault(parts, []).append(day)
    return days
