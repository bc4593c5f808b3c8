from __future__ import annotations

from dataclasses import dataclass

import structlog

from campaigns.domain.bundle import read
from campaigns.domain.kinds import Kind
from campaigns.domain.plan import Plan, planned
from campaigns.ports import CatalogStores
from servicekit.conflicts import undisputed
from servicekit.refusals import expect_version
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """The item that its author saw; without a version they do not mind which one stands."""

    kind: Kind
    code: str
    version: int | None


class ApplyBundle:
    """The whole of it in one transaction, or nothing. Raises InvalidBundle, VersionMoved."""

    def __init__(self, stores: CatalogStores, committer: Committer) -> None:
        self._stores = stores
        self._committer = committer

    async def __call__(self, raw: object, *, dry_run: bool = False, seen: Seen | None = None) -> Plan:
        return await undisputed(lambda: self._apply(raw, dry_run, seen), "the catalogue")

    async def _apply(self, raw: object, dry_run: bool, seen: Seen | None) -> Plan:
        standing = await self._stores.everything()
        if seen is not None:
            expect_version(seen.version, standing.get(seen.kind.plural, {}).get(seen.code))
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
