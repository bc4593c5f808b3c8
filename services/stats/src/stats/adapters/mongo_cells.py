"""The cells of the reports. Manual work is kept twice: for all agents together, and for each of them.

There are few combinations without agents and many with them, and most reports do not ask for agents.
"""

from __future__ import annotations

import orjson
from pymongo import ASCENDING, IndexModel, UpdateOne

from servicekit.mongo import Mongo, Session
from stats.domain.reports import Cells, DecisionCells, of_all_agents

CELLS = "report_cells"
AGENT_CELLS = "agent_cells"
"""Of agents only; what no agent did is among the others."""

CELL_INDEXES = (
    IndexModel([("day", ASCENDING)], name="by_day"),
    IndexModel([("campaign_id", ASCENDING), ("day", ASCENDING)], name="by_campaign"),
)
AGENT_CELL_INDEXES = (*CELL_INDEXES, IndexModel([("agent", ASCENDING), ("day", ASCENDING)], name="by_agent"))


async def write_cells(mongo: Mongo, cells: Cells, shard: str, session: Session | None = None) -> None:
    """Add these numbers to what is there."""
    of_agents = {cell: numbers for cell, numbers in cells.items() if cell.agent is not None}
    for collection, part in ((CELLS, of_all_agents(cells)), (AGENT_CELLS, of_agents)):
        if updates := cell_updates(part, shard):
            await mongo[collection].bulk_write(updates, ordered=False, session=session)


def cell_updates(cells: Cells | DecisionCells, shard: str) -> list[UpdateOne]:
    updates = []
    for cell, numbers in cells.items():
        increments: dict[str, int] = {}
        for (quarter, measure), by in numbers.items():
            if by:
                total = f"day_total.{measure}"
                increments[total] = increments.get(total, 0) + by
                increments[f"quarters.{quarter}.{measure}"] = by
        if increments:
            updates.append(
                UpdateOne(
                    {"_id": orjson.dumps([shard, *cell]).decode()},
                    {"$inc": increments, "$setOnInsert": {**cell._asdict(), "shard": shard}},
                    upsert=True,
                )
            )
    return updates
