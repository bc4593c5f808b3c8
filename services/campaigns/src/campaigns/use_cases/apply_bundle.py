from __future__ import annotations

import asyncio

import structlog

from campaigns.adapters.mongo_catalog import CatalogStores
from campaigns.domain.bundle import read
from campaigns.domain.plan import Plan, planned
from servicekit.mongo import Conflict
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_TRIES = 10


class ApplyBundle:
    """The whole of it in one transaction, or nothing. Raises InvalidBundle."""

    def __init__(self, stores: CatalogStores, committer: Committer) -> None:
        self._stores = stores
        self._committer = committer

    async def __call__(self, raw: object, *, dry_run: bool = False) -> Plan:
        for attempt in range(_TRIES):
            standing = await self._stores.everything()
            plan = planned(read(raw, standing), standing)
            if dry_run:
                return plan
            try:
                await self._committer.commit(self._changes(plan))
            except Conflict:
                await asyncio.sleep(0.01 * 2**attempt)
                continue
            log.info("bundle applied", created=plan.created, changed=plan.changed)
            return plan
        raise Conflict("the catalogue changed faster than the bundle could be applied")

    def _changes(self, plan: Plan) -> Changes:
        return Changes(
            [(self._stores.of(c.kind), c.standing, c.state) for c in plan.changes],
            self._committer.outbox.rows(c.state for c in plan.changes),
        )
