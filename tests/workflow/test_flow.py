"""Flows and their versions, and which of them a completion finishes under."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.campaigns import catalog_id
from servicekit.verdict import Become, Unchanged
from tests.workflow.builders import NOON, by_id, completed, flow, published, spec
from workflow.domain.flow import Flow, NoSuchVersion, NothingToPublish, choose, publish, roll_back, save

FINISH: dict[str, Any] = {"no-answer": [{"finish": {}}]}
RETRY: dict[str, Any] = {"no-answer": [{"try_again": {"max_attempts": 3}}]}
HOUR = timedelta(hours=1)


def version_for(flow: Flow, **changes: Any) -> int:
    chosen = choose(completed(**changes), by_id(flow))
    assert chosen
    return chosen[1].number


def test_the_same_rules_again_change_nothing() -> None:
    assert isinstance(save(flow(FINISH), spec(FINISH), True, NOON + HOUR), Unchanged)


def test_other_rules_are_the_next_version() -> None:
    changed = published(flow(FINISH), RETRY, NOON + HOUR)
    assert [version.number for version in changed.published] == [1, 2]
    assert changed.version == 2


def test_a_draft_is_not_in_force_until_it_is_published() -> None:
    saved = save(flow(FINISH), spec(RETRY), False, NOON)
    assert isinstance(saved, Become)
    assert len(saved.state.published) == 1
    assert isinstance(save(saved.state, spec(RETRY), False, NOON), Unchanged)
    live = publish(saved.state, NOON + HOUR)
    assert isinstance(live, Become)
    assert live.state.draft is None
    assert live.state.published[-1].rules == spec(RETRY).rules
    with pytest.raises(NothingToPublish):
        publish(live.state, NOON)


def test_applying_what_is_in_force_drops_a_draft() -> None:
    drafted = save(flow(FINISH), spec(RETRY), False, NOON)
    assert isinstance(drafted, Become)
    applied = save(drafted.state, spec(FINISH), True, NOON)
    assert isinstance(applied, Become)
    assert applied.state.draft is None
    assert len(applied.state.published) == 1


def test_a_roll_back_is_a_version_of_its_own() -> None:
    two = published(flow(FINISH), RETRY, NOON + HOUR)
    back = roll_back(two, 1, NOON + 2 * HOUR)
    assert isinstance(back, Become)
    latest = back.state.published[-1]
    assert (latest.number, latest.restores, latest.rules) == (3, 1, two.published[0].rules)
    assert isinstance(roll_back(back.state, 1, NOON), Unchanged)
    with pytest.raises(NoSuchVersion, match="Version 9 was never published; there are 1 to 3"):
        roll_back(back.state, 9, NOON)


def test_an_activity_finishes_under_the_version_it_was_created_under() -> None:
    two = published(flow(FINISH, NOON), RETRY, NOON + HOUR)
    assert version_for(two, created_at=NOON + HOUR / 2, completed_at=NOON + 5 * HOUR) == 1
    assert version_for(two, created_at=NOON + HOUR) == 2


def test_an_activity_older_than_every_version_finishes_under_the_first() -> None:
    two = published(flow(FINISH, NOON), RETRY, NOON + HOUR)
    assert version_for(two, created_at=NOON - HOUR) == 1


def test_a_flow_may_say_that_its_latest_version_applies() -> None:
    two = published(flow(FINISH, NOON), RETRY, NOON + HOUR, applies="latest")
    assert version_for(two, created_at=NOON) == 2


def test_a_clock_set_back_does_not_reorder_versions() -> None:
    two = published(flow(FINISH, NOON), RETRY, NOON - HOUR)
    assert two.published[1].effective_from == NOON
    assert version_for(two, created_at=NOON) == 2


def test_the_flow_of_the_campaign_beats_that_of_the_subject() -> None:
    general, special = flow(FINISH), flow(RETRY, campaign="spring")
    chosen = choose(completed(), by_id(general, special))
    assert chosen
    assert chosen[0] == special
    elsewhere = choose(completed(campaign_id=catalog_id("campaign", "autumn")), by_id(general, special))
    assert elsewhere
    assert elsewhere[0] == general


def test_a_campaign_flow_made_later_leaves_older_activities_to_the_subject() -> None:
    general, special = flow(FINISH, NOON), flow(RETRY, NOON + HOUR, campaign="spring")
    chosen = choose(completed(created_at=NOON), by_id(general, special))
    assert chosen
    assert chosen[0] == general


def test_a_draft_alone_is_no_flow() -> None:
    drafted = save(None, spec(FINISH), False, NOON)
    assert isinstance(drafted, Become)
    assert choose(completed(), by_id(drafted.state)) is None


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        (
            {"sold": [{"finish": {}}, {"new_activity": {}}]},
            "f.when.sold[0]: nothing runs after finish, so it must be the last action of its list",
        ),
        (
            {"a": [{"try_again": {"max_attempts": 2}}, {"try_again": {"max_attempts": 3}}]},
            "f.when.a[1]: a second try_again in one list would double the attempts",
        ),
        (
            {"a": [{"try_again": {"max_attempts": 3, "exhausted": [{"try_again": {"max_attempts": 3}}]}}]},
            "f.when.a[0].exhausted[0].max_attempts: 3 is never reached here, "
            "since 3 attempts are already used up; use more",
        ),
        (
            {"a": [{"new_activity": {"mode": "automated"}}]},
            "f.when.a[0].channel: an automated activity needs a channel",
        ),
        (
            {"a": [{"new_activity": {"endpoint": "main"}}]},
            "f.when.a[0].channel: an endpoint needs its channel",
        ),
    ],
)
def test_rules_that_cannot_be_meant_are_named(when: dict[str, object], fault: str) -> None:
    assert list(spec(when).rules.faults("f")) == [fault]


def test_rules_that_can_be_meant_have_no_fault() -> None:
    retry = {"max_attempts": 3, "exhausted": [{"try_again": {"max_attempts": 5, "delay": "1d"}}]}
    assert list(spec({"a": [{"try_again": retry}, {"finish": None}]}).rules.faults("f")) == []


@pytest.mark.parametrize("when", [{}, {"Sold!": [{"finish": {}}]}])
def test_empty_or_unnamed_branches_are_refused(when: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec(when)
