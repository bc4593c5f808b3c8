"""What the use cases need from outside."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import BaseModel

from workflow.domain.decision import ActionName


class BranchCount(BaseModel):
    """How often one action of a branch had one outcome; without an action, how often none was found."""

    flow_id: str | None
    flow_version: int | None
    subject_id: str
    campaign_id: str | None
    disposition: str
    result: Literal["decided", "no_flow"]
    path: str | None
    action: ActionName | None
    outcome: str | None
    count: int


class DecisionCounts(Protocol):
    async def __call__(self, subject_id: str | None, campaign_id: str | None) -> list[BranchCount]: ...
