"""Bring flows to what a bundle says: all of them, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from servicekit.clock import Clock
from servicekit.conflicts import undisputed
from servicekit.unit_of_work import Changes, Committer, Store
from servicekit.verdict import Become
from workflow.domain.flow import Flow, FlowSpec, save


class Applied(BaseModel):
    flow_id: str
    subject: str
    campaign: str | None
    result: Literal["published", "drafted", "unchanged"]
    version: int | None
    """The latest published version of the rules."""


class InvalidFlows(Exception):
    """Each fault is a sentence that begins with its place."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class ApplyFlows:
    def __init__(self, store: Store[Flow], committer: Committer, clock: Clock) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock

    async def __call__(
        self, specs: Sequence[FlowSpec], *, publish: bool, dry_run: bool = False
    ) -> list[Applied]:
        """Raises InvalidFlows, and then nothing was written; a dry run never writes."""
        if faults := faults_of(specs):
            raise InvalidFlows(faults)
        return await undisputed(lambda: self._apply(specs, publish, dry_run), "a flow")

    async def _apply(self, specs: Sequence[FlowSpec], publish: bool, dry_run: bool) -> list[Applied]:
        standing = await self._store.load([spec.flow_id for spec in specs])
        now = self._clock.now()
        changes, applied = Changes(), []
        for spec in specs:
            flow = standing.get(spec.flow_id)
            match save(flow, spec, publish, now):
                case Become() as become:
                    self._committer.add(changes, self._store, flow, become)
                    applied.append(_applied(become.state, "published" if publish else "drafted"))
                case _:
                    assert flow is not None
                    applied.append(_applied(flow, "unchanged"))
        if not dry_run:
            await self._committer.commit(changes)
        return applied


def faults_of(specs: Sequence[FlowSpec]) -> list[str]:
    faults: list[str] = []
    first_at: dict[str, int] = {}
    for index, spec in enumerate(specs):
        faults += spec.rules.faults(f"flows[{index}]")
        first = first_at.setdefault(spec.flow_id, index)
        if first != index:
            faults.append(f"flows[{index}]: has the same subject and campaign as flows[{first}]")
    return faults


def _applied(flow: Flow, result: Literal["published", "drafted", "unchanged"]) -> Applied:
    return Applied(
        flow_id=flow.flow_id,
        subject=flow.subject,
        campaign=flow.campaign,
        result=result,
        version=flow.latest.number if flow.latest else None,
    )
