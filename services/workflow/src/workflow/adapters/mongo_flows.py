"""Flows and decisions in MongoDB: what is read beside the aggregates themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import ASCENDING, IndexModel

from contracts.activities import ActivityCompleted
from servicekit.mongo import Mongo
from servicekit.unit_of_work import Store
from workflow.domain.decision import Decision
from workflow.domain.flow import Flow, flow_ids_for
from workflow.ports import BranchCount

DECISION_INDEXES = (IndexModel([("subject_id", ASCENDING), ("campaign_id", ASCENDING)]),)


class MongoFlows:
    def __init__(self, store: Store[Flow]) -> None:
        self._store = store

    async def for_completions(self, messages: Sequence[ActivityCompleted]) -> Mapping[str, Flow]:
        """Every flow that one of these completions may finish under."""
        return await self._store.load(list({id_ for m in messages for id_ in flow_ids_for(m)}))


class MongoDecisionCounts:
    def __init__(self, mongo: Mongo, decisions: Store[Decision]) -> None:
        self._mongo = mongo
        self._collection = decisions.name

    async def __call__(self, subject_id: str | None, campaign_id: str | None) -> list[BranchCount]:
        wanted = {"subject_id": subject_id, "campaign_id": campaign_id}
        by = ("flow_id", "flow_version", "subject_id", "campaign_id", "disposition", "result")
        rows = await self._mongo.aggregate(
            self._collection,
            [
                {"$match": {name: value for name, value in wanted.items() if value}},
                {"$unwind": {"path": "$actions", "preserveNullAndEmptyArrays": True}},
                {"$group": {"_id": _names(by), "count": {"$sum": 1}}},
                {"$sort": {"_id": 1}},
            ],
            allowDiskUse=True,
        )
        return [BranchCount.model_validate(row["_id"] | {"count": row["count"]}) for row in rows]


def _names(by: tuple[str, ...]) -> dict[str, Any]:
    action = {name: {"$ifNull": [f"$actions.{name}", None]} for name in ("path", "action", "outcome")}
    return {name: f"${name}" for name in by} | action
