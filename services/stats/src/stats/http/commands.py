"""The commands that are also a topic."""

from __future__ import annotations

from typing import Self
from uuid import uuid4

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator

from contracts import stats as commands
from contracts.vocabulary import Code, Flag, Identifier
from servicekit.clock import Clock
from servicekit.problems import Problem, answered_by
from stats.use_cases.command_over_rest import CommandOverRest, Refusal
from stats.use_cases.set_counting import ANY, Counting


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MergeRequest(_Written):
    survivor_id: Identifier


class LinkRequest(_Written):
    interaction_type: Code
    interaction_id: Identifier
    target_type: Code = "contact"
    target_id: Identifier
    linked: Flag = True


class ParentRequest(_Written):
    """Both, or neither: neither ends it."""

    parent_type: Code | None = None
    parent_id: Identifier | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.parent_type is None) != (self.parent_id is None):
            raise ValueError("parent_type and parent_id are given together, or neither")
        return self


class CountingRequest(_Written):
    target_type: Code
    interaction_type: Code | None = None
    """Null means every type that has no setting of its own."""
    enabled: Flag


class CountingSetting(BaseModel):
    target_type: str
    interaction_type: str | None
    enabled: bool
    set_at: AwareDatetime
    waiting: int
    """Attempts that are held back, or that catching up has not reached yet."""


def command_routes(carry_out: CommandOverRest, counting: Counting, clock: Clock) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["commands"], route_class=answered_by(_problem_of))

    @routes.post("/targets/{target_type}/{target_id}/merge", status_code=204, operation_id="merge_targets")
    async def merge(target_type: Code, target_id: Identifier, asked: MergeRequest) -> None:
        """`target_id` was another record of `survivor_id`; done when this answers."""
        await carry_out(
            commands.MergeTargets(
                command_id=str(uuid4()),
                target_type=target_type,
                target_id=target_id,
                survivor_id=asked.survivor_id,
                occurred_at=clock.now(),
            )
        )

    @routes.delete("/targets/{target_type}/{target_id}", status_code=204, operation_id="erase_target")
    async def erase(target_type: Code, target_id: Identifier) -> None:
        """Nothing leads to the target afterwards; the totals of reports stay."""
        await carry_out(
            commands.EraseTarget(
                command_id=str(uuid4()), target_type=target_type, target_id=target_id, occurred_at=clock.now()
            )
        )

    @routes.post("/links", status_code=204, operation_id="set_target_link")
    async def link(asked: LinkRequest) -> None:
        """Link an interaction to one more target, or cut a link."""
        await carry_out(
            commands.SetTargetLink.model_validate(
                asked.model_dump() | {"command_id": str(uuid4()), "occurred_at": clock.now()}
            )
        )

    @routes.put("/targets/{target_type}/{target_id}/parent", status_code=204, operation_id="set_parent")
    async def set_parent(target_type: Code, target_id: Identifier, asked: ParentRequest) -> None:
        await carry_out(
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
        await carry_out(
            commands.SetCounting.model_validate(
                asked.model_dump() | {"command_id": str(uuid4()), "occurred_at": clock.now()}
            )
        )

    return routes


def _problem_of(refusal: Exception) -> Problem | None:
    match refusal:
        case Refusal():
            why = str(refusal)
            return Problem(409, "refused", "The command was refused", f"{why[:1].upper()}{why[1:]}.")
    return None
