"""What follows from what became of a send: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_sms.domain.conversation import (
    AlreadyConcluded,
    Conversation,
    ConversationState,
    Ending,
    ended,
)
from channel_sms.domain.intent import Intent, IntentState, Purpose, is_forward, new_intent, status_of_receipt
from channel_sms.domain.settling import (
    Context,
    InDoubt,
    Pointless,
    RefusedForGood,
    Sent,
    Settlement,
    Suppressed,
    TooLate,
    Unsent,
    is_open_to,
    is_proven_absent,
    settle,
)
from channel_sms.provider import Accepted, Ambiguous, NotSent, Refused
from channel_sms.providers.twilio import classify
from contracts.activities import ActivityOutcome, ActivityReturned
from contracts.channel_sms import InteractionRecorded
from contracts.reasons import Objection
from tests.channel_sms.world import NOW, fictional, subject

SETTLEMENTS: list[Settlement] = [
    Sent("SM1"),
    Unsent("429", 1.0),
    Unsent("429", 1e6),
    RefusedForGood("21211", "bad"),
    InDoubt("reset"),
    Suppressed(),
    TooLate(Objection.OUTSIDE_WINDOW),
    Pointless(),
]


def intent(**changes: object) -> Intent:
    made = new_intent(
        intent_id="i",
        contact_id="c",
        activity_id="a",
        endpoint_id="endpoint",
        sender=fictional(0),
        to=fictional(1),
        text="Hello",
        purpose=Purpose.OPENING,
        created_at=NOW,
        send_at=NOW,
        expires_real_at=NOW + timedelta(hours=4),
        no_response_seconds=60.0,
        subject_id="subject",
        claimed_at=NOW,
        claimed_real_at=NOW,
        claim="x",
        state=IntentState.SENDING,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def conversation(**changes: object) -> Conversation:
    return Conversation(
        activity_id="a",
        version=3,
        contact_id="c",
        subject_id="subject",
        endpoint_id="endpoint",
        our_address=fictional(0),
        their_address=fictional(1),
        dispatch_number=1,
        state=ConversationState.OPENING,
        intent_id="i",
        opened_at=NOW,
        changed_at=NOW,
    ).model_copy(update=changes)


def context(**changes: object) -> Context:
    told = {"now": NOW, "real_now": NOW, "conversation": conversation(), "subject": subject()}
    return Context(**{**told, **changes})  # type: ignore[arg-type]


@given(st.sampled_from(SETTLEMENTS), st.sampled_from(IntentState), st.booleans())
def test_only_a_sent_message_is_an_interaction_and_only_an_end_is_an_outcome(
    settlement: Settlement, state: IntentState, is_open: bool
) -> None:
    asked = intent(state=state)
    if not is_open_to(asked, settlement):
        assert state not in (IntentState.SENDING,)
        return
    talk = conversation() if is_open else conversation(state=ConversationState.CONCLUDED)
    plan = settle(asked, settlement, context(conversation=talk))
    interactions = [m for m in plan.messages if isinstance(m, InteractionRecorded)]
    outcomes = [m for m in plan.messages if isinstance(m, ActivityOutcome | ActivityReturned)]
    assert len(interactions) == isinstance(settlement, Sent)
    assert len(outcomes) == (plan.conversation is not None)
    assert len(outcomes) <= is_open
    assert plan.intent["state"] != IntentState.SENDING
    if plan.intent["state"] == IntentState.PENDING:
        assert isinstance(settlement, Unsent)


@pytest.mark.parametrize("settlement", SETTLEMENTS)
@pytest.mark.parametrize(
    "state", [s for s in IntentState if s not in (IntentState.SENDING, IntentState.UNKNOWN)]
)
def test_a_settled_intent_is_never_settled_again(settlement: Settlement, state: IntentState) -> None:
    assert not is_open_to(intent(state=state), settlement)


@pytest.mark.parametrize("settlement", SETTLEMENTS)
def test_whoever_claimed_it_may_say_what_became_of_it_although_another_put_it_in_doubt(
    settlement: Settlement,
) -> None:
    in_doubt = intent(state=IntentState.UNKNOWN)
    assert is_open_to(in_doubt, settlement) == (not isinstance(settlement, InDoubt))


def test_a_refused_number_ends_with_the_undeliverable_disposition() -> None:
    plan = settle(intent(), RefusedForGood("21211", "bad"), context())
    assert plan.conversation is not None
    assert (plan.conversation.disposition, plan.conversation.version) == ("bad-number", 4)


def test_without_an_undeliverable_disposition_a_refused_number_fails() -> None:
    plan = settle(intent(), RefusedForGood("21211", "bad"), context(subject=None))
    assert plan.conversation is not None
    assert plan.conversation.result == "failed"


def test_what_was_not_sent_in_time_expires() -> None:
    plan = settle(intent(), Unsent("429", 1.0), context(real_now=NOW + timedelta(hours=4)))
    assert plan.intent["state"] is IntentState.EXPIRED


def test_a_conversation_ends_once() -> None:
    concluded, _ = ended(conversation(), Ending("sold", "x"), NOW)
    with pytest.raises(AlreadyConcluded):
        ended(concluded, Ending("sold", "x"), NOW)


@given(st.floats(0, 100), st.floats(0, 100))
def test_absence_is_proven_by_two_late_looks_and_by_nothing_less(first: float, second: float) -> None:
    asked = intent(absent_real_at=NOW + timedelta(seconds=first))
    proven = is_proven_absent(asked, 10.0, NOW + timedelta(seconds=second))
    assert proven == (first >= 10 and second - first >= 2 and second >= 10) or abs(second - first - 2) < 1e-3
    assert not is_proven_absent(intent(), 10.0, NOW + timedelta(seconds=second))
    assert not is_proven_absent(asked, None, NOW + timedelta(seconds=second))


@given(
    st.lists(
        st.sampled_from(["queued", "sent", "delivered", "undelivered", "failed", "nonsense"]), max_size=8
    )
)
def test_receipts_only_move_a_status_forward(told: list[str]) -> None:
    standing: str | None = "sent"
    for word in told:
        status = status_of_receipt(word)
        if status is not None and is_forward(standing, status):
            assert standing != "delivered"
            standing = status
    if "delivered" in told:
        assert standing == "delivered"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (201, b'{"sid":"SM1"}', Accepted),
        (201, b"{}", Ambiguous),
        (201, b"<html>", Ambiguous),
        (429, b"", NotSent),
        (401, b"", NotSent),
        (400, b'{"code":21211,"message":"bad"}', Refused),
        (404, b"nope", Refused),
        (400, b"[]", Refused),
        (408, b"", Ambiguous),
        (500, b"", Ambiguous),
        (503, b"", Ambiguous),
        (302, b"", Ambiguous),
    ],
)
def test_an_answer_proves_no_more_than_it_does(status: int, body: bytes, kind: type) -> None:
    assert isinstance(classify(status, "1", body), kind)
