from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_loader.domain.audience import Candidate
from batch_loader.domain.batch import Batch, IllegalMove, Move, fail, go_on, progress, refuse, steer, wait
from batch_loader.domain.filters import Filters
from batch_loader.domain.page import load_page, slot_of
from contracts.activities import ActivityCreated
from contracts.message import stable_id
from contracts.vocabulary import BatchState
from servicekit.verdict import Become, Unchanged
from tests.batch_loader.builders import NOON, SUBJECT, batch, contact_id

REACHABLE = frozenset({"sms", "voice"})


def loading(made: Batch) -> Batch:
    verdict = steer(made, "load", NOON, expected=100)
    assert isinstance(verdict, Become)
    return verdict.state


def in_state(state: BatchState) -> Batch:
    return batch().model_copy(update={"state": state})


ALLOWED: dict[Move, dict[BatchState, BatchState]] = {
    "load": {BatchState.DRAFT: BatchState.LOADING},
    "pause": {BatchState.LOADING: BatchState.PAUSED},
    "resume": {BatchState.PAUSED: BatchState.LOADING, BatchState.FAILED: BatchState.LOADING},
    "cancel": dict.fromkeys(
        (BatchState.DRAFT, BatchState.LOADING, BatchState.PAUSED, BatchState.FAILED), BatchState.CANCELLED
    ),
}
REPEATED: dict[Move, set[BatchState]] = {
    "load": {BatchState.LOADING, BatchState.LOADED},
    "pause": {BatchState.PAUSED},
    "resume": {BatchState.LOADING},
    "cancel": {BatchState.CANCELLED},
}


@pytest.mark.parametrize("move", ["load", "pause", "resume", "cancel"])
@pytest.mark.parametrize("state", list(BatchState))
def test_every_move_from_every_state_is_made_repeated_or_refused(move: Move, state: BatchState) -> None:
    if state in ALLOWED[move]:
        verdict = steer(in_state(state), move, NOON)
        assert isinstance(verdict, Become)
        assert verdict.state.state is ALLOWED[move][state]
        assert verdict.messages == (progress(verdict.state),)
    elif state in REPEATED[move]:
        assert steer(in_state(state), move, NOON) == Unchanged()
    else:
        with pytest.raises(IllegalMove, match=f"This batch is {state} and cannot be"):
            steer(in_state(state), move, NOON)


def test_a_refusal_says_from_where_it_would_be_allowed() -> None:
    with pytest.raises(IllegalMove) as illegal:
        steer(in_state(BatchState.DRAFT), "resume", NOON)
    assert str(illegal.value) == (
        "This batch is draft and cannot be resumed; only one that is failed or paused can."
    )


@pytest.mark.parametrize(
    ("made", "copies"),
    [
        (batch(duplicate_rule="none"), {"contacts"}),
        (batch(), {"contacts", "activities"}),
        (batch(Filters(last_subjects=("renewal",)), duplicate_rule="none"), {"contacts", "activities"}),
        (batch(Filters(last_dispositions=("sold",)), duplicate_rule="none"), {"contacts", "activities"}),
        (batch(Filters(never_contacted=True), duplicate_rule="none"), {"contacts", "statistics"}),
        (batch(Filters(not_contacted_in_days=3), duplicate_rule="none"), {"contacts", "statistics"}),
        (batch(Filters(attempts_below=3)), {"contacts", "statistics", "activities"}),
    ],
)
def test_a_batch_needs_the_copies_that_its_rules_look_at(made: Batch, copies: set[str]) -> None:
    assert made.copies == copies


def test_only_a_batch_that_is_loading_waits_and_it_says_so_once() -> None:
    told = wait(loading(batch()), "contacts", NOON)
    assert isinstance(told, Become)
    assert (told.state.waiting_for, told.messages) == ("contacts", (progress(told.state),))
    assert wait(told.state, "contacts", NOON) == Unchanged()
    for state in set(BatchState) - {BatchState.LOADING}:
        assert wait(in_state(state), "kafka", NOON) == Unchanged()
        assert go_on(in_state(state), 7, NOON) == Unchanged()


def test_a_batch_that_waited_is_expected_anew_unless_it_is_under_way() -> None:
    start = loading(batch(Filters(limit=120))).model_copy(update={"waiting_for": "contacts"})
    waited = go_on(start, 150, NOON)
    assert isinstance(waited, Become)
    assert (waited.state.waiting_for, waited.state.expected) == (None, 120)
    assert go_on(waited.state, 150, NOON) == Unchanged()
    page = load_page(start, [Candidate(contact_id(1))], set(), more=True, per_second=9, now=NOON).batch
    assert (page.waiting_for, page.expected) == (None, 100)
    assert go_on(page, 150, NOON) == Unchanged()


@pytest.mark.parametrize("move", ["pause", "cancel"])
def test_a_batch_that_is_stopped_waits_no_more(move: Move) -> None:
    stopped = steer(in_state(BatchState.LOADING).model_copy(update={"waiting_for": "kafka"}), move, NOON)
    assert isinstance(stopped, Become)
    assert stopped.state.waiting_for is None


def test_a_failure_keeps_the_checkpoint_and_can_be_resumed() -> None:
    page = load_page(loading(batch()), [Candidate(contact_id(1))], set(), more=True, per_second=9, now=NOON)
    failed = fail(page.batch, "why", NOON)
    assert isinstance(failed, Become)
    assert (failed.state.state, failed.state.error) == (BatchState.FAILED, "why")
    resumed = steer(failed.state, "resume", NOON)
    assert isinstance(resumed, Become)
    assert (resumed.state.checkpoint, resumed.state.error) == (contact_id(1), None)


candidates = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=40).map(
    lambda people: [
        (
            Candidate(
                contact_id(number),
                "Europe/Berlin",
                frozenset({"do-not-sms"} if opted_out else ()),
                REACHABLE if reachable else frozenset(),
            ),
            busy,
        )
        for number, (opted_out, reachable, busy) in enumerate(people)
    ]
)


def load_all(
    start: Batch, people: list[tuple[Candidate, bool]], sizes: list[int]
) -> tuple[Batch, dict[str, str | None]]:
    """Page after page, as the loader does; the sizes repeat."""
    taken = {slot_of(person.contact_id, SUBJECT) for person, busy in people if busy}
    made: dict[str, str | None] = {}
    state, position, turn = start, 0, 0
    while state.state is BatchState.LOADING:
        size = sizes[turn % len(sizes)]
        size = size if state.room is None else min(size, state.room)
        found = [person for person, _ in people[position : position + size]]
        page = load_page(state, found, taken, more=len(found) == size, per_second=10, now=NOON)
        assert page.batch.version == state.version + 1
        assert page.batch.selected == page.batch.loaded + sum(page.batch.skipped.values())
        for message in page.messages:
            if isinstance(message, ActivityCreated):
                assert message.activity_id not in made
                made[message.activity_id] = message.owner
        state, position, turn = page.batch, position + len(found), turn + 1
    return state, made


@given(
    people=candidates,
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    other=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    limit=st.none() | st.integers(1, 50),
    include=st.booleans(),
    exclusive=st.booleans(),
)
def test_pages_of_any_size_load_the_same_set_for_the_same_people(
    people: list[tuple[Candidate, bool]],
    sizes: list[int],
    other: list[int],
    limit: int | None,
    include: bool,
    exclusive: bool,
) -> None:
    start = loading(
        batch(
            Filters(limit=limit, include_opted_out=include),
            source="manual",
            agent_profile_id=None,
            agents=("ann", "bob", "cy"),
            duplicate_rule="skip_open" if exclusive else "none",
        )
    )
    one, made = load_all(start, people, sizes)
    two, made_again = load_all(start, people, other)
    assert made == made_again
    assert one.state is BatchState.LOADED
    assert one.skipped == two.skipped
    assert one.selected == min(len(people), limit or len(people)) == two.selected
    chosen = people[: one.selected]
    assert made.keys() == {
        stable_id("activity", "batch-1", person.contact_id)
        for person, busy in chosen
        if (include or not person.opted_out) and person.reachable_by and not (exclusive and busy)
    }


def test_whoever_is_skipped_takes_room_under_the_limit() -> None:
    people = [
        Candidate(contact_id(1), None, frozenset({"do-not-sms"}), REACHABLE),
        Candidate(contact_id(2), None, frozenset(), REACHABLE),
    ]
    start = loading(batch(Filters(limit=4)))
    page = load_page(start, people, set(), more=True, per_second=10, now=NOON).batch
    assert (page.state, page.loaded, page.room) == (BatchState.LOADING, 1, 2)
    refused = refuse(page, 1, NOON).state
    assert (refused.loaded, refused.room) == (0, 2)
    full = load_page(loading(batch(Filters(limit=2))), people, set(), more=True, per_second=10, now=NOON)
    assert (full.batch.state, full.batch.selected, full.batch.room) == (BatchState.LOADED, 2, 0)


def test_each_reason_is_counted_by_its_name() -> None:
    people = [
        Candidate(contact_id(1), None, frozenset({"do-not-sms"}), REACHABLE),
        Candidate(contact_id(2), None, frozenset({"do-not-call"}), frozenset({"email"})),
        Candidate(contact_id(3), None, frozenset({"do-not-call"}), REACHABLE),
        Candidate(contact_id(4), None, frozenset(), REACHABLE),
    ]
    page = load_page(
        loading(batch()), people, {slot_of(contact_id(4), SUBJECT)}, more=False, per_second=10, now=NOON
    )
    assert page.batch.skipped == {"opted_out": 1, "no_address": 1, "duplicate_open_activity": 1}
    assert (page.batch.loaded, page.batch.selected) == (1, 4)


def test_work_without_a_channel_needs_no_address_and_knows_no_preference() -> None:
    people = [Candidate(contact_id(1), None, frozenset({"do-not-sms", "do-not-call"}), frozenset())]
    start = loading(batch(channel=None, endpoint_id=None, source="manual", agent_profile_id=None))
    assert load_page(start, people, set(), more=False, per_second=1, now=NOON).batch.loaded == 1


def test_a_duplicate_found_later_moves_from_loaded_to_skipped() -> None:
    people = [Candidate(contact_id(number), None, frozenset(), REACHABLE) for number in range(3)]
    loaded = load_page(loading(batch()), people, set(), more=False, per_second=1, now=NOON).batch
    after = refuse(loaded, 2, NOON).state
    assert (after.loaded, after.skipped, after.selected) == (1, {"duplicate_open_activity": 2}, 3)
    assert after.version == loaded.version + 1


def test_an_end_is_estimated_while_loading_only() -> None:
    people = [Candidate(contact_id(number), None, frozenset(), REACHABLE) for number in range(40)]
    page = load_page(loading(batch()), people, set(), more=True, per_second=20, now=NOON)
    assert page.batch.estimated_end_at == NOON + timedelta(seconds=3)
    end = load_page(page.batch, [], set(), more=False, per_second=20, now=NOON)
    assert end.batch.estimated_end_at is None


def test_an_activity_of_a_batch_has_one_id_for_each_contact() -> None:
    made = loading(batch())
    found = [Candidate(contact_id=contact_id(n), reachable_by=REACHABLE) for n in range(3)]
    once, again = (
        [
            message.activity_id
            for message in load_page(made, found, set(), more=False, per_second=1.0, now=now).messages
            if isinstance(message, ActivityCreated)
        ]
        for now in (NOON, NOON + timedelta(hours=1))
    )
    assert once == again
    assert len(set(once)) == 3
