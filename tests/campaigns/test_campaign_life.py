import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.domain.campaign import IllegalMove, Move, moved
from contracts.campaigns import CampaignChanged, catalog_id
from contracts.vocabulary import CampaignId, CampaignState
from servicekit.verdict import Become, Unchanged

MOVES: tuple[Move, ...] = ("start", "pause", "resume", "stop")


def a_campaign(state: str = "draft") -> CampaignChanged:
    return CampaignChanged(
        campaign_id=CampaignId(catalog_id("campaign", "spring")),
        version=1,
        code="spring",
        name="Spring",
        channel="sms",
        state=CampaignState(state),
    )


@pytest.mark.parametrize(
    ("state", "move", "target"),
    [
        ("draft", "start", "running"),
        ("running", "pause", "paused"),
        ("paused", "resume", "running"),
        ("running", "stop", "stopped"),
        ("paused", "stop", "stopped"),
        ("draft", "stop", "stopped"),
    ],
)
def test_a_legal_move_is_announced(state: str, move: Move, target: str) -> None:
    verdict = moved(a_campaign(state), move)
    assert isinstance(verdict, Become)
    assert (verdict.state.state, verdict.state.version, verdict.messages) == (target, 2, (verdict.state,))


@pytest.mark.parametrize(
    ("state", "move", "says"),
    [
        ("draft", "pause", "it can start or stop"),
        ("draft", "resume", "it can start or stop"),
        ("stopped", "start", "that is final"),
        ("stopped", "resume", "that is final"),
    ],
)
def test_an_illegal_move_is_refused_by_name(state: str, move: Move, says: str) -> None:
    with pytest.raises(IllegalMove, match=says):
        moved(a_campaign(state), move)


@pytest.mark.parametrize(
    ("state", "move"), [("running", "start"), ("running", "resume"), ("paused", "pause")]
)
def test_a_move_to_where_it_is_already_changes_nothing(state: str, move: Move) -> None:
    assert isinstance(moved(a_campaign(state), move), Unchanged)


@given(st.lists(st.sampled_from(MOVES)))
def test_a_stopped_campaign_never_moves_again(moves: list[Move]) -> None:
    campaign, stopped = a_campaign(), False
    for move in moves:
        try:
            verdict = moved(campaign, move)
        except IllegalMove:
            continue
        if isinstance(verdict, Become):
            assert not stopped
            campaign = verdict.state
        stopped = campaign.state is CampaignState.STOPPED
