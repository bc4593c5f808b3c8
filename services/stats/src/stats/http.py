"""Inbound REST: reading the counters and the ledger, and the commands that are also a topic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts import stats as commands
from contracts.vocabulary import Code, Identifier, WrittenTime
from servicekit.clock import Clock
from servicekit.pages import Cursor, Limit, Page, cursor_of, moment, parts_of
from servicekit.problems import NotFound, Problem
from servicekit.producer import NotPublished
from stats.domain.ledger import is_attempt, target_key, target_of
from stats.use_cases.command_over_rest import CommandOverRest, Refusal
from stats.use_cases.list_targets import Column, Filters, ListTargets, Place
from stats.use_cases.obey_commands import Command
from stats.use_cases.read_counters import Counters, ReadCounters, RollUp, TargetStatistics, statistics
from stats.use_cases.read_totals import ReadTotals, Totals
from stats.use_cases.recalculate import Recalculations, Running, Scope, outcome_of, seconds_of
from stats.use_cases.set_counting import ANY, Counting


def zone_of(
    zone: Annotated[str, Query(description="IANA name of the viewer's time zone", max_length=64)] = "UTC",
) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Problem(
            422,
            "unknown-zone",
            "No such time zone",
            f"{zone!r} is not an IANA time zone name such as Europe/Berlin.",
        ) from None


Zone = Annotated[ZoneInfo, Depends(zone_of)]


class Listed(BaseModel):
    target_type: str
    target_id: str
    total: Counters
    channels: dict[str, Counters]


class LedgerRow(BaseModel):
    """One attempt: one interaction as it counts, or does not, for one target."""

    activity_type: str
    """Type of the interaction."""
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
    activity_id: str | None
    campaign_id: str | None
    subject_id: str | None
    endpoint_id: str | None
    disposition: str | None
    agent: str | None


def reading_routes(read: ReadCounters, lists: ListTargets, totals: ReadTotals, clock: Clock) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["statistics"])

    def tagged(
        answer: TargetStatistics, response: Response, known: str | None
    ) -> TargetStatistics | Response:
        """The tag moves with the counters and with the viewer's date."""
        tag = f'"{answer.version}-{clock.now().astimezone(ZoneInfo(answer.zone)).date()}"'
        if known == tag:
            return Response(status_code=304, headers={"ETag": tag})
        response.headers["ETag"] = tag
        return answer

    @routes.get(
        "/contacts/{contact_id}/stats",
        operation_id="read_contact_statistics",
        response_model=TargetStatistics,
    )
    async def contact_statistics(
        contact_id: str,
        zone: Zone,
        response: Response,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> TargetStatistics | Response:
        return tagged(await read("contact", contact_id, zone), response, if_none_match)

    @routes.get(
        "/targets/{target_type}/{target_id}/stats",
        operation_id="read_target_statistics",
        response_model=TargetStatistics,
    )
    async def target_statistics(
        target_type: Code,
        target_id: str,
        zone: Zone,
        response: Response,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> TargetStatistics | Response:
        return tagged(await read(target_type, target_id, zone), response, if_none_match)

    @routes.get("/targets/{target_type}/{target_id}/roll-up", operation_id="read_roll_up")
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
        contact_count_min: Annotated[int | None, Query(ge=0)] = None,
        contact_count_max: Annotated[int | None, Query(ge=0)] = None,
        contacted_since: WrittenTime | None = None,
        not_contacted_since: WrittenTime | None = None,
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
        after = None if cursor is None else Place(*parts_of(cursor, partial(_value, column), str))
        rows = await lists(filters, column, sort.startswith("-"), after, limit)
        items = []
        for row in rows:
            type_, id_ = target_of(row["_id"])
            seen = statistics(type_, id_, row, zone, now)
            items.append(Listed(target_type=type_, target_id=id_, total=seen.total, channels=seen.channels))
        full = len(rows) == limit
        return Page(
            items=items, next_cursor=cursor_of(rows[-1]["listed"][column], rows[-1]["_id"]) if full else None
        )

    @routes.get("/ledger", operation_id="list_ledger")
    async def ledger(
        target_type: Code = "contact",
        target_id: Annotated[str | None, Query(max_length=200, description="without it, all targets")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[LedgerRow]:
        (after,) = ("",) if cursor is None else parts_of(cursor, str)
        target = None if target_id is None else target_key(target_type, target_id)
        rows = await lists.ledger(target, after, limit)
        return Page(
            items=[ledger_row(row) for row in rows],
            next_cursor=cursor_of(rows[-1]["_id"]) if len(rows) == limit else None,
        )

    @routes.get("/totals", operation_id="read_totals")
    async def read_totals() -> Totals:
        return await totals()

    return routes


def _value(column: Column, told: Any) -> datetime | int | None:
    if told is None:
        return None
    return moment(told) if column.startswith("last") else int(told)


def _start_of_day(now: datetime, zone: ZoneInfo, days: int) -> datetime:
    """Whoever was last contacted before it has not been contacted for that many local days."""
    day = now.astimezone(zone).date() - timedelta(days=days - 1)
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def ledger_row(row: Mapping[str, Any]) -> LedgerRow:
    type_, id_ = target_of(row["target"]) if "target" in row else (None, None)
    return LedgerRow(
        activity_type=row["type"],
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
        erased=row.get("erased", False),
        activity_id=row.get("activity_id"),
        campaign_id=row.get("campaign_id"),
        subject_id=row.get("subject_id"),
        endpoint_id=row.get("endpoint_id"),
        disposition=row.get("disposition"),
        agent=row.get("agent"),
    )


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MergeRequest(Strict):
    survivor_id: Identifier


class LinkRequest(Strict):
    interaction_type: Code
    interaction_id: Identifier
    target_type: Code = "contact"
    target_id: Identifier
    linked: bool = True


class ParentRequest(Strict):
    parent_type: Code | None = None
    parent_id: Identifier | None = None


class CountingRequest(Strict):
    target_type: Code
    interaction_type: Code | None = None
    """Null means every type that has no setting of its own."""
    enabled: bool


class CountingSetting(BaseModel):
    target_type: str
    interaction_type: str | None
    enabled: bool
    set_at: AwareDatetime
    waiting: int
    """Attempts that are held back, or that catching up has not reached yet."""


def command_routes(carry_out: CommandOverRest, counting: Counting, clock: Clock) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["commands"])

    async def do(command: Command) -> None:
        try:
            await carry_out(command)
        except Refusal as refusal:
            why = str(refusal)
            detail = f"{why[:1].upper()}{why[1:]}."
            raise Problem(409, "refused", "The command was refused", detail) from refusal
        except NotPublished as silence:
            detail = "It was carried out, but Kafka did not take it. Ask again: nothing is done twice."
            raise Problem(503, "not-told", "The command was not told", detail) from silence

    @routes.post("/targets/{target_type}/{target_id}/merge", status_code=204, operation_id="merge_targets")
    async def merge(target_type: Code, target_id: str, asked: MergeRequest) -> None:
        """`target_id` was another record of `survivor_id`; done when this answers."""
        await do(
            commands.MergeTargets(
                command_id=str(uuid4()),
                target_type=target_type,
                target_id=target_id,
                survivor_id=asked.survivor_id,
                occurred_at=clock.now(),
            )
        )

    @routes.delete("/targets/{target_type}/{target_id}", status_code=204, operation_id="erase_target")
    async def erase(target_type: Code, target_id: str) -> None:
        """Nothing leads to the target afterwards; the totals of reports stay."""
        await do(
            commands.EraseTarget(
                command_id=str(uuid4()), target_type=target_type, target_id=target_id, occurred_at=clock.now()
            )
        )

    @routes.post("/links", status_code=204, operation_id="set_target_link")
    async def link(asked: LinkRequest) -> None:
        """Link an interaction to one more target, or cut a link."""
        await do(
            commands.SetTargetLink.model_validate(
                asked.model_dump() | {"command_id": str(uuid4()), "occurred_at": clock.now()}
            )
        )

    @routes.put("/targets/{target_type}/{target_id}/parent", status_code=204, operation_id="set_parent")
    async def set_parent(target_type: Code, target_id: str, asked: ParentRequest) -> None:
        await do(
            commands.SetParent(
                command_id=str(uuid4()),
                target_type=target_type,
                target_id=target_id,
                parent_type=asked.parent_type,
                parent_id=asked.parent_id,
                occurred_at=clock.now(),
            )
        )

    @routes.get("/counting", operation_id="list_counting")
    async def list_counting() -> list[CountingSetting]:
        """What was set otherwise than the deployment's default."""
        return [
            CountingSetting(
                target_type=row["target_type"],
                interaction_type=None if row["interaction_type"] == ANY else row["interaction_type"],
                enabled=row["enabled"],
                set_at=row["set_at"],
                waiting=await counting.waiting(row["target_type"], row["interaction_type"]),
            )
            for row in await counting.settings()
        ]

    @routes.put("/counting", status_code=204, operation_id="set_counting")
    async def set_counting(asked: CountingRequest) -> None:
        """Enabling catches up by itself; disabling keeps what is there and counts nothing new."""
        await do(
            commands.SetCounting.model_validate(
                asked.model_dump() | {"command_id": str(uuid4()), "occurred_at": clock.now()}
            )
        )

    return routes


class RecalculationRequest(Scope):
    dry_run: bool = False
    targets_per_second: float | None = Field(default=None, gt=0)


class Recalculation(BaseModel):
    id: str
    scope: Scope
    dry_run: bool
    targets_per_second: float | None
    state: Running
    outcome: str
    """When finished: `equal`, `written` (all that differed) or `different`; else the state."""
    expected: int
    """Targets in scope when it began, about."""
    looked_at: int
    different: int
    written: int
    done_again: int
    """Recounts thrown away because the target moved meanwhile."""
    seconds: float
    started_at: AwareDatetime
    changed_at: AwareDatetime
    finished_at: AwareDatetime | None = None


class DifferenceFound(BaseModel):
    target_type: str
    target_id: str
    kept: dict[str, Any]
    """Channel -> numbers, as the counters had them."""
    counted: dict[str, Any]
    """As the ledger has them."""
    count_off_by: int
    columns_only: bool
    written: bool


def recalculation_routes(runs: Recalculations, clock: Clock) -> APIRouter:
    routes = APIRouter(prefix="/v1/recalculations", tags=["recalculation"])

    async def existing(run_id: str) -> Recalculation:
        run = await runs.get(run_id)
        if run is None:
            raise NotFound("recalculation", run_id)
        return _recalculation(run, clock.now())

    @routes.post("", status_code=202, operation_id="start_recalculation")
    async def start(asked: RecalculationRequest) -> Recalculation:
        """Recount from the ledger: everything, one target type, one target, or those contacted in a time."""
        if asked.target_id is not None and asked.target_type is None:
            raise Problem(
                422, "incomplete-scope", "The scope is incomplete", "A target_id needs a target_type."
            )
        scope = Scope.model_validate(asked.model_dump(include=set(Scope.model_fields)))
        run_id = str(uuid4())
        await runs.start(run_id, scope, asked.dry_run, asked.targets_per_second)
        return await existing(run_id)

    @routes.get("", operation_id="list_recalculations")
    async def newest(limit: Limit = 100) -> Page[Recalculation]:
        return Page(items=[_recalculation(run, clock.now()) for run in await runs.newest(limit)])

    @routes.get("/{run_id}", operation_id="read_recalculation")
    async def read(run_id: str) -> Recalculation:
        return await existing(run_id)

    @routes.get("/{run_id}/differences", operation_id="list_recalculation_differences")
    async def differences(run_id: str, limit: Limit = 100, cursor: Cursor = None) -> Page[DifferenceFound]:
        await existing(run_id)
        (after,) = ("",) if cursor is None else parts_of(cursor, str)
        rows = await runs.differences(run_id, after, limit)
        return Page(
            items=[DifferenceFound(count_off_by=_off_by(row), **_plain(row)) for row in rows],
            next_cursor=cursor_of(rows[-1]["_id"]) if len(rows) == limit else None,
        )

    @routes.post("/{run_id}/{step}", operation_id="steer_recalculation")
    async def steer(run_id: str, step: Literal["pause", "resume", "cancel"]) -> Recalculation:
        to, of = _STEPS[step]
        if not await runs.move(run_id, to, of):
            run = await existing(run_id)
            raise Problem(
                409,
                "wrong-state",
                f"Cannot {step} now",
                f"The recalculation is {run.state}, not {' or '.join(of)}.",
            )
        return await existing(run_id)

    return routes


_STEPS: dict[str, tuple[Running, tuple[Running, ...]]] = {
    "pause": ("paused", ("running",)),
    "resume": ("running", ("paused",)),
    "cancel": ("cancelled", ("running", "paused")),
}


def _recalculation(run: Mapping[str, Any], now: datetime) -> Recalculation:
    fields = {name: run.get(name) for name in Recalculation.model_fields if name in run}
    return Recalculation.model_validate(
        fields | {"id": run["_id"], "outcome": outcome_of(run), "seconds": seconds_of(run, now)}
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in DifferenceFound.model_fields if name in row}


def _off_by(row: Mapping[str, Any]) -> int:
    """How many attempts too many the counters had."""

    def count(channels: Mapping[str, Any]) -> int:
        return sum(numbers.get("in", 0) + numbers.get("out", 0) for numbers in channels.values())

    return count(row["kept"]) - count(row["counted"])
