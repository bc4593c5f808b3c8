"""What follows a completed activity."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.activities import ActivityCompleted, ActivityCreated
from contracts.campaigns import catalog_id
from contracts.contacts import SetPreference
from contracts.message import Message, stable_id
from contracts.vocabulary import ContactId, PreferenceKind
from servicekit.verdict import Become, Unchanged
from tests.workflow.builders import NOON, by_id, completed, flow, follow_up_id, spec
from workflow.domain.actions import MOST_ACTIONS
from workflow.domain.decision import CHAIN_LIMIT, Decision, decide, decided
from workflow.domain.flow import Flow

THREE_TRIES = {
    "no-answer": [{"try_again": {"max_attempts": 3, "delay": "2h", "exhausted": [{"finish": {}}]}}]
}


def follow(when: dict[str, Any], done: ActivityCompleted) -> tuple[Decision, tuple[Message, ...]]:
    return decided(done, by_id(flow(when)))


def only_activity(when: dict[str, Any], done: ActivityCompleted) -> ActivityCreated:
    _, (message,) = follow(when, done)
    assert isinstance(message, ActivityCreated)
    return message


def test_trying_again_keeps_what_the_activity_was() -> None:
    done = completed(destination="+12165550177")
    again = only_activity(THREE_TRIES, done)
    kept = {
        "contact_id",
        "kind",
        "mode",
        "subject_id",
        "campaign_id",
        "channel",
        "endpoint_id",
        "destination",
    }
    kept |= {"agent_profile_id", "urgency", "instructions", "owner"}
    assert again.model_dump(include=kept) == done.model_dump(include=kept)


def test_trying_again_is_the_next_attempt_of_the_same_chain() -> None:
    again = only_activity(THREE_TRIES, completed(attempt_number=2, chain_depth=4, root_id="first"))
    assert (again.attempt_number, again.chain_depth) == (3, 5)
    assert (again.parent_id, again.root_id) == ("activity-1", "first")
    assert again.activity_id == follow_up_id("no-answer/0")
    assert again.source == "workflow"
    assert again.scheduled_at == NOON + timedelta(hours=2)


def test_the_first_of_a_chain_is_the_root_of_the_second() -> None:
    assert only_activity(THREE_TRIES, completed()).root_id == "activity-1"


def test_a_follow_up_says_it_was_made_when_its_cause_was_completed() -> None:
    done = completed(completed_at=NOON + timedelta(days=3))
    assert only_activity(THREE_TRIES, done).created_at == done.completed_at


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_three_attempts_are_three_attempts(attempt: int, again: bool) -> None:
    decision, messages = follow(THREE_TRIES, completed(attempt_number=attempt))
    assert len(messages) == again
    assert [taken.outcome for taken in decision.actions] == (
        ["activity"] if again else ["exhausted", "finished"]
    )


def test_an_exhausted_branch_has_ids_of_its_own() -> None:
    when = {"no-answer": [{"try_again": {"max_attempts": 1, "exhausted": [{"new_activity": {}}]}}]}
    assert only_activity(when, completed()).activity_id == follow_up_id("no-answer/0/exhausted/0")


@pytest.mark.parametrize(("owner", "expected"), [("same", "maria"), ("none", None), ("joe", "joe")])
def test_the_owner_is_kept_dropped_or_named(owner: str, expected: str | None) -> None:
    assert (
        only_activity({"a": [{"try_again": {"max_attempts": 2, "owner": owner}}]}, completed("a")).owner
        == expected
    )
    assert only_activity({"a": [{"new_activity": {"owner": owner}}]}, completed("a")).owner == expected


def test_a_new_activity_is_what_the_flow_says() -> None:
    wanted = {
        "subject": "onboarding",
        "campaign": "welcome",
        "kind": "call",
        "mode": "automated",
        "channel": "voice",
        "endpoint": "line-1",
        "agent_profile": "scripted",
        "delay": "2d",
        "owner": "joe",
        "urgency": "low",
        "instructions": "Say hello.",
    }
    made = only_activity({"sold": [{"new_activity": wanted}]}, completed("sold", attempt_number=3))
    assert made.subject_id == catalog_id("subject", "onboarding")
    assert made.campaign_id == catalog_id("campaign", "welcome")
    assert made.endpoint_id == catalog_id("endpoint", "line-1")
    assert made.agent_profile_id == catalog_id("agent-profile", "scripted")
    assert (made.kind, made.mode, made.channel, made.owner) == ("call", "automated", "voice", "joe")
    assert (made.urgency, made.instructions, made.attempt_number) == ("low", "Say hello.", 1)
    assert made.scheduled_at == NOON + timedelta(days=2)


def test_a_new_activity_is_a_task_for_anybody_of_the_same_subject_and_campaign_unless_told() -> None:
    made = only_activity({"sold": [{"new_activity": {}}]}, completed("sold"))
    done = completed("sold")
    assert (made.subject_id, made.campaign_id) == (done.subject_id, done.campaign_id)
    assert (made.kind, made.mode, made.channel, made.endpoint_id, made.owner) == (
        "task",
        "manual",
        None,
        None,
        None,
    )
    assert only_activity({"sold": [{"new_activity": {"campaign": "none"}}]}, done).campaign_id is None


@pytest.mark.parametrize(("channel", "endpoint"), [("sms", "endpoint-1"), ("voice", None)])
def test_a_new_activity_on_the_same_channel_keeps_the_endpoint(channel: str, endpoint: str | None) -> None:
    made = only_activity({"sold": [{"new_activity": {"channel": channel}}]}, completed("sold"))
    assert made.endpoint_id == endpoint


def test_preparation_notes_become_the_instructions() -> None:
    done = completed(preparation_notes="Ask for Dana.")
    assert only_activity(THREE_TRIES, done).instructions == "Ask for Dana."
    when = {"no-answer": [{"new_activity": {"instructions": "Say hello."}}]}
    assert only_activity(when, done).instructions == "Ask for Dana.\n\nSay hello."


def test_a_preference_is_set_by_whoever_completed_it() -> None:
    when = {"opted-out": [{"set_preference": {"preference": "do-not-sms", "opted_out": True}}]}
    decision, (command,) = follow(when, completed("opted-out"))
    assert command == SetPreference(
        command_id=stable_id("preference", "activity-1", "opted-out/0"),
        contact_id=ContactId("contact-1"),
        preference=PreferenceKind.DO_NOT_SMS,
        opted_out=True,
        source="workflow",
        actor="channel-sms",
        occurred_at=NOON,
    )
    assert decision.actions[0].produced_id == command.identity()


def test_actions_are_done_in_their_order() -> None:
    when = {
        "sold": [
            {"set_preference": {"preference": "do-not-call", "opted_out": False}},
            {"new_activity": {"subject": "onboarding"}},
            {"finish": {"reason": "well done"}},
        ]
    }
    decision, messages = follow(when, completed("sold"))
    assert [type(message) for message in messages] == [SetPreference, ActivityCreated]
    assert [taken.action for taken in decision.actions] == ["set_preference", "new_activity", "finish"]
    assert decision.actions[-1].reason == "well done"


@pytest.mark.parametrize("depth", [CHAIN_LIMIT, CHAIN_LIMIT + 1, 5000])
def test_a_chain_ends_after_fifty(depth: int) -> None:
    decision, messages = follow(THREE_TRIES, completed(chain_depth=depth))
    assert messages == ()
    assert decision.actions[0].outcome == "chain_limit"
    assert "a chain ends after 50" in decision.actions[0].reason


def test_without_a_flow_nothing_follows_and_that_is_kept() -> None:
    verdict = decide(completed(), None, {})
    assert isinstance(verdict, Become)
    assert (verdict.state.result, verdict.messages) == ("no_flow", ())


def test_without_a_branch_nothing_follows_and_the_flow_is_named() -> None:
    rules = flow(THREE_TRIES)
    verdict = decide(completed("sold"), None, by_id(rules))
    assert isinstance(verdict, Become)
    assert (verdict.state.result, verdict.state.flow_id) == ("no_flow", rules.flow_id)
    assert verdict.messages == ()


def test_a_decision_is_made_once() -> None:
    decision, _ = follow(THREE_TRIES, completed())
    assert decide(completed(), decision, by_id(flow({"no-answer": [{"finish": {}}]}))) == Unchanged(
        "already decided"
    )


# Whatever a flow says

DELAYS = st.sampled_from([None, "90s", "2h", "1d", "P2W", "1d12h"])


def retries(exhausted: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    details = {"max_attempts": st.integers(1, 6), "delay": DELAYS, "exhausted": exhausted}
    return st.fixed_dictionaries({"try_again": st.fixed_dictionaries(details)})


LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"finish": {}}),
    st.fixed_dictionaries({"new_activity": st.fixed_dictionaries({"delay": DELAYS})}),
    st.fixed_dictionaries(
        {
            "set_preference": st.fixed_dictionaries(
                {"preference": st.just("do-not-sms"), "opted_out": st.booleans()}
            )
        }
    ),
)
ACTIONS = st.recursive(LEAVES, lambda inner: retries(st.lists(inner, max_size=3)), max_leaves=8)
BRANCHES = st.lists(ACTIONS, min_size=1, max_size=6)
COMPLETIONS = st.builds(
    completed,
    st.just("any"),
    activity_id=st.sampled_from(["a", "b"]),
    attempt_number=st.integers(1, 8),
    chain_depth=st.integers(0, CHAIN_LIMIT + 2),
    contact_time_zone=st.sampled_from([None, "America/New_York", "Australia/Lord_Howe", "nowhere"]),
    follow_up_at=st.sampled_from([None, NOON + timedelta(days=9)]),
)


def made(branch: list[Any], done: ActivityCompleted) -> tuple[Decision, tuple[Message, ...]]:
    rules: Flow = flow({"any": branch})
    return decided(done, by_id(rules))


@settings(max_examples=50)
@given(BRANCHES, COMPLETIONS)
def test_the_same_completion_gives_the_same_bytes(branch: list[Any], done: ActivityCompleted) -> None:
    (once, first), (twice, second) = made(branch, done), made(branch, done)
    assert once == twice
    assert [m.to_json() for m in first] == [m.to_json() for m in second]


@settings(max_examples=50)
@given(BRANCHES, COMPLETIONS)
def test_every_message_is_accounted_for_and_has_an_id_of_its_own(
    branch: list[Any], done: ActivityCompleted
) -> None:
    decision, messages = made(branch, done)
    ids = [message.identity() for message in messages]
    assert len(set(ids)) == len(ids)
    assert [taken.produced_id for taken in decision.actions if taken.produced_id] == ids
    assert len({taken.path for taken in decision.actions}) == len(decision.actions)


@settings(max_examples=50)
@given(BRANCHES, COMPLETIONS)
def test_a_follow_up_is_never_due_before_its_cause_and_always_deeper(
    branch: list[Any], done: ActivityCompleted
) -> None:
    for message in made(branch, done)[1]:
        if isinstance(message, ActivityCreated):
            assert message.scheduled_at >= done.completed_at
            assert message.chain_depth == done.chain_depth + 1 <= CHAIN_LIMIT


@settings(max_examples=30)
@given(BRANCHES)
def test_a_chain_that_always_ends_alike_still_ends(branch: list[Any]) -> None:
    done, steps = completed("any"), 0
    while follow_ups := [m for m in made(branch, done)[1] if isinstance(m, ActivityCreated)]:
        assert len(follow_ups) <= MOST_ACTIONS
        last = follow_ups[-1]
        done = completed(
            "any",
            activity_id=last.activity_id,
            attempt_number=last.attempt_number,
            chain_depth=last.chain_depth,
            root_id=last.root_id,
        )
        steps += 1
    assert steps <= CHAIN_LIMIT


def test_a_bundle_is_read_as_it_is_written() -> None:
    written = {
        "no-answer": [{"try_again": {"max_attempts": 3, "delay": "2h", "exhausted": [{"finish": {}}]}}]
    }
    again = spec(written).model_dump(mode="json", exclude_unset=True)
    assert again == {"subject": "renewal", "when": written}
