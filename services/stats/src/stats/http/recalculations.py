"""Recounts from the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field

from contracts.vocabulary import Code, Flag, Number
from servicekit.clock import Clock
from servicekit.pages import Cursor, Limit, Page, cursor_of, page_of, parts_of, text
from servicekit.problems import Problem
from servicekit.refusals import NotFound
from stats.use_cases.recalculate import Recalculations, Running, Scope, outcome_of, seconds_of


class RecalculationRequest(Scope):
    target_type: Code | None = None
    dry_run: Flag = False
    targets_per_second: Number | None = Field(default=None, gt=0)


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
        if fault := asked.fault:
            raise Problem(422, "incomplete-scope", "The scope makes no sense", fault)
        scope = Scope.model_validate(asked.model_dump(include=set(Scope.model_fields)))
        run_id = str(uuid4())
        await runs.start(run_id, scope, asked.dry_run, asked.targets_per_second)
        return await existing(run_id)

    @routes.get("", operation_id="list_recalculations")
    async def newest(limit: Limit = 100) -> Page[Recalculation]:
        return Page(items=[_recalculation(run, clock.now()) for run in await runs.newest(limit)])

    @routes.get("/{run_id}", operation_id="get_recalculation")
    async def read(run_id: str) -> Recalculation:
        return await existing(run_id)

    @routes.get("/{run_id}/differences", operation_id="list_recalculation_differences")
    async def differences(run_id: str, limit: Limit = 100, cursor: Cursor = None) -> Page[DifferenceFound]:
        await existing(run_id)
        (after,) = ("",) if cursor is None else parts_of(cursor, text)
        rows = await runs.differences(run_id, after, limit + 1)
        found = page_of(rows, limit, lambda row: cursor_of(row["_id"]))
        items = [DifferenceFound(count_off_by=_off_by(row), **_plain(row)) for row in found.items]
        return Page(items=items, next_cursor=found.next_cursor)

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
