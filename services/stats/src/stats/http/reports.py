"""Reports, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from contracts.vocabulary import Day
from servicekit.problems import Problem
from stats.http.zones import Zone
from stats.use_cases.read_reports import (
    MEASURES,
    OPEN_MEASURES,
    Dimension,
    Histogram,
    OpenDimension,
    OpenQuestion,
    Question,
    ReadReports,
)

Row = dict[str, Any]
Filters = Mapping[str, Sequence[str]]
Values = Annotated[list[str] | None, Query(max_length=100)]
Ids = Annotated[list[str] | None, Query(max_length=100, description="Ids; a code finds nothing")]
Status = Literal["open", "completed", "failed", "cancelled", "expired", "purged"]
Format = Literal["json", "csv"]
CSV = "text/csv; charset=utf-8"
OR_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}

_MOST_DAYS = 3700
_DIMENSIONS: tuple[str, ...] = get_args(Dimension)
_OPEN_DIMENSIONS: tuple[str, ...] = get_args(OpenDimension)
_NOT_OF_HOURS = ("disposition", "agent", "source")


class Report(BaseModel):
    first: date
    last: date
    zone: str
    rows: list[Row]


class Backlog(BaseModel):
    zone: str
    rows: list[Row]


def any_of(dimensions: Sequence[str]) -> Any:
    """The parameter `group_by`."""
    return Query(max_length=200, description=f"commas between any of {', '.join(dimensions)}")


def grouping(group_by: str, dimensions: Sequence[str]) -> list[str]:
    """Raises Problem for one that there is not."""
    names = [name for name in group_by.split(",") if name]
    wrong = [name for name in names if name not in dimensions]
    if wrong:
        raise Problem(
            422, "unknown-dimension", "No such grouping", f"{wrong[0]!r} is none of {', '.join(dimensions)}."
        )
    return [name for name in dimensions if name in names]


def chosen(**filters: Sequence[str] | None) -> Filters:
    """Those that were given."""
    return {name: values for name, values in filters.items() if values}


def everywhere(campaign_id: Ids = None, campaign_group: Values = None, channel: Values = None) -> Filters:
    """What every report can be narrowed to."""
    return chosen(campaign_id=campaign_id, campaign_group=campaign_group, channel=channel)


def _of_work(
    shared: Annotated[Filters, Depends(everywhere)],
    subject_id: Ids = None,
    endpoint_id: Ids = None,
    agent: Values = None,
    source: Values = None,
) -> Filters:
    return {**shared, **chosen(subject_id=subject_id, endpoint_id=endpoint_id, agent=agent, source=source)}


def days(
    zone: Zone,
    first: Annotated[Day, Query(description="first local day")],
    last: Annotated[Day, Query(description="last local day, included")],
) -> Question:
    """About these days, and nothing narrower yet. Raises Problem for days that there are not."""
    if not timedelta(0) <= last - first <= timedelta(days=_MOST_DAYS):
        raise Problem(
            422,
            "bad-range",
            "No such days",
            f"`last` is `first` or later, and at most {_MOST_DAYS} days after.",
        )
    return Question(first, last, zone)


def _question(
    asked: Annotated[Question, Depends(days)],
    filters: Annotated[Filters, Depends(_of_work)],
    group_by: Annotated[str, any_of(_DIMENSIONS)] = "",
    disposition: Values = None,
    status: Annotated[
        list[Status] | None, Query(max_length=10, description="how they ended, or open; attempts have none")
    ] = None,
) -> Question:
    return replace(
        asked,
        group_by=grouping(group_by, _DIMENSIONS),
        filters={**filters, **chosen(disposition=disposition, status=status)},
    )


def _open_question(
    zone: Zone,
    filters: Annotated[Filters, Depends(_of_work)],
    first: Annotated[Day | None, Query(description="scheduled for this local day or later")] = None,
    last: Annotated[Day | None, Query(description="scheduled for this local day or earlier")] = None,
    group_by: Annotated[str, any_of(_OPEN_DIMENSIONS)] = "state",
    state: Values = None,
) -> OpenQuestion:
    narrowed = {**filters, **chosen(state=state)}
    return OpenQuestion(zone, grouping(group_by, _OPEN_DIMENSIONS), narrowed, first, last)


Asked = Annotated[Question, Depends(_question)]


def report_routes(reports: ReadReports) -> APIRouter:
    routes = APIRouter(prefix="/v1/reports", tags=["reports"])

    @routes.get("/activity", operation_id="report_activity", response_model=Report, responses=OR_CSV)
    async def activity(asked: Asked, format: Format = "json") -> Report | Response:  # noqa: A002
        """Created, ended how, attempts, outcomes, durations and punctuality, for each group.

        A row has what it is grouped by, and of these days:

        - `created`; `completed`, `failed`, `cancelled`, `expired`, `purged`: activities that came to be, or
          ended so; by agent or disposition none came to be, because at first they have neither
        - `attempts`: `attempts_in` + `attempts_out`
        - `reached`, `success`: of the completed ones, those whose disposition is `human_contact`, `success`
        - `on_time`, `late`: of the completed ones, those that were begun at most 15 minutes after their
          scheduled time, or later
        - `duration_ms`, `mean_duration_ms`: from begin (else creation) to completion, all together and the
          mean; null if none was completed
        """
        rows = await reports.activity(asked)
        return answered(asked, rows, format, [*asked.group_by, *MEASURES, "mean_duration_ms"])

    @routes.get(
        "/histograms/{which}", operation_id="report_histogram", response_model=Report, responses=OR_CSV
    )
    async def histogram(asked: Asked, which: Histogram, format: Format = "json") -> Report | Response:  # noqa: A002
        """How long activities took, which attempt they were, or when in their week contacts are reached.

        - durations: `bar` (`le_60`: at most 60 seconds, ...; `longer`) and how many were `completed`
        - attempts: `attempt` (10 is ten or more) and how many were `completed`
        - hours: `weekday` (1 is Monday) and `hour` in the contact's own zone, how many were `completed`, and
          how many of these `reached` a person; not by disposition, agent or source

        `group_by` is not for histograms.
        """
        if asked.group_by:
            raise Problem(422, "no-grouping", "A histogram has no groups", "Filter by each of them instead.")
        if which == "hours" and (unknown := [name for name in _NOT_OF_HOURS if name in asked.filters]):
            raise Problem(422, "no-such-filter", "No such filter", f"Hours are not kept by {unknown[0]}.")
        rows = await reports.histogram(which, asked)
        return answered(asked, rows, format, list(rows[0]))

    @routes.get("/backlog", operation_id="report_backlog", response_model=Backlog, responses=OR_CSV)
    async def backlog(
        asked: Annotated[OpenQuestion, Depends(_open_question)],
        format: Format = "json",  # noqa: A002
    ) -> Backlog | Response:
        """Open activities now: how many, how many overdue, and for how long.

        A row has what it is grouped by, `open`, `overdue` (their scheduled time has passed), of these
        `overdue_more_than_1_days` and so on, and `oldest_scheduled_at`.
        """
        rows = await reports.backlog(asked)
        if format == "csv":
            columns = [*asked.group_by, *OPEN_MEASURES, "oldest_scheduled_at"]
            return Response(csv_lines(columns, rows, head=True), media_type=CSV)
        return Backlog(zone=asked.zone.key, rows=rows)

    return routes


def answered(
    asked: Question, rows: Sequence[Row], format_: Format, columns: Sequence[str]
) -> Report | Response:
    if format_ == "json":
        return Report(first=asked.first, last=asked.last, zone=asked.zone.key, rows=list(rows))
    return Response(csv_lines(columns, rows, head=True), media_type=CSV)


def csv_lines(columns: Sequence[str], rows: Sequence[Row], head: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    if head:
        writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """A spreadsheet takes a cell that begins like a formula for one."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
