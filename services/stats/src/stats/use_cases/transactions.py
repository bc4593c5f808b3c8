"""How the background and the commands change interactions: read, decide, write, again if something moved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from servicekit.conflicts import undisputed
from servicekit.mongo import Session
from stats.adapters.mongo_ledger import MongoLedger, Work
from stats.domain.ledger import Row, TargetKey, World, head_id_of
from stats.use_cases.worlds import Worlds

CHUNK = 250
"""Interactions in one transaction; with their counters and cells well under a thousand documents."""

_MOST_ROWS = 1000
"""The same, where an interaction has many."""

Decide = Callable[[list[Row], World], list[Row] | None]


class Rewriting:
    def __init__(self, ledger: MongoLedger, worlds: Worlds) -> None:
        self.ledger = ledger
        self._worlds = worlds

    async def interactions(
        self, heads: Collection[str], decide: Decide, leaving: TargetKey | None = None
    ) -> int:
        """Writes what `decide` makes of each interaction that exists; returns how many changed.

        leaving: the target that these interactions are taken from, because it is gone.
        """

        async def rewrite(part: Collection[str]) -> int:
            async with self.ledger.transaction() as session:
                return await self._rewrite(part, decide, Work(leaving=leaving), session)

        return sum(
            [
                await undisputed(partial(rewrite, part), "an interaction")
                for part in parts_of(await self.ledger.links_of(heads))
            ]
        )

    async def _rewrite(self, heads: Collection[str], decide: Decide, work: Work, session: Session) -> int:
        found = await self.ledger.interactions(heads, session)
        world = await self._worlds.around_rows(found.values(), session)
        changed = 0
        for rows in found.values():
            after = decide(rows, world)
            if after is not None and after != rows:
                work.change(rows, after)
                changed += 1
        if work:
            await self.ledger.write(work, session)
        return changed

    async def heads_of(self, target: str, session: Session | None = None) -> list[str]:
        """Some of the interactions linked to a target; none when there are no more."""
        rows = self.ledger.rows.find({"target": target}, {"type": 1, "id": 1}, session=session).limit(CHUNK)
        return [head_id_of(row) async for row in rows]


def parts_of(links: Mapping[str, int]) -> Iterator[list[str]]:
    """Heads that fit into a transaction each; one alone whatever it has. links: rows of each."""
    part: list[str] = []
    rows = 0
    for head, more in links.items():
        if part and rows + more > _MOST_ROWS:
            yield part
            part, rows = [], 0
        part.append(head)
        rows += more
    if part:
        yield part
