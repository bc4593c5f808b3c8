"""Reports from the cells: sums over whole UTC days, and over quarters where a local day cuts one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from servicekit.clock import Clock
from servicekit.mongo import Document, Mongo
from servicekit.projection import Projection
from stats.adapters.mongo_ledger import CELLS
from stats.domain.reports import DURATIONS, MOST_ATTEMPTS, QUARTER, QUARTERS, stretches
from stats.use_cases.record_activities import ACTIVITIES

Dimension = Literal[
    "day",
    "campaign_id",
    "campaign_group",
    "subject_id",
    "channel",
    "endpoint_id",
    "disposition",
    "agent",
    "source",
    "status",
]
OpenDimension = Literal[
    "state", "campaign_id", "campaign_group", "subject_id", "channel", "endpoint_id", "agent", "source"
]
Histogram = Literal["durations", "attempts", "hours"]

MEASURES = (
    "created",
    "completed",
    "failed",
    "cancelled",
    "expired",
    "purged",
    "attempts",
    "attempts_in",
    "attempts_out",
    "reached",
    "success",
    "on_time",
    "late",
    "duration_ms",
)
_EPOCH = date(1970, 1, 1)
_FROM_CELLS = frozenset(MEASURES) - {"attempts", "reached", "success"}

AGES = (1, 3, 7, 30)
OPEN_MEASURES = ("open", "overdue", *(f"overdue_more_than_{days}_days" for days in AGES))

Group = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """first and last are local days of the zone, both included. Each filter: any of these values."""

    first: date
    last: date
    zone: ZoneInfo
    group_by: Sequence[str] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """Where the days begin and end, in UTC."""
        midnight = datetime.min.time()
        return (
            datetime.combine(self.first, midnight, self.zone).astimezone(UTC),
            datetime.combine(self.last + timedelta(days=1), midnight, self.zone).astimezone(UTC),
        )


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """About what is open now; `days` are local ones of the zone that it was scheduled for."""

    zone: ZoneInfo
    group_by: Sequence[str] = ("state",)
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    first: date | None = None
    last: date | None = None

    def wanted(self, groups_of: Mapping[str, str]) -> Document:
        wanted: Document = {"open": True, **wanted_of(self.filters, groups_of)}
        due: Document = {}
        if self.first is not None:
            due["$gte"] = Question(self.first, self.first, self.zone).moments[0]
        if self.last is not None:
            due["$lt"] = Question(self.last, self.last, self.zone).moments[1]
        return wanted | ({"scheduled_at": due} if due else {})


class ReadReports:
    def __init__(self, mongo: Mongo, clock: Clock, campaigns: Projection, dispositions: Projection) -> None:
        self._mongo = mongo
        self._clock = clock
        self._campaigns = campaigns
        self._dispositions = dispositions

    async def activity(self, question: Question) -> list[dict[str, Any]]:
        """One row for each group, with all measures; in the order of the groups."""
        groups_of = await self.campaign_groups()
        flags = await self._flags()
        sums: dict[Group, dict[str, int]] = {}
        async for cell, day, numbers in self.numbers(question, groups_of):
            group = tuple(
                day.isoformat() if name == "day" and day else named(cell, name, groups_of)
                for name in question.group_by
            )
            row = sums.setdefault(group, dict.fromkeys(MEASURES, 0))
            for measure, value in numbers.items():
                if measure in _FROM_CELLS:
                    row[measure] += value
            row["attempts"] = row["attempts_in"] + row["attempts_out"]
            picked = flags.get(cell.get("disposition") or "", {})
            row["reached"] += numbers.get("completed", 0) if picked.get("human_contact") else 0
            row["success"] += numbers.get("completed", 0) if picked.get("success") else 0
        rows = []
        for group in in_order(sums):
            numbers = sums[group]
            mean = round(numbers["duration_ms"] / numbers["completed"]) if numbers["completed"] else None
            if any(numbers.values()):
                of_the_group: dict[str, Any] = dict(zip(question.group_by, group, strict=True))
                rows.append({**of_the_group, **numbers, "mean_duration_ms": mean})
        return rows

    async def histogram(self, which: Histogram, question: Question) -> list[dict[str, Any]]:
        groups_of = await self.campaign_groups()
        sums: dict[str, int] = {}
        async for _, _, numbers in self.numbers(question, groups_of):
            for measure, value in numbers.items():
                sums[measure] = sums.get(measure, 0) + value
        match which:
            case "durations":
                bars = [*(f"le_{seconds}" for seconds in DURATIONS), "longer"]
                return [{"bar": bar, "completed": sums.get(f"duration_{bar}", 0)} for bar in bars]
            case "attempts":
                return [
                    {"attempt": number, "completed": sums.get(f"attempt_{number}", 0)}
                    for number in range(1, MOST_ATTEMPTS + 1)
                ]
            case "hours":
                return [
                    {
                        "weekday": weekday,
                        "hour": hour,
                        "completed": sums.get(f"hour_{weekday}_{hour}", 0),
                        "reached": sums.get(f"hour_{weekday}_{hour}_reached", 0),
                    }
                    for weekday in range(1, 8)
                    for hour in range(24)
                ]

    async def backlog(self, question: OpenQuestion) -> list[dict[str, Any]]:
        """Open activities of each group: how many, how many overdue, and how long they are due."""
        now = self._clock.now()
        groups_of = await self.campaign_groups()
        kept = ["campaign_id" if name == "campaign_group" else name for name in question.group_by]
        found = await self._mongo.aggregate(
            ACTIVITIES,
            [
                {"$match": question.wanted(groups_of)},
                {
                    "$group": {
                        "_id": {name: {"$ifNull": [f"${name}", None]} for name in kept},
                        "open": {"$sum": 1},
                        "overdue": _due_before(now),
                        **{
                            f"overdue_more_than_{days}_days": _due_before(now - timedelta(days=days))
                            for days in AGES
                        },
                        "oldest_scheduled_at": {"$min": "$scheduled_at"},
                    }
                },
            ],
        )
        sums: dict[Group, dict[str, Any]] = {}
        for part in found:
            # Campaigns of one group, and all that have none, come apart.
            group = tuple(named(part["_id"], name, groups_of) for name in question.group_by)
            row = sums.setdefault(group, dict.fromkeys(OPEN_MEASURES, 0) | {"oldest_scheduled_at": None})
            for measure in OPEN_MEASURES:
                row[measure] += part[measure]
            oldest = min(filter(None, (row["oldest_scheduled_at"], part["oldest_scheduled_at"])))
            row["oldest_scheduled_at"] = oldest.astimezone(question.zone)
        return [dict(zip(question.group_by, group, strict=True)) | sums[group] for group in in_order(sums)]

    async def numbers(
        self, question: Question, groups_of: Mapping[str, str], collection: str = CELLS
    ) -> AsyncIterator[tuple[Document, date | None, Mapping[str, int]]]:
        """(cell, local day or None, measure -> sum) for everything the question covers."""
        start, end = question.moments
        low, low_quarter = divmod(int(start.timestamp()) // QUARTER, QUARTERS)
        high, high_quarter = divmod(int(end.timestamp()) // QUARTER, QUARTERS)
        by_day = "day" in question.group_by
        whole_days = by_day and question.zone.key in ("UTC", "Etc/UTC")
        wanted = wanted_of(question.filters, groups_of)
        inner = {"day": {"$gte": low + (low_quarter > 0), "$lt": high}}
        if by_day and not whole_days:
            inner["day"]["$gte"], edges = low, [high] if high_quarter else []
        else:
            edges = sorted({low} if low_quarter else set()) + ([high] if high_quarter else [])
        cut = by_day and not whole_days
        fields = {"quarters": 0} if not cut else {"day_total": 0}
        async for cell in self._mongo[collection].find({**wanted, **inner}, fields).batch_size(2000):
            if not cut:
                yield cell, _EPOCH + timedelta(days=cell["day"]) if by_day else None, cell["day_total"]
                continue
            first = low_quarter if cell["day"] == low else 0
            for local, numbers in _by_local_day(cell, question.zone, first, QUARTERS):
                yield cell, local, numbers
        if not edges:
            return
        async for cell in self._mongo[collection].find({**wanted, "day": {"$in": edges}}, {"day_total": 0}):
            first = low_quarter if cell["day"] == low else 0
            last = high_quarter if cell["day"] == high else QUARTERS
            for local, numbers in _by_local_day(cell, question.zone, first, last):
                yield cell, local, numbers

    async def campaign_groups(self) -> dict[str, str]:
        """Of every campaign that has one; a report follows a campaign into its new group."""
        found = self._campaigns.collection.find({"group": {"$ne": None}}, {"group": 1})
        return {row["_id"]: row["group"] async for row in found if "group" in row}

    async def _flags(self) -> dict[str, Document]:
        found = self._dispositions.collection.find({"erased": {"$exists": False}})
        return {row["code"]: row async for row in found}


def _due_before(moment: datetime) -> Document:
    return {"$sum": {"$cond": [{"$lt": ["$scheduled_at", moment]}, 1, 0]}}


def in_order(groups: Iterable[Group]) -> list[Group]:
    """By their names; those without one last."""
    return sorted(groups, key=lambda each: tuple((value is None, value or "") for value in each))


def wanted_of(filters: Mapping[str, Sequence[str]], groups_of: Mapping[str, str]) -> Document:
    """Rows with any of the values of each filter."""
    each: list[Document] = []
    for name, values in filters.items():
        if name == "campaign_group":
            inside = [campaign for campaign, group in groups_of.items() if group in values]
            each.append({"campaign_id": {"$in": inside}})
        else:
            each.append({name: {"$in": list(values)}})
    return {"$and": each} if each else {}


def named(cell: Document, name: str, groups_of: Mapping[str, str]) -> str | None:
    if name == "campaign_group":
        return groups_of.get(cell.get("campaign_id") or "")
    value: str | None = cell.get(name)
    return value


def _by_local_day(cell: Document, zone: ZoneInfo, first: int, end: int) -> list[tuple[date, dict[str, int]]]:
    found: list[tuple[date, dict[str, int]]] = []
    for stretch in stretches(cell["day"], zone):
        sums: dict[str, int] = {}
        for quarter, numbers in cell["quarters"].items():
            if max(first, stretch.first) <= int(quarter) < min(end, stretch.end):
                for measure, value in numbers.items():
                    sums[measure] = sums.get(measure, 0) + value
        if sums:
            found.append((stretch.date, sums))
    return found
