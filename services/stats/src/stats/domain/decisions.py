"""A verdict of the policy gate as it is kept, and what it adds to the reports."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from contracts.activities import ActivityDecided
from stats.domain.reports import DECISIONS, DecisionCell, DecisionCells, add, quarter_of

Row = dict[str, Any]


def row_id(message: ActivityDecided) -> str:
    """Tells a repeat, and nothing of the activity: it stays when the contact is erased."""
    return blake2b(message.identity().encode(), digest_size=16).hexdigest()


def row_of(message: ActivityDecided) -> Row:
    row: dict[str, Any] = {
        "_id": row_id(message),
        "activity_id": message.activity_id,
        "contact_id": message.contact_id,
        "campaign_id": message.campaign_id,
        "channel": message.channel,
        "verdict": str(message.verdict),
        "reason": message.reason,
        "until": message.until,
        "inputs": message.inputs,
        "decided_at": message.decided_at,
    }
    return {name: value for name, value in row.items() if value is not None}


def cells_of(rows: Sequence[Row]) -> DecisionCells:
    cells: DecisionCells = {}
    for row in rows:
        day, quarter = quarter_of(row["decided_at"])
        cell = DecisionCell(day, row.get("campaign_id"), row.get("channel"), row["verdict"], row["reason"])
        add(cells, cell, quarter, DECISIONS, 1)
    return cells
