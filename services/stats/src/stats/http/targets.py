"""The counters of targets, and the ledger they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel

from contracts.vocabulary import AskedTime, Code
from servicekit.clock import Clock
from servicekit.pages import (
    TAGGED,
    Cursor,
    Limit,
    Page,
    cursor_of,
    moment,
    page_of,
    parts_of,
    text,
    whole,
)
from servicekit.problems import Problem
from stats.adapters.mongo_targets import Column, Filters, MongoTargets, Place
from stats.domain.ledger import is_attempt, target_key, target_of
from stats.http.zones import Zone
from stats.use_cases.read_counters import Counters, ReadCounters, RollUp, TargetStatistics, statistics
from stats.use_cases.read_totals import ReadTotals, Totals

_MOST = 1_000_000_000
"""More than anybody is contacted, and few enough for the database."""


class Listed(BaseModel):
    target_type: str
    target_id: str
    total: Counters
    channels: dict[str, Counters]


class LedgerRow(BaseModel):
    """One attempt: one interaction as it counts, or does not, for one target."""

    interaction_type: str
    interaction_id: str
    target_type: str | None
    target_id: str | None
    direction: str
    channel: str | None
    occurred_at: AwareDatetime | None
    counts: bool
    waits_for: str | None
    version: int
    deleted: bool
    erased: bool
    """Whom it was for was erased; then it has no target."""
    activity_id: str | None
    campaign_id: str | None
    subject_id: str | None
    endpoint_id: str | None
    disposition: str | None
    agent: str | None


def target_routes(read: ReadCounters, targets: MongoTargets, totals: ReadTotals, clock: Clock) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["statistics"])

    def tagged(answer: TargetStatistics, response: Response) -> TargetStatistics:
        """The tag moves with the counters and with the viewer's date."""
        today = clock.now().astimezone(ZoneInfo(answer.zone)).date()
        response.headers["ETag"] = f'"{answer.version}-{today}"'
        return answer

    @routes.get("/contacts/{contact_id}/stats", operation_id="get_contact_statistics", responses=TAGGED)
    async def contact_statistics(contact_id: str, zone: Zone, response: Response) -> TargetStatistics:
        return tagged(await read("contact", contact_id, zone), response)

    @routes.get(
        "/targets/{target_type}/{target_id}/stats", operation_id="get_target_statistics", responses=TAGGED
    )
    async def target_statistics(
        target_type: Code, target_id: str, zone: Zone, response: Response
    ) -> TargetStatistics:
        return tagged(await read(target_type, target_id, zone), response)

    @routes.get("/targets/{target_type}/{target_id}/roll-up", operation_id="get_roll_up")
    async def roll_up(target_type: Code, target_id: str, zone: Zone) -> RollUp:
        return await read.roll_up(target_type, target_id, zone)

    @routes.get("/stats", operation_id="list_statistics")
    async def list_statistics(
        zone: Zone,
        target_type: Code = "contact",
        sort: Annotated[
            str, Query(pattern=r"^-?(contact_count|last_contact_at)(_in|_out)?$", description="- descends")
        ] = "-last_contact_at",
        never_contacted: bool | None = None,
        contact_count_min: Annotated[int | None, Query(ge=0, le=_MOST)] = None,
        contact_count_max: Annotated[int | None, Query(ge=0, le=_MOST)] = None,
        contacted_since: AskedTime | None = None,
        not_contacted_since: AskedTime | None = None,
        not_contacted_for_days: Annotated[int | None, Query(ge=0, le=36_500)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[Listed]:
        now = clock.now()
        if not_contacted_for_days is not None:
            not_contacted_since = _start_of_day(now, zone, not_contacted_for_days)
        filters = Filters(
            target_type=target_type,
            never_contacted=never_contacted,
            at_least={} if contact_count_min is None else {"contact_count": contact_count_min},
            at_most={} if contact_count_max is None else {"contact_count": contact_count_max},
            contacted_since=contacted_since,
            not_contacted_since=not_contacted_since,
        )
        column: Column = sort.removeprefix("-")  # type: ignore[assignment]
        after = None if cursor is None else Place(*parts_of(cursor, partial(_value, column), text))
        rows = await targets.page(filters, column, sort.startswith("-"), after, limit + 1)
        found = page_of(rows, limit, lambda row: cursor_of(row["listed"][column], row["_id"]))
        items = []
        for row in found.items:
            type_, id_ = target_of(row["_id"])
            seen = statistics(type_, id_, row, zone, now)
            items.append(Listed(target_type=type_, target_id=id_, total=seen.total, channels=seen.channels))
        return Page(items=items, next_cursor=found.next_cursor)

    @routes.get("/ledger", operation_id="list_ledger")
    async def ledger(
        target_type: Annotated[
            Code | None, Query(description="`contact` if left out; only with target_id")
        ] = None,
        target_id: Annotated[str | None, Query(max_length=200, description="without it, all targets")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[LedgerRow]:
        (after,) = ("",) if cursor is None else parts_of(cursor, text)
        if target_type is not None and target_id is None:
            raise Problem(
                422, "incomplete-target", "The target is incomplete", "A target_type needs a target_id."
            )
        target = None if target_id is None else target_key(target_type or "contact", target_id)
        found = page_of(
            await targets.ledger(target, after, limit + 1), limit, lambda row: cursor_of(row["_id"])
        )
        return Page(items=[_ledger_row(row) for row in found.items], next_cursor=found.next_cursor)

    @routes.get("/totals", operation_id="get_totals")
    async def read_totals() -> Totals:
        return await totals()

    return routes


def _value(column: Column, told: Any) -> datetime | int | None:
    if told is None:
        return None
    return moment(told) if column.startswith("last") else whole(told)


def _start_of_day(now: datetime, zone: ZoneInfo, days: int) -> datetime:
    """Whoever was last contacted before it has not been contacted for that many local days."""
    day = now.astimezone(zone).date() - timedelta(days=days - 1)
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _ledger_row(row: Mapping[str, Any]) -> LedgerRow:
    type_, id_ = target_of(row["target"]) if "target" in row else (None, None)
    return LedgerRow(
        interaction_type=row["type"],
        interaction_id=row["id"],
        target_type=type_,
        target_id=id_,
        direction=row["direction"],
        channel=row.get("channel"),
        occurred_at=row.get("at"),
        counts=is_attempt(dict(row)),
        waits_for=row.get("waits"),
        version=row["version"],
        deleted=row.get("deleted", False),
        erased="erased" in row,
        activity_id=row.get("activity_id"),
        campaign_id=row.get("campaign_id"),
        subject_id=row.get("subject_id"),
        endpoint_id=row.get("endpoint_id"),
        disposition=row.get("disposition"),
        agent=row.get("agent"),
    )
