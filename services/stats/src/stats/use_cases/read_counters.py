"""The statistics of one target, as somebody in a time zone sees them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel

from contracts.stats import AttemptCounters
from servicekit.clock import Clock
from servicekit.mongo import Document, Mongo
from stats.adapters.mongo_ledger import TARGETS
from stats.domain.counters import canonical, counters_of, total_of
from stats.domain.ledger import ERASED, target_key, target_of


class Counters(AttemptCounters):
    days_since_last_contact: int | None = None
    """Local calendar days in the viewer's zone; 0 is today."""


class Block(BaseModel):
    """What a statistics block shows."""

    headline: str
    last_contacted: AwareDatetime | None = None
    """In the viewer's zone."""
    direction: str | None = None
    """Of the arrow beside the last contact."""


class TargetStatistics(BaseModel):
    target_type: str
    target_id: str
    version: int
    """Grows with every change; 0 while nothing was ever counted."""
    zone: str
    total: Counters
    channels: dict[str, Counters]
    block: Block
    merged_into: str | None = None


class RollUp(BaseModel):
    """The numbers of a target's children, added up; its own are not in it."""

    target_type: str
    target_id: str
    zone: str
    children: int
    total: Counters
    channels: dict[str, Counters]


class ReadCounters:
    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._mongo = mongo
        self._clock = clock

    async def __call__(self, target_type: str, target_id: str, zone: ZoneInfo) -> TargetStatistics:
        document = await self._mongo[TARGETS].find_one({"_id": target_key(target_type, target_id)})
        return statistics(target_type, target_id, document or {}, zone, self._clock.now())

    async def roll_up(self, target_type: str, target_id: str, zone: ZoneInfo) -> RollUp:
        now = self._clock.now()
        # Who was merged away counts with the survivor, and belongs to whomever the survivor belongs to.
        children_of = {"parent": target_key(target_type, target_id), "gone": {"$exists": False}}
        found = self._mongo[TARGETS].find(children_of, {"channels": 1})
        children = 0
        each: dict[str, list[Mapping[str, Any]]] = {}
        async for child in found:
            children += 1
            for name, numbers in canonical(child.get("channels")).items():
                each.setdefault(name, []).append(numbers)
        return RollUp(
            target_type=target_type,
            target_id=target_id,
            zone=zone.key,
            children=children,
            total=_seen(total_of(numbers for lot in each.values() for numbers in lot), zone, now),
            channels={name: _seen(total_of(lot), zone, now) for name, lot in sorted(each.items())},
        )


def statistics(
    target_type: str, target_id: str, document: Document, zone: ZoneInfo, now: datetime
) -> TargetStatistics:
    channels = canonical(document.get("channels"))
    total = total_of(channels.values())
    gone = document.get("gone")
    return TargetStatistics(
        target_type=target_type,
        target_id=target_id,
        version=document.get("version", 0),
        zone=zone.key,
        total=_seen(total, zone, now),
        channels={name: _seen(counters_of(numbers), zone, now) for name, numbers in channels.items()},
        block=block_of(total, zone),
        merged_into=target_of(gone)[1] if gone and gone != ERASED else None,
    )


def days_since(at: datetime | None, zone: ZoneInfo, now: datetime) -> int | None:
    if at is None:
        return None
    return max(0, (now.astimezone(zone).date() - at.astimezone(zone).date()).days)


def block_of(total: AttemptCounters, zone: ZoneInfo) -> Block:
    if total.contact_count == 0:
        return Block(headline="Not contacted yet")
    headline = f"Times contacted: {total.contact_count}"
    last = total.last_contact_at
    if last is None:
        return Block(headline=headline)
    direction = "incoming" if total.last_contact_at_in == last else "outgoing"
    return Block(headline=headline, last_contacted=last.astimezone(zone), direction=direction)


def _seen(counters: AttemptCounters, zone: ZoneInfo, now: datetime) -> Counters:
    return Counters(
        **counters.model_dump(), days_since_last_contact=days_since(counters.last_contact_at, zone, now)
    )
