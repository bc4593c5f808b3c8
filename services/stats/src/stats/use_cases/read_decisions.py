"""Why somebody was or was not contacted: the verdicts themselves, and how many of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from servicekit.mongo import Document, Mongo
from stats.domain.reports import DECISIONS
from stats.use_cases.read_reports import Question, ReadReports, in_order, named, wanted_of
from stats.use_cases.record_decisions import DECISION_CELLS, DECISION_LEDGER

DecisionDimension = Literal["day", "campaign_id", "campaign_group", "channel", "verdict", "reason"]


@dataclass(frozen=True, slots=True)
class DecisionPlace:
    """Where the previous page ended."""

    decided_at: datetime
    id: str


class ReadDecisions:
    def __init__(self, mongo: Mongo, reports: ReadReports) -> None:
        self._mongo = mongo
        self._reports = reports

    async def page(self, question: Question, after: DecisionPlace | None, limit: int) -> list[Document]:
        """The newest first."""
        found = (await self._found(question, after)).limit(limit)
        rows: list[Document] = await found.to_list(limit)
        return rows

    async def all(self, question: Question) -> AsyncIterator[Document]:
        async for row in await self._found(question, None):
            yield row

    async def _found(self, question: Question, after: DecisionPlace | None) -> Any:
        start, end = question.moments
        wanted = wanted_of(question.filters, await self._reports.campaign_groups())
        between: Document = {"decided_at": {"$gte": start, "$lt": end}}
        if after is not None:
            between["$or"] = [
                {"decided_at": {"$lt": after.decided_at}},
                {"decided_at": after.decided_at, "_id": {"$lt": after.id}},
            ]
        return (
            self._mongo[DECISION_LEDGER].find({**wanted, **between}).sort([("decided_at", -1), ("_id", -1)])
        )

    async def counted(self, question: Question) -> list[dict[str, Any]]:
        """How many verdicts in each group, in the order of the groups."""
        groups_of = await self._reports.campaign_groups()
        sums: dict[tuple[str | None, ...], int] = {}
        async for cell, day, numbers in self._reports.numbers(
            question, groups_of, [DECISIONS], question.group_by, DECISION_CELLS
        ):
            group = tuple(_value(cell, day, name, groups_of) for name in question.group_by)
            sums[group] = sums.get(group, 0) + numbers.get(DECISIONS, 0)
        return [
            {**dict(zip(question.group_by, group, strict=True)), DECISIONS: sums[group]}
            for group in in_order(sums)
            if sums[group]
        ]


def _value(cell: Document, day: date | None, name: str, groups_of: Mapping[str, str]) -> str | None:
    return day.isoformat() if name == "day" and day else named(cell, name, groups_of)
