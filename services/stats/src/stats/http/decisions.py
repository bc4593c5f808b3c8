"""The decision ledger, as JSON or CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, get_args

import orjson
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel

from contracts.vocabulary import Verdict
from servicekit.pages import Cursor, Limit, Page, cursor_of, moment, page_of, parts_of, text
from stats.http.reports import (
    CSV,
    OR_CSV,
    Filters,
    Format,
    Report,
    Values,
    answered,
    any_of,
    chosen,
    csv_lines,
    days,
    everywhere,
    grouping,
)
from stats.use_cases.read_decisions import DecisionDimension, DecisionPlace, ReadDecisions
from stats.use_cases.read_reports import Question

_DIMENSIONS: tuple[str, ...] = get_args(DecisionDimension)


class Decided(BaseModel):
    """One verdict of the policy gate, with everything it looked at."""

    decided_at: AwareDatetime
    """In the viewer's zone."""
    contact_id: str | None
    """Null once the contact was erased; the survivor, if it was merged."""
    activity_id: str | None
    campaign_id: str | None
    channel: str | None
    verdict: Verdict
    reason: str
    until: AwareDatetime | None
    """Of a deferral, in the viewer's zone: not before."""
    inputs: dict[str, Any]


def _question(
    asked: Annotated[Question, Depends(days)],
    filters: Annotated[Filters, Depends(everywhere)],
    verdict: Annotated[list[Verdict] | None, Query(max_length=3)] = None,
    reason: Values = None,
) -> Question:
    return replace(asked, filters={**filters, **chosen(verdict=verdict, reason=reason)})


def _one_by_one(
    asked: Annotated[Question, Depends(_question)],
    contact_id: Annotated[
        Values, Query(description="whoever was merged into it is found with the survivor")
    ] = None,
    activity_id: Values = None,
) -> Question:
    more = chosen(contact_id=contact_id, activity_id=activity_id)
    return replace(asked, filters={**asked.filters, **more})


def _grouped(
    asked: Annotated[Question, Depends(_question)],
    group_by: Annotated[str, any_of(_DIMENSIONS)] = "verdict,reason",
) -> Question:
    return replace(asked, group_by=grouping(group_by, _DIMENSIONS))


def decision_routes(decisions: ReadDecisions) -> APIRouter:
    routes = APIRouter(prefix="/v1/reports/decisions", tags=["reports"])

    @routes.get("", operation_id="report_decisions", response_model=Page[Decided], responses=OR_CSV)
    async def report(
        asked: Annotated[Question, Depends(_one_by_one)],
        format: Format = "json",  # noqa: A002
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[Decided] | Response:
        """Why a contact was or was not contacted, the newest first. CSV has all of it, whatever the limit."""
        if format == "csv":
            return StreamingResponse(_lines(asked), media_type=CSV)
        after = None if cursor is None else DecisionPlace(*parts_of(cursor, moment, text))
        rows = await decisions.page(asked, after, limit + 1)
        found = page_of(rows, limit, lambda row: cursor_of(row["decided_at"], row["_id"]))
        return Page(items=[_decided(row, asked) for row in found.items], next_cursor=found.next_cursor)

    async def _lines(asked: Question) -> AsyncIterator[str]:
        columns = list(Decided.model_fields)
        yield csv_lines(columns, (), head=True)
        async for row in decisions.all(asked):
            told = _decided(row, asked).model_dump(mode="json")
            yield csv_lines(columns, [{**told, "inputs": orjson.dumps(told["inputs"]).decode()}])

    @routes.get("/counts", operation_id="report_decision_counts", response_model=Report, responses=OR_CSV)
    async def counts(
        asked: Annotated[Question, Depends(_grouped)],
        format: Format = "json",  # noqa: A002
    ) -> Report | Response:
        """How many verdicts there were of each kind."""
        return answered(asked, await decisions.counted(asked), format, [*asked.group_by, "decisions"])

    return routes


def _decided(row: Mapping[str, Any], asked: Question) -> Decided:
    def local(name: str) -> datetime | None:
        return row[name].astimezone(asked.zone) if name in row else None

    fields = {name: row.get(name) for name in Decided.model_fields}
    return Decided.model_validate(
        fields | {"decided_at": local("decided_at"), "until": local("until"), "inputs": row.get("inputs", {})}
    )
