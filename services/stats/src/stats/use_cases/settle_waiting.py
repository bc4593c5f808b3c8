"""Rows get what they waited for: a time that has passed, a contact that is known, a type that counts."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from servicekit.clock import Clock
from servicekit.leases import Leases
from servicekit.mongo import Document, Mongo
from servicekit.resting import rest
from servicekit.settings import ServiceSettings
from stats.domain.ledger import head_id_of, is_contact, settled, type_of
from stats.use_cases.set_counting import Counting
from stats.use_cases.transactions import CHUNK, Rewriting
from stats.use_cases.worlds import Worlds

log = structlog.get_logger()

_PAGE = 1000


class SettleWaiting:
    """Walks all waiting rows, again and again; one replica at a time, and safe if it is two."""

    def __init__(
        self,
        mongo: Mongo,
        rewriting: Rewriting,
        worlds: Worlds,
        counting: Counting,
        clock: Clock,
        settings: ServiceSettings,
        every: float,
    ) -> None:
        self._rewriting = rewriting
        self._worlds = worlds
        self._counting = counting
        self._clock = clock
        self._every = every
        self._leases = Leases(mongo, "settle", settings.instance, settings.lease_seconds)

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            if 0 in await self._leases.held():
                await self.settle(stopping)
            await rest(stopping, self._every)
        await self._leases.release()

    async def settle(self, stopping: asyncio.Event | None = None) -> int:
        """One walk over everything that waits; returns how many interactions changed."""
        changed = 0
        for why in ("time", "contact", "enabling"):
            after = ""
            while not (stopping and stopping.is_set()):
                rows = await self._page(why, after)
                if not rows:
                    break
                after = rows[-1]["_id"]
                ready = await self._ready(why, rows)
                heads = list(dict.fromkeys(head_id_of(row) for row in ready))
                for start in range(0, len(heads), CHUNK):
                    changed += await self._rewriting.interactions(heads[start : start + CHUNK], settled)
        if changed:
            log.info("waiting attempts settled", interactions=changed)
        return changed

    async def _page(self, why: str, after: str) -> list[Document]:
        wanted: dict[str, Any] = {"waits": why, "_id": {"$gt": after}}
        found = self._rewriting.ledger.rows.find(
            wanted, {"type": 1, "id": 1, "target": 1, "erased": 1, "at": 1}
        )
        rows: list[Document] = await found.sort([("waits", 1), ("_id", 1)]).limit(_PAGE).to_list(_PAGE)
        return rows

    async def _ready(self, why: str, rows: list[Document]) -> list[Document]:
        match why:
            case "time":
                now = self._clock.now()
                return [row for row in rows if row["at"] <= now]
            case "enabling":
                rules = await self._counting.rules()
                return [row for row in rows if rules.counts(type_of(row), row["type"])]
            case _:
                owners = {row["target"] for row in rows if is_contact(row["target"])}
                known = await self._worlds.addresses(owners)
                # Others wait for the contact of their interaction, which only the decision knows.
                return [row for row in rows if row["target"] in known or row["target"] not in owners]
