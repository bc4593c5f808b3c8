"""Publish a draft, or bring back what an earlier version said."""

from __future__ import annotations

from collections.abc import Callable

from servicekit.clock import Clock
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Commands
from servicekit.verdict import Verdict
from workflow.domain.flow import Flow, publish, roll_back


class PublishDraft:
    def __init__(self, flows: Commands[Flow], clock: Clock) -> None:
        self._flows = flows
        self._clock = clock

    async def __call__(self, flow_id: str) -> Flow:
        """Raises NotFound or NothingToPublish."""
        return await _change(self._flows, flow_id, lambda flow: publish(flow, self._clock.now()))


class RollBack:
    def __init__(self, flows: Commands[Flow], clock: Clock) -> None:
        self._flows = flows
        self._clock = clock

    async def __call__(self, flow_id: str, number: int) -> Flow:
        """Raises NotFound or NoSuchVersion."""
        return await _change(self._flows, flow_id, lambda flow: roll_back(flow, number, self._clock.now()))


async def _change(flows: Commands[Flow], flow_id: str, decide: Callable[[Flow], Verdict[Flow]]) -> Flow:
    def decide_if_there(flow: Flow | None) -> Verdict[Flow]:
        if flow is None:
            raise NotFound("flow", flow_id)
        return decide(flow)

    flow, _ = await flows.change(flow_id, decide_if_there)
    assert flow is not None
    return flow
