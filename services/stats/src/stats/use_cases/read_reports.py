"""Reports from the cells: sums over whole UTC days, and over quarters where a local day cuts one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any, Literal
from zoneinfo import ZoneInfo

from servicekit.clock import Clock
from servicekit.mongo import Document, Mongo
from servicekit.projection import Projection
from stats.adapters.mongo_cells import AGENT_CELLS, CELLS
from stats.domain.reports import DURATIONS, EPOCH, MOST_ATTEMPTS, QUARTERS, Part, days_by_parts
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
_FROM_CELLS = tuple(name for name in MEASURES if name not in ("attempts", "reached", "success"))
_AT_ONCE = 500

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
        columns = {*question.group_by, "disposition"}
        async for cell, day, numbers in self.numbers(question, groups_of, _FROM_CELLS, columns):
            group = tuple(
                day.isoformat() if name == "day" and day else named(cell, name, groups_of)
                for name in question.group_by
            )
            row = sums.setdefault(group, dict.fromkeys(MEASURES, 0))
            for measure, value in numbers.items():
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
        match which:
            case "durations":
                bars = {bar: f"duration_{bar}" for bar in (*(f"le_{s}" for s in DURATIONS), "longer")}
                sums = await self._sums(question, groups_of, list(bars.values()))
                return [{"bar": bar, "completed": sums[measure]} for bar, measure in bars.items()]
            case "attempts":
                each = {number: f"attempt_{number}" for number in range(1, MOST_ATTEMPTS + 1)}
                sums = await self._sums(question, groups_of, list(each.values()))
                return [{"attempt": number, "completed": sums[measure]} for number, measure in each.items()]
            case "hours":
                sums = await self._hours(question, groups_of)
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
        self,
        question: Question,
        groups_of: Mapping[str, str],
        measures: Sequence[str],
        dimensions: Iterable[str],
        collection: str | None = None,
    ) -> AsyncIterator[tuple[Document, date | None, Mapping[str, int]]]:
        """(dimensions, local day or None, measure -> sum) for everything the question covers.

        The server adds up: there may be a million cells in a year, and here they would have to be read.
        collection: cells of another kind than the activities'.
        """
        by_day = "day" in question.group_by
        columns = {"campaign_id" if name == "campaign_group" else name for name in dimensions} - {"day"}
        by = {name: f"${name}" for name in sorted(columns)} | ({"day": "$day"} if by_day else {})
        wanted = wanted_of(question.filters, groups_of)
        cells = {collection: {}} if collection else _cells_for(question)
        days_of = days_by_parts(*question.moments, question.zone if by_day else None)
        for (kept, narrowed), (parts, days) in product(cells.items(), days_of.items()):
            sums = {
                f"{position} {measure}": {"$sum": _sum_of(part, measure)}
                for position, part in enumerate(parts)
                for measure in measures
            }
            pipeline: list[Document] = [
                {"$match": {**wanted, **narrowed, "day": _among(days)}},
                {"$group": {"_id": by, **sums}},
            ]
            async for row in await self._mongo.aggregate_cursor(kept, pipeline, allowDiskUse=True):
                group = row["_id"]
                for position, part in enumerate(parts):
                    day = EPOCH + timedelta(days=group["day"] + part.later) if by_day else None
                    yield group, day, {measure: row[f"{position} {measure}"] for measure in measures}

    async def _sums(
        self, question: Question, groups_of: Mapping[str, str], measures: Sequence[str]
    ) -> Mapping[str, int]:
        sums = dict.fromkeys(measures, 0)
        async for _, _, numbers in self.numbers(question, groups_of, measures, ()):
            for measure, value in numbers.items():
                sums[measure] += value
        return sums

    async def _hours(self, question: Question, groups_of: Mapping[str, str]) -> Mapping[str, int]:
        """Two for each hour of a week are too many to name to the server, and few cells have them."""
        sums: dict[str, int] = {}
        wanted = wanted_of(question.filters, groups_of)
        with_hours = {"status": "completed", "source": None, "disposition": None}
        for (part,), days in days_by_parts(*question.moments, None).items():
            fields = {"day_total": 1} if part.is_whole else {"quarters": 1}
            query = {"$and": [wanted, with_hours, {"day": _among(days)}]}
            async for cell in self._mongo[CELLS].find(query, fields).batch_size(_AT_ONCE):
                for numbers in _inside(cell, part):
                    for measure, value in numbers.items():
                        sums[measure] = sums.get(measure, 0) + value
        return sums

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


def _cells_for(question: Question) -> Mapping[str, Document]:
    """The collections to add up, and what of each."""
    if "agent" in question.group_by or "agent" in question.filters:
        return {CELLS: {"agent": None}, AGENT_CELLS: {}}
    return {CELLS: {}}


def _among(days: Sequence[int]) -> Document:
    if days[-1] - days[0] == len(days) - 1:
        return {"$gte": days[0], "$lte": days[-1]}
    return {"$in": days}


def _sum_of(part: Part, measure: str) -> Any:
    """Of one cell: its quarters, or the whole day without the others if these are fewer."""
    if part.is_whole:
        return f"$day_total.{measure}"
    inside = range(part.first, part.end)
    if len(inside) <= QUARTERS // 2:
        return {"$sum": [f"$quarters.{quarter}.{measure}" for quarter in inside]}
    outside = [f"$quarters.{quarter}.{measure}" for quarter in range(QUARTERS) if quarter not in inside]
    return {"$subtract": [{"$ifNull": [f"$day_total.{measure}", 0]}, {"$sum": outside}]}


def _inside(cell: Document, part: Part) -> Iterator[Mapping[str, int]]:
    if part.is_whole:
        yield cell["day_total"]
        return
    for quarter, numbers in cell["quarters"].items():
        if part.first <= int(quarter) < part.end:
            yield numbers
