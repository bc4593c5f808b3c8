"""What a flow made of an outcome reads the same in the demo's story and under an activity."""

from typing import Any

import pytest

from cli.followed import what_followed


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ({"action": "try_again", "outcome": "activity", "scheduled_at": "soon"}, "try again, due SOON"),
        (
            {"action": "try_again", "outcome": "exhausted", "reason": "all 2 attempts were made"},
            "try again: all 2 attempts were made",
        ),
        (
            {"action": "new_activity", "outcome": "chain_limit", "reason": "50 activities led here"},
            "new activity: 50 activities led here",
        ),
        ({"action": "finish", "outcome": "finished", "reason": "nobody there"}, "finish nobody there"),
        ({"action": "set_preference", "outcome": "preference", "reason": ""}, "set preference"),
    ],
)
def test_each_action_is_told_in_words(taken: dict[str, Any], said: str) -> None:
    decision = {"disposition": "no-answer", "actions": [taken]}
    assert what_followed(decision, str.upper) == [f"on no-answer: {said}"]


def test_that_nothing_follows_is_told() -> None:
    assert what_followed({"disposition": "sold", "actions": []}, str) == ["on sold: nothing follows"]
