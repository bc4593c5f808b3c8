from __future__ import annotations

import structlog

from campaigns.domain.bundle import read
from campaigns.domain.plan import Plan, planned
from campaigns.ports import CatalogStores
from servicekit.conflicts import undisputed
from servicekit.refusals import expect_none_if_asked, expect_version
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()


class ApplyBundle:
    """The whole of it in one transaction, or nothing. Raises InvalidBundle, VersionMoved, StandsAlready."""

    def __init__(self, stores: CatalogStores, committer: Committer) -> None:
        self._stores = stores
        self._committer = committer

    async def __call__(self, raw: object, *, dry_run: bool = False, version: int | None = None) -> Plan:
        """version: of what is to be changed, as its author saw it; to say what stands already needs none.
        NO_VERSION: nothing that it names may stand."""
        return await undisputed(lambda: self._apply(raw, dry_run, version), "the catalogue")

    async def _apply(self, raw: object, dry_run: bool, version: int | None) -> Plan:
        standing = await self._stores.everything()
        plan = planned(read(raw, standing), standing)
        expect_none_if_asked(version, stands=bool(plan.unchanged))
        for change in plan.changes:
            expect_version(version, change.standing)
        if not dry_run:
            await self._committer.commit(self._changes(plan))
            log.info("bundle applied", created=plan.created, changed=plan.changed)
        return plan

    def _changes(self, plan: Plan) -> Changes:
        return Changes(
            [(self._stores.of(c.kind), c.standing, c.state) for c in plan.changes],
            self._committer.outbox.rows(c.state for c in plan.changes),
        )
