"""Activities of somebody who was erased, and those that were being written when the erasure came. Beside the
consumer of contacts: somebody with a thousand activities keeps nobody's opt-out waiting."""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import Counter

from activities.use_cases.forget_contacts import ForgetContacts
from servicekit.clock import real_now
from servicekit.conflicts import Conflict
from servicekit.leases import Leases
from servicekit.lookouts import Lookout, Lookouts
from servicekit.pipeline import is_dependency
from servicekit.resting import repeat

log = structlog.get_logger()

_BATCH = 50
_REST_SECONDS = 0.5


class LookForErased:
    """Again is harmless: what is forgotten stays so."""

    def __init__(
        self, erasures: Lookouts, forget: ForgetContacts, leases: Leases, set_aside: Counter
    ) -> None:
        self._set_aside = set_aside
        self._erasures = erasures
        self._forget = forget
        self._leases = leases

    async def run(self, stopping: asyncio.Event) -> None:
        await repeat(stopping, self.step, self._leases, _REST_SECONDS)

    async def step(self) -> int:
        """One batch. Returns how many people were looked for."""
        buckets = await self._leases.held()
        if not buckets:
            return 0
        due = await self._erasures.due(real_now(), buckets, _BATCH)
        for erasure in due:
            left = not await self._forgotten(erasure)
            await self._erasures.look_again_or_end(erasure, left, real_now())
        return len(due)

    async def _forgotten(self, erasure: Lookout) -> bool:
        try:
            await self._forget([erasure.id])
        except Conflict:
            return False
        except Exception as error:
            if is_dependency(error):
                raise
            log.exception("a contact could not be forgotten", contact_id=erasure.id)
            self._set_aside.inc()
            return False
        return True
