"""Counters as a function of the ledger. The live path and a recalculation use the same one.

What is kept of a target: for each channel how many attempts there were in each direction and when the
last one was. Everything else is a sum or a maximum of these, so it cannot disagree with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from contracts.stats import AttemptCounters
from stats.domain.ledger import Row, TargetKey, attempt_of, is_attempt, is_dated
from stats.domain.reports import Cells, count_attempt

Lane = tuple[TargetKey, str, str]
"""Target, channel, direction: where one attempt counts."""

Channels = Mapping[str, Mapping[str, Any]]
"""Channel -> `in`, `out`, `last_in`, `last_out`; what is absent is 0 or never."""

COUNT = {"incoming": "in", "outgoing": "out"}
LAST = {"incoming": "last_in", "outgoing": "last_out"}


@dataclass(slots=True)
class Tally:
    """What a set of changes in the ledger does to the counters.

    latest: the newest new date of a lane. fallen: lanes that lost a date, so that their last one is only
    known after looking at what remains. met: targets that got a row, whether it counts or not.
    """

    counts: dict[Lane, int] = field(default_factory=dict)
    latest: dict[Lane, datetime] = field(default_factory=dict)
    fallen: set[Lane] = field(default_factory=set)
    met: set[TargetKey] = field(default_factory=set)
    cells: Cells = field(default_factory=dict)

    def change(self, before: Sequence[Row], after: Sequence[Row]) -> None:
        """One interaction's rows became these."""
        unmoved: Collection[Any] = ()
        if before:
            unmoved = {_place(row) for row in before} & {_place(row) for row in after}
        for row in before:
            if is_attempt(row) and _place(row) not in unmoved:
                self.add(row, -1)
                if is_dated(row):
                    self.fallen.add((row["target"], row["channel"], row["direction"]))
        for row in after:
            if "target" in row and not (unmoved and _place(row) in unmoved):
                self.met.add(row["target"])
                if is_attempt(row):
                    self.add(row, 1)
        if before:
            then = attempt_of(before)
            if then is not None:
                count_attempt(self.cells, then, -1)
        now = attempt_of(after)
        if now is not None:
            count_attempt(self.cells, now, 1)

    def add(self, row: Row, sign: int) -> None:
        """One attempt more, or one less."""
        lane = (row["target"], row["channel"], row["direction"])
        self.counts[lane] = self.counts.get(lane, 0) + sign
        if sign > 0 and "waits" not in row:
            standing = self.latest.get(lane)
            if standing is None or row["at"] > standing:
                self.latest[lane] = row["at"]


def _place(row: Row) -> tuple[Any, ...]:
    """All that a row's effect on the counters depends on."""
    return (
        row.get("target"),
        row.get("channel"),
        row["direction"],
        row.get("at"),
        is_attempt(row),
        row.get("waits"),
    )


class Recount:
    """The channels of targets from nothing but their rows, one row at a time."""

    def __init__(self) -> None:
        self._tally = Tally()

    def add(self, row: Row) -> None:
        if is_attempt(row):
            self._tally.add(row, 1)

    def channels(self) -> dict[TargetKey, dict[str, dict[str, Any]]]:
        counted: dict[TargetKey, dict[str, dict[str, Any]]] = {}
        for lane, count in self._tally.counts.items():
            target, channel, direction = lane
            numbers = counted.setdefault(target, {}).setdefault(channel, {})
            numbers[COUNT[direction]] = count
            if lane in self._tally.latest:
                numbers[LAST[direction]] = self._tally.latest[lane]
        return counted


def canonical(channels: Channels | None) -> dict[str, dict[str, Any]]:
    """Without what is zero or never, so that equal numbers are equal documents."""
    kept = {
        channel: {name: numbers[name] for name in ("in", "out", "last_in", "last_out") if numbers.get(name)}
        for channel, numbers in sorted((channels or {}).items())
    }
    return {channel: numbers for channel, numbers in kept.items() if numbers}


def counters_of(numbers: Mapping[str, Any]) -> AttemptCounters:
    incoming, outgoing = numbers.get("in", 0), numbers.get("out", 0)
    last_in, last_out = numbers.get("last_in"), numbers.get("last_out")
    return AttemptCounters(
        contact_count=incoming + outgoing,
        contact_count_in=incoming,
        contact_count_out=outgoing,
        last_contact_at=_later(last_in, last_out),
        last_contact_at_in=last_in,
        last_contact_at_out=last_out,
    )


def total_of(each: Iterable[Mapping[str, Any]]) -> AttemptCounters:
    together: dict[str, Any] = {"in": 0, "out": 0, "last_in": None, "last_out": None}
    for numbers in each:
        together["in"] += numbers.get("in", 0)
        together["out"] += numbers.get("out", 0)
        together["last_in"] = _later(together["last_in"], numbers.get("last_in"))
        together["last_out"] = _later(together["last_out"], numbers.get("last_out"))
    return counters_of(together)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
