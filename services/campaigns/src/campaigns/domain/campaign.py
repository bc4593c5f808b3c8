"""The life of a campaign: draft -> running <-> paused -> stopped, for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from contracts.campaigns import CampaignChanged
from contracts.vocabulary import CampaignState
from servicekit.verdict import Become, Unchanged, Verdict

Move = Literal["start", "pause", "resume", "stop"]

_DRAFT, _RUNNING, _PAUSED, _STOPPED = CampaignState

_MOVES: Mapping[Move, tuple[frozenset[CampaignState], CampaignState]] = {
    "start": (frozenset({_DRAFT}), _RUNNING),
    "pause": (frozenset({_RUNNING}), _PAUSED),
    "resume": (frozenset({_PAUSED}), _RUNNING),
    "stop": (frozenset({_DRAFT, _RUNNING, _PAUSED}), _STOPPED),
}


class IllegalMove(ValueError):
    """The message names the state, the move, and the moves that are possible."""

    def __init__(self, code: str, state: CampaignState, move: Move) -> None:
        self.possible = tuple(name for name, (sources, _) in _MOVES.items() if state in sources)
        what = f"it can {' or '.join(self.possible)}" if self.possible else "that is final"
        super().__init__(f"campaign {code!r} is {state}; it cannot {move}, {what}")


def moved(campaign: CampaignChanged, move: Move) -> Verdict[CampaignChanged]:
    """A move to where it is already changes nothing; any other illegal one raises IllegalMove."""
    sources, target = _MOVES[move]
    if campaign.state is target:
        return Unchanged(f"it is {target} already")
    if campaign.state not in sources:
        raise IllegalMove(campaign.code, campaign.state, move)
    changed = campaign.evolve(state=target, version=campaign.version + 1)
    return Become(changed, (changed,))


def may_become(state: CampaignState, wanted: CampaignState) -> bool:
    """Whether a configuration may name that state for a campaign that stands."""
    return state is wanted or any(
        state in sources and wanted is target for sources, target in _MOVES.values()
    )
