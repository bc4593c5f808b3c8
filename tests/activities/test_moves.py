"""The life of an activity: no turn it may not take, every change one version, the end is the end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from activities.domain import moves
from activities.domain.activity import BUCKETS, Activity, bucket_of, scheduled
from activities.domain.catalog import Contact
from activities.domain.gate import Allow, Defer, Deny, Ruling
from activities.domain.moves import MAY, IllegalMove, Move, Taken
from activities.domain.outcomes import OutcomeFacts, hear
from contracts.activities import (
    ActivityChanged,
    ActivityCompleted,
    ActivityDecided,
    ActivityDispatched,
    ActivityOutcome,
    ActivityRecalled,
)
from contracts.channel_sms import InteractionRecorded
from contracts.message import Message
from contracts.reasons import Objection
from contracts.vocabulary import FINAL_STATES, ActivityState, Direction, EndpointId, Mode
from servicekit import leases
from servicekit.verdict import Become, GiveUp, TryAgain, Unchanged, Write
from tests.activities.builders import (
    DISPOSITIONS,
    NOON,
    activity,
    catalog,
    contact,
    created,
    manual,
    manual_activity,
    outcome,
    progressed,
    returned,
)

SOLD = next(each for each in DISPOSITIONS if each.code == "sold")
NOTE = next(each for each in DISPOSITIONS if each.code == "note")
ALLOW = Allow(EndpointId("endpoint-1"), "+12125550123")
LATER = NOON + timedelta(hours=1)
S = ActivityState

agents = st.sampled_from(("ann", "bob"))
TRIED: set[Move] = set()
"""What some rule of `Life` asks."""


def asks(move: Move, **given: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule of `Life` that tries this move, and is told which."""
    TRIED.add(move)
    tried: Callable[[Callable[..., None]], Callable[..., None]] = rule(move=st.just(move), **given)
    return tried


class Life(RuleBasedStateMachine):
    """Anything may be asked at any time, in any order."""

    @initialize(mode=st.sampled_from(Mode), delay=st.sampled_from((-1, 1)), owner=st.none() | agents)
    def begins(self, mode: Mode, delay: int, owner: str | None) -> None:
        self.now = NOON
        build = created if mode is Mode.AUTOMATED else manual
        first = scheduled(build(scheduled_at=NOON + timedelta(hours=delay), owner=owner), NOON)
        ruling = ALLOW if mode is Mode.AUTOMATED and delay < 0 else None
        become = moves.come_to_life(first, ruling, NOON)
        self.activity = become.state
        self.messages: list[Message] = list(become.messages)
        assert become.also == (Write.joining(moves.SLOTS, first.slot, "holders", first.activity_id),)
        self.released = 0
        self.heard = 0

    def tries(self, move: Move, decide: Callable[[Activity], Any]) -> None:
        before = self.activity
        self.now += timedelta(seconds=1)
        match self.answer(lambda: decide(before)):
            case IllegalMove(state=state, move=asked):
                assert before.state not in MAY[move].get(before.mode, ())
                assert (state, asked) == (before.state, move)
            case Taken(taken_by=agent):
                assert agent == before.assigned_to
            case Become() as verdict:
                self.becomes(before, verdict)
            case other:
                assert isinstance(other, Unchanged)

    def answer(self, decide: Callable[[], Any]) -> Any:
        try:
            return decide()
        except (IllegalMove, Taken) as refused:
            return refused

    def becomes(self, before: Activity, verdict: Become[Activity]) -> None:
        after = verdict.state
        assert after.version == before.version + 1
        if before.is_final:
            assert after.state in (before.state, S.PURGED)
        released = verdict.also.count(Write.leaving(moves.SLOTS, after.slot, "holders", after.activity_id))
        assert released == (after.is_final and not before.is_final)
        self.released += released
        for message in verdict.messages:
            if isinstance(message, ActivityChanged):
                assert (message.version, message.state) == (after.version, after.state)
        self.activity = after
        self.messages.extend(verdict.messages)

    @asks(
        Move.JUDGE,
        ruling=st.sampled_from(
            (
                ALLOW,
                Deny(Objection.OPTED_OUT),
                Defer(Objection.OUTSIDE_WINDOW, LATER),
                Defer(Objection.CAMPAIGN_PAUSED, hold="c"),
            )
        ),
    )
    def is_judged(self, move: Move, ruling: Ruling) -> None:
        self.tries(move, lambda activity: moves.judged(activity, ruling, self.now))

    @asks(Move.OFFER)
    def is_offered(self, move: Move) -> None:
        self.tries(move, lambda activity: moves.offer(activity, self.now))

    @asks(Move.CLAIM, agent=agents)
    def is_claimed(self, move: Move, agent: str) -> None:
        self.tries(move, lambda activity: moves.claim(activity, agent, self.now))

    @asks(Move.RELEASE, agent=st.none() | agents)
    def is_released(self, move: Move, agent: str | None) -> None:
        self.tries(move, lambda activity: moves.release(activity, agent, self.now))

    @asks(Move.START, agent=agents)
    def is_started(self, move: Move, agent: str) -> None:
        self.tries(move, lambda activity: moves.start(activity, agent, self.now))

    @asks(Move.COMPLETE, agent=agents)
    def is_completed(self, move: Move, agent: str) -> None:
        self.tries(move, lambda activity: moves.complete(activity, SOLD, agent, self.now))

    @asks(Move.RESCHEDULE)
    def is_rescheduled(self, move: Move) -> None:
        self.tries(move, lambda activity: moves.reschedule(activity, LATER, "ann", self.now))

    @precondition(lambda self: self.activity.version > 4)
    @asks(Move.CANCEL)
    def is_cancelled(self, move: Move) -> None:
        self.tries(move, lambda activity: moves.cancel(activity, "no", "ann", self.now))

    @asks(Move.CORRECT, disposition=st.sampled_from((None, SOLD, NOTE)))
    def is_corrected(self, move: Move, disposition: Any) -> None:
        self.tries(
            move,
            lambda activity: moves.correct(activity, "ann", self.now, disposition=disposition, notes="n"),
        )

    @asks(Move.PURGE)
    def is_purged(self, move: Move) -> None:
        self.tries(move, lambda activity: moves.purge(activity, "ann", self.now))

    @asks(Move.PROGRESS, state=st.sampled_from(("in_progress", "awaiting_reply")))
    def progresses(self, move: Move, state: str) -> None:
        order = [S.DISPATCHED, S.IN_PROGRESS, S.AWAITING_REPLY]
        before = self.activity
        self.hears(move, progressed(state=state))
        if self.activity is not before:
            assert order.index(self.activity.state) > order.index(before.state)

    @precondition(lambda self: self.activity.dispatch_number)
    @asks(Move.RETURN, older=st.integers(0, 1))
    def is_returned(self, move: Move, older: int) -> None:
        before = self.activity
        number = max(1, before.dispatch_number - older)
        if before.state is S.AWAITING_REPLY and number == before.dispatch_number:
            facts = OutcomeFacts(self.now, catalog(), {"contact-1": contact()})
            assert isinstance(hear(returned(number), before, facts), GiveUp)
            return
        self.hears(move, returned(number))
        if self.activity is not before:
            assert (number, self.activity.state) == (before.dispatch_number, S.SCHEDULED)

    @asks(Move.REPORT, result=st.sampled_from(("completed", "failed", "unknown")), again=st.booleans())
    def ends(self, move: Move, result: str, again: bool) -> None:
        self.heard += not again
        self.hears(move, outcome(outcome_id=f"outcome-{self.heard}", result=result, reason="why"))

    def hears(self, move: Move, message: Any) -> None:
        facts = OutcomeFacts(self.now, catalog(), {"contact-1": contact()})
        verdict = hear(message, self.activity, facts)
        if isinstance(verdict, Become):
            if self.activity.is_final:
                beside = {"version", "late_outcomes"}
                left = (each.model_dump(exclude=beside) for each in (self.activity, verdict.state))
                assert next(left) == next(left), "what was called off stays so"
            else:
                assert self.activity.state in MAY[move][self.activity.mode]
            self.becomes(self.activity, verdict)
            assert isinstance(hear(message, self.activity, facts), Unchanged)
        else:
            assert isinstance(verdict, Unchanged)

    @invariant()
    def is_coherent(self) -> None:
        state = self.activity
        assert self.released == state.is_final
        assert sum(isinstance(message, ActivityCompleted) for message in self.messages) <= 1
        assert (state.state is S.COMPLETED) <= (state.disposition is not None)
        assert (state.state in (S.ASSIGNED, S.IN_PROGRESS) and state.mode is Mode.MANUAL) <= bool(
            state.assigned_to
        )
        assert state.audit[0].what == "created"
        assert Activity.model_validate(state.model_dump()) == state
        for message in self.messages:
            assert type(message).from_json(message.to_json()).event_id() == message.event_id()
        ids = [message.event_id() for message in self.messages]
        assert len(ids) == len(set(ids))


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestLife = Life.TestCase


def test_a_life_tries_every_move() -> None:
    assert set(Move) == TRIED == MAY.keys()


def test_buckets_are_those_of_the_leases() -> None:
    assert leases.BUCKETS == BUCKETS
    assert bucket_of("contact-1") == leases.bucket_of(b"contact-1") == crc32(b"contact-1") % 16


def test_an_illegal_move_says_what_would_be_legal() -> None:
    with pytest.raises(
        IllegalMove, match="Cannot claim a manual activity that is completed; only one that is"
    ):
        moves.claim(manual_activity(state=S.COMPLETED), "ann", NOON)
    with pytest.raises(
        IllegalMove, match="Cannot start an automated activity that is dispatched; that is never"
    ):
        moves.start(activity(state=S.DISPATCHED), "ann", NOON)


def test_every_final_state_is_left_only_by_correction_and_purge() -> None:
    for move, by_mode in MAY.items():
        if move not in (Move.CORRECT, Move.PURGE):
            assert not FINAL_STATES & frozenset().union(*by_mode.values())


def test_due_at_creation_means_created_judged_and_dispatched_in_one_version() -> None:
    become = moves.come_to_life(scheduled(created(), NOON), ALLOW, NOON)
    assert become.state.version == 1
    decided, dispatched, changed = become.messages
    assert isinstance(decided, ActivityDecided)
    assert isinstance(dispatched, ActivityDispatched)
    assert isinstance(changed, ActivityChanged)
    assert (decided.activity_version, dispatched.dispatch_number, changed.state) == (1, 1, S.DISPATCHED)


def test_a_dispatch_says_where_in_its_chain_it_stands() -> None:
    follow_up = scheduled(created(root_id="the-first", chain_depth=7), NOON)
    _, dispatched, _ = moves.come_to_life(follow_up, ALLOW, NOON).messages
    assert isinstance(dispatched, ActivityDispatched)
    assert (dispatched.root_id, dispatched.chain_depth) == ("the-first", 7)


def test_a_denied_activity_never_holds_its_slot() -> None:
    become = moves.come_to_life(scheduled(created(), NOON), Deny(Objection.OPTED_OUT), NOON)
    assert become.state.reason == "denied: opted_out"
    assert become.also == ()


def test_a_repeated_deferral_is_a_verdict_but_no_news() -> None:
    waiting = moves.come_to_life(scheduled(created(), NOON), Defer(Objection.UNKNOWN_ZONE, LATER), NOON).state
    again = moves.judged(waiting, Defer(Objection.UNKNOWN_ZONE, LATER + timedelta(hours=1)), LATER)
    assert [type(message) for message in again.messages] == [ActivityDecided]
    assert again.state.deferrals == 2
    other = moves.judged(again.state, Defer(Objection.CAMPAIGN_PAUSED, hold="campaign-1"), LATER)
    assert [type(message) for message in other.messages] == [ActivityDecided, ActivityChanged]
    assert other.state.deferrals == 1


@pytest.mark.parametrize(
    ("kind", "disposition", "incoming", "direction"),
    [
        ("call", SOLD, False, Direction.OUTGOING),
        ("call", SOLD, True, Direction.INCOMING),
        ("meeting", SOLD, False, Direction.OUTGOING),
        ("call", NOTE, False, None),
        ("task", SOLD, False, None),
    ],
)
def test_a_person_who_completes_logs_an_interaction_if_it_was_one(
    kind: str, disposition: Any, incoming: bool, direction: Direction | None
) -> None:
    working = scheduled(manual(kind=kind, owner="ann"), NOON).model_copy(update={"state": S.ASSIGNED})
    become = moves.complete(working, disposition, "ann", NOON, incoming=incoming)
    logged = [message for message in become.messages if isinstance(message, InteractionRecorded)]
    assert [message.direction for message in logged] == ([direction] if direction else [])


def test_a_correction_takes_back_an_interaction_that_no_longer_counts() -> None:
    working = manual_activity(state=S.ASSIGNED, assigned_to="ann")
    done = moves.complete(working, SOLD, "ann", NOON)
    (logged,) = [message for message in done.messages if isinstance(message, InteractionRecorded)]
    corrected = moves.correct(done.state, "eve", LATER, disposition=NOTE)
    (taken_back,) = [message for message in corrected.messages if isinstance(message, InteractionRecorded)]
    assert (taken_back.interaction_id, taken_back.deleted) == (logged.interaction_id, True)
    assert taken_back.version > logged.version
    assert corrected.state.completed_by == "ann"


def test_purging_forgets_what_was_said_and_keeps_who_and_when() -> None:
    ended = activity(state=S.COMPLETED, notes="secret", captured={"plan": "full"}, destination="+12025550199")
    verdict = moves.purge(ended, "eve", LATER)
    assert isinstance(verdict, Become)
    assert "secret" not in verdict.state.model_dump_json()
    assert "+12025550199" not in verdict.state.model_dump_json()
    assert [(entry.what, entry.who) for entry in verdict.state.audit] == [
        ("created", "batch-loader"),
        ("purged", "eve"),
    ]


PEOPLE_SAID = "rang: never again to +12025550199"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (PEOPLE_SAID, None),
        (f"returned: {PEOPLE_SAID}", "returned"),
        (f"denied by her: {PEOPLE_SAID}", None),
        ("denied: opted_out", "denied: opted_out"),
        ("contact_erased", "contact_erased"),
        (None, None),
    ],
)
def test_purging_keeps_of_a_reason_what_is_in_our_own_words(said: str | None, kept: str | None) -> None:
    facts = OutcomeFacts(LATER, catalog(), {})
    noted = hear(outcome(result="failed", disposition=None, reason=PEOPLE_SAID), cancelled(), facts)
    assert isinstance(noted, Become)
    verdict = moves.purge(noted.state.model_copy(update={"reason": said}), "eve", LATER)
    assert isinstance(verdict, Become)
    assert verdict.state.reason == kept
    (late,) = verdict.state.late_outcomes
    assert (late.result, late.reason) == ("failed", None)
    told = verdict.state.model_dump_json() + "".join(map(repr, verdict.messages))
    assert "+12025550199" not in told
    assert isinstance(moves.purge(verdict.state, "eve", LATER), Unchanged)


def test_purging_again_forgets_what_an_earlier_release_kept() -> None:
    purged = activity(state=S.PURGED, reason=PEOPLE_SAID)
    verdict = moves.purge(purged, "eve", LATER)
    assert isinstance(verdict, Become)
    assert (verdict.state.state, verdict.state.reason) == (S.PURGED, None)


def test_the_audit_is_bounded_and_keeps_its_first_entry() -> None:
    busy = manual_activity(state=S.AVAILABLE)
    for _ in range(150):
        claimed = moves.claim(busy, "ann", NOON)
        assert isinstance(claimed, Become)
        busy = moves.release(claimed.state, "ann", NOON).state
    assert len(busy.audit) == 200
    assert busy.audit[0].what == "created"
    assert busy.audit[-1].what == "released"


def test_an_outcome_for_an_activity_nobody_knows_is_tried_again() -> None:
    assert isinstance(hear(outcome(), None, OutcomeFacts(NOON, catalog(), {})), TryAgain)


def test_an_outcome_whose_disposition_has_not_arrived_yet_is_tried_again() -> None:
    free = activity(state=S.DISPATCHED, campaign_id=None)
    verdict = hear(outcome(disposition="new"), free, OutcomeFacts(NOON, catalog(), {}))
    assert isinstance(verdict, TryAgain)


@pytest.mark.parametrize(
    ("reason", "times", "seconds"),
    [
        ("outside_window", 3, 2),
        ("campaign_stopped", 1, 2),
        ("campaign_stopped", 3, 8),
        ("x", 9, 32),
        ("x", 10, 64),
        ("x", 99, 3600),
    ],
)
def test_who_disagrees_with_the_gate_does_not_chase_it(reason: str, times: int, seconds: int) -> None:
    given_back = returned(times).evolve(reason=reason)
    verdict = hear(
        given_back, activity(state=S.DISPATCHED, dispatch_number=times), OutcomeFacts(NOON, catalog(), {})
    )
    assert isinstance(verdict, Become)
    assert verdict.state.due_at - NOON == timedelta(seconds=seconds)
    late = outcome(result="failed", reason="late", dispatch_number=times)
    assert isinstance(hear(late, verdict.state, OutcomeFacts(NOON, catalog(), {})), Unchanged)


def test_a_dispatch_that_never_was_cannot_be_returned() -> None:
    facts = OutcomeFacts(NOON, catalog(), {})
    verdict = hear(returned(2), activity(state=S.DISPATCHED, dispatch_number=1), facts)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "unknown_dispatch"


def test_what_reached_somebody_is_not_returned_in_silence() -> None:
    facts = OutcomeFacts(NOON, catalog(), {})
    begun = activity(state=S.AWAITING_REPLY, dispatch_number=2)
    verdict = hear(returned(2), begun, facts)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "already_begun"
    assert isinstance(hear(returned(1), begun, facts), Unchanged)


def test_an_outcome_counts_for_the_dispatch_that_it_names() -> None:
    facts = OutcomeFacts(NOON, catalog(), {})
    again = activity(state=S.DISPATCHED, dispatch_number=2, campaign_id=None)
    failed = outcome(result="failed", reason="no paper")
    assert isinstance(hear(failed.evolve(dispatch_number=1), again, facts), Unchanged)
    assert isinstance(hear(failed.evolve(dispatch_number=2), again, facts), Become)
    assert isinstance(hear(failed, again, facts), Become)
    verdict = hear(failed.evolve(dispatch_number=3), again, facts)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "unknown_dispatch"


def cancelled(**changes: Any) -> Activity:
    """By somebody, a moment before the outcomes of these tests come to be."""
    verdict = moves.cancel(activity(state=S.DISPATCHED, **changes), "on second thoughts", "ann", NOON)
    return verdict.state


def test_what_a_channel_tells_of_a_cancelled_activity_is_kept_beside_it_once() -> None:
    facts = OutcomeFacts(LATER, catalog(), {})
    late, before = outcome(dispatch_number=2), cancelled(dispatch_number=2)
    noted = hear(late, before, facts)
    assert isinstance(noted, Become)
    (kept,) = noted.state.late_outcomes
    assert (kept.outcome_id, kept.result, kept.disposition) == (late.outcome_id, "completed", "sold")
    assert (kept.occurred_at, kept.told_at) == (late.occurred_at, LATER)
    assert noted.state == before.model_copy(
        update={"version": before.version + 1, "late_outcomes": (kept,)}
    ), "it ended when and as it ended, also for the reports"
    assert noted.messages == ()
    for again in (late, outcome(outcome_id="older", dispatch_number=1), outcome("a", "b", result="unknown")):
        assert isinstance(hear(again, noted.state, facts), Unchanged)
    assert isinstance(hear(late, before.model_copy(update={"state": S.PURGED}), facts), Unchanged)


@pytest.mark.parametrize(
    "early",
    [
        outcome(captured={"plan": "gold"}, occurred_at=NOON - timedelta(minutes=1)),
        outcome(dispatch_number=1, occurred_at=NOON - timedelta(minutes=1)),
    ],
    ids=["refused", "of a dispatch given back"],
)
def test_what_had_its_answer_before_a_cancellation_has_the_same_after_it(early: ActivityOutcome) -> None:
    facts = OutcomeFacts(LATER, catalog(), {})
    state = S.SCHEDULED if early.dispatch_number else S.DISPATCHED
    standing = activity(state=state, dispatch_number=1, campaign_id=None)
    assert isinstance(hear(early, standing, facts), GiveUp | Unchanged)
    off = moves.cancel(standing, "no", "ann", NOON).state
    assert isinstance(hear(early, off, facts), Unchanged)


def test_what_came_of_a_doubt_is_kept_beside_a_cancelled_activity_under_the_same_id() -> None:
    facts = OutcomeFacts(LATER, catalog(), {})
    doubt = hear(outcome(result="unknown"), activity(state=S.DISPATCHED), OutcomeFacts(NOON, catalog(), {}))
    assert isinstance(doubt, Become)
    called_off = moves.cancel(doubt.state, "on second thoughts", "ann", NOON).state
    noted = hear(outcome(), called_off, facts)
    assert isinstance(noted, Become)
    assert [late.result for late in noted.state.late_outcomes] == ["completed"]
    for again in (outcome(), outcome(result="unknown")):
        assert isinstance(hear(again, noted.state, facts), Unchanged)


def test_late_outcomes_are_bounded_and_none_is_heard_twice() -> None:
    state, heard = cancelled(), [outcome(outcome_id=f"o{number}") for number in range(15)]
    for each in heard:
        verdict = hear(each, state, OutcomeFacts(LATER, catalog(), {}))
        state = verdict.state if isinstance(verdict, Become) else state
    assert [late.outcome_id for late in state.late_outcomes] == [f"o{n}" for n in range(10)]
    for each in heard:
        assert isinstance(hear(each, state, OutcomeFacts(LATER, catalog(), {})), Unchanged)


def test_a_contact_of_the_domain_knows_no_name() -> None:
    assert not {"first_name", "last_name", "fields"} & set(Contact.__slots__)


@pytest.mark.parametrize("state", ["dispatched", "in_progress", "awaiting_reply", "outcome_unknown"])
def test_cancelling_what_a_channel_has_in_hand_recalls_it(state: str) -> None:
    in_hand = activity().model_copy(update={"state": S(state)})
    verdict = moves.cancel(in_hand, "on second thoughts", "ann", NOON)
    (recalled,) = [message for message in verdict.messages if isinstance(message, ActivityRecalled)]
    assert (recalled.activity_id, recalled.channel, recalled.reason) == (
        in_hand.activity_id,
        "sms",
        "on second thoughts",
    )


def test_a_channel_leaves_alone_what_a_person_completed() -> None:
    in_doubt = activity(state=S.OUTCOME_UNKNOWN)
    verdict = moves.complete(in_doubt, SOLD, "ann", NOON)
    (recalled,) = [message for message in verdict.messages if isinstance(message, ActivityRecalled)]
    assert (recalled.activity_id, recalled.reason) == (in_doubt.activity_id, "completed by a person")


def test_what_is_proven_not_begun_is_due_again() -> None:
    in_doubt = activity(state=S.OUTCOME_UNKNOWN, dispatch_number=1)
    facts = OutcomeFacts(NOON, catalog(), {})
    verdict = hear(returned(1), in_doubt, facts)
    assert isinstance(verdict, Become)
    assert verdict.state.state is S.SCHEDULED
    assert isinstance(hear(returned(1), in_doubt.model_copy(update={"dispatch_number": 2}), facts), Unchanged)


@pytest.mark.parametrize(
    "untouched",
    [activity(), manual_activity(), manual_activity().model_copy(update={"state": S.IN_PROGRESS})],
    ids=["scheduled", "manual", "with a person"],
)
def test_cancelling_what_no_channel_has_recalls_nothing(untouched: Activity) -> None:
    verdict = moves.cancel(untouched, "no", "ann", NOON)
    assert not [message for message in verdict.messages if isinstance(message, ActivityRecalled)]
