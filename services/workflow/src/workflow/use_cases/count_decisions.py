"""Account for everything that followed: what reports and reconciliation add up."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from workflow.ports import BranchCount, DecisionCounts


class Counts(BaseModel):
    decided: int
    no_flow: int
    activities: int
    """Follow-ups made, of any kind."""
    preferences: int
    exhausted: int
    chain_limit: int
    items: list[BranchCount]


class CountDecisions:
    def __init__(self, counts: DecisionCounts) -> None:
        self._counts = counts

    async def __call__(self, subject_id: str | None, campaign_id: str | None) -> Counts:
        items = await self._counts(subject_id, campaign_id)

        def total(chosen: Callable[[BranchCount], bool]) -> int:
            return sum(item.count for item in items if chosen(item))

        return Counts(
            # Every decision that found its branch took the first action of it, once.
            decided=total(lambda item: item.path == f"{item.disposition}/0"),
            no_flow=total(lambda item: item.result == "no_flow"),
            activities=total(lambda item: item.outcome == "activity"),
            preferences=total(lambda item: item.outcome == "preference"),
            exhausted=total(lambda item: item.outcome == "exhausted"),
            chain_limit=total(lambda item: item.outcome == "chain_limit"),
            items=items,
        )
