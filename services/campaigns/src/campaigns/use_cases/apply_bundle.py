from __future__ import annotations

import structlog

from campaigns.domain.bundle import read
from campaigns.domain.plan import Plan, planned
from campaigns.ports import CatalogStores
from servicekit.conflicts import undisputed
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()


class ApplyBundle:
    """The whole of it in one transaction, or nothing. Raises InvalidBundle."""

    def __init__(self, stores: CatalogStores, committer: Committer) -> None:
        self._stores = stores
        self._committer = committer

    async def __call__(self, raw: object, *, dry_run: bool = False) -> Plan:
        return await undisputed(lambda: self._apply(raw, dry_run), "the catalogue")

    async def _apply(self, raw: object, dry_run: bool) -> Plan:
        standing = await self._stores.everything()
        plan = planned(read(raw, standing), standing)
        if not dry_run:
            await self._committer.commit(self._changes(plan))
            log.info("bundle applied", created=plan.created, changed=plan.changed)
        return plan

    def _changes(self, plan: Plan) -> Changes:
        return Changes(
            [(self._stores.of(c.kind), c.standing, c.state) for c in plan.changes],
            self._committer.outbox.rows(c.state for c in plan.changes),
        )
