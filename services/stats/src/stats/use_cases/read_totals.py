"""Sums over everything, from the ledger and from the counters: for reconciling."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from servicekit.mongo import Mongo
from stats.adapters.mongo_ledger import LEDGER, TARGETS


class TypeTotals(BaseModel):
    """One type of target, once from each side; equal at every moment that nothing is being written."""

    targets: int = 0
    contacted: int = 0
    contact_count: int = 0
    contact_count_in: int = 0
    contact_count_out: int = 0
    ledger_in: int = 0
    ledger_out: int = 0


class Directions(BaseModel):
    incoming: int = 0
    outgoing: int = 0


class Totals(BaseModel):
    ledger_rows: int
    interactions: int
    """Different interactions that are known, whether they count or not."""
    deleted: int
    unknown_direction: int
    erased: int
    """Interactions whose target was erased."""
    erased_attempts: dict[str, Directions]
    """Those of them that are attempts, by channel: the reports have them, and no counter any more."""
    waiting: dict[str, int]
    target_types: dict[str, TypeTotals]
    equal: bool
    """Whether counters and ledger add up to the same."""


class ReadTotals:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def __call__(self) -> Totals:
        types: dict[str, TypeTotals] = {}
        facts = {"rows": 0, "heads": 0, "deleted": 0, "unknown": 0, "erased": 0}
        waiting: dict[str, int] = {}
        erased: dict[str, Directions] = {}
        for group in await self._mongo.aggregate(LEDGER, _LEDGER):
            key, rows = group["_id"], group["rows"]
            facts["rows"] += rows
            facts["heads"] += group["heads"]
            facts["deleted"] += group["heads"] if key["deleted"] else 0
            facts["unknown"] += rows if key["direction"] == "unknown" else 0
            facts["erased"] += rows if key["erased"] else 0
            if key["waits"] is not None:
                waiting[key["waits"]] = waiting.get(key["waits"], 0) + rows
            counts = (
                not key["deleted"]
                and key["direction"] != "unknown"
                and key["waits"] not in ("contact", "enabling")
            )
            if counts and key["erased"]:
                of_channel = erased.setdefault(key["channel"] or "none", Directions())
                if key["direction"] == "incoming":
                    of_channel.incoming += rows
                else:
                    of_channel.outgoing += rows
            elif counts and key["target_type"] is not None:
                totals = types.setdefault(key["target_type"], TypeTotals())
                if key["direction"] == "incoming":
                    totals.ledger_in += rows
                else:
                    totals.ledger_out += rows
        for group in await self._mongo.aggregate(TARGETS, _COUNTERS):
            totals = types.setdefault(group["_id"], TypeTotals())
            totals.targets, totals.contacted = group["targets"], group["contacted"]
            totals.contact_count_in, totals.contact_count_out = group["in"], group["out"]
            totals.contact_count = group["in"] + group["out"]
        return Totals(
            ledger_rows=facts["rows"],
            interactions=facts["heads"],
            deleted=facts["deleted"],
            unknown_direction=facts["unknown"],
            erased=facts["erased"],
            erased_attempts=dict(sorted(erased.items())),
            waiting=waiting,
            target_types=dict(sorted(types.items())),
            equal=all(
                (each.ledger_in, each.ledger_out) == (each.contact_count_in, each.contact_count_out)
                for each in types.values()
            ),
        )


def _type_of(field: str) -> dict[str, Any]:
    return {"$arrayElemAt": [{"$split": [field, "/"]}, 0]}


def _known(field: str) -> dict[str, Any]:
    return {"$gt": [field, None]}


_LEDGER: list[dict[str, Any]] = [
    {
        "$group": {
            "_id": {
                "target_type": {"$cond": [_known("$target"), _type_of("$target"), None]},
                "direction": "$direction",
                "deleted": _known("$deleted"),
                "erased": _known("$erased"),
                "channel": {"$cond": [_known("$erased"), {"$ifNull": ["$channel", None]}, None]},
                "waits": {"$ifNull": ["$waits", None]},
            },
            "rows": {"$sum": 1},
            "heads": {"$sum": {"$cond": [{"$eq": [{"$substrCP": ["$_id", 0, 1]}, "+"]}, 0, 1]}},
        }
    }
]


def _sum_of(name: str) -> dict[str, Any]:
    channels = {"$objectToArray": {"$ifNull": ["$channels", {}]}}
    return {
        "$sum": {"$map": {"input": channels, "as": "c", "in": {"$ifNull": [f"$$c.v.{name}", 0]}}},
    }


_COUNTERS: list[dict[str, Any]] = [
    {"$match": {"gone": {"$exists": False}}},
    {"$project": {"type": _type_of("$_id"), "in": _sum_of("in"), "out": _sum_of("out")}},
    {
        "$group": {
            "_id": "$type",
            "targets": {"$sum": 1},
            "contacted": {"$sum": {"$cond": [{"$gt": [{"$add": ["$in", "$out"]}, 0]}, 1, 0]}},
            "in": {"$sum": "$in"},
            "out": {"$sum": "$out"},
        }
    },
]
