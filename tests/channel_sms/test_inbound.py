"""What the texts of one batch lead to, one after the other: without engines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from channel_sms.adapters.mongo_intents import COLLECTION, cancelled
from channel_sms.domain.conversation import Conversation, ConversationState
from channel_sms.domain.dialogue import Conclude, Say
from channel_sms.domain.inbound import Arrived
from channel_sms.domain.intent import Purpose
from channel_sms.domain.wording import Meaning
from channel_sms.use_cases.decide_inbound import Directory, InboundBatch, InboundFacts, SubjectUnknown
from contracts.activities import ActivityCreated, ActivityOutcome
from contracts.contacts import SetPreference
from contracts.message import Message, stable_id
from servicekit.pipeline import is_dependency
from tests.channel_sms.world import NOW, fictional, subject

OURS = fictional(0)
HOME, WORK = fictional(1), fictional(2)


def talk(activity_id: str = "a", their_address: str = HOME) -> Conversation:
    return Conversation(
        activity_id=activity_id,
        version=3,
        contact_id="ann",
        subject_id="subject",
        endpoint_id="endpoint",
        our_address=OURS,
        their_address=their_address,
        dispatch_number=1,
        state=ConversationState.AWAITING_REPLY,
        opened_at=NOW,
        changed_at=NOW,
    )


def text(id_: str, words: str = "hello", sender: str = HOME) -> Arrived:
    return Arrived(id_, sender, OURS, words, NOW)


def batch(*conversations: Conversation, **changes: Any) -> InboundBatch:
    latest = {(each.their_address, each.our_address): each for each in conversations}
    told: dict[str, Any] = {
        "now": NOW,
        "expires_real_at": NOW + timedelta(hours=4),
        "subjects": {"subject": subject()},
        "campaigns": {},
        "profiles": {},
        "picks": frozenset({"sold"}),
        "suppressed": frozenset(),
        "directory": Directory(latest=latest),
        "texts": dict.fromkeys(Purpose, "Noted."),
    }
    return InboundBatch(InboundFacts(**told | changes), conversations)


def told(decided: InboundBatch, kind: type[Message]) -> list[Any]:
    return [message for _, message in decided.messages if isinstance(message, kind)]


def intended(decided: InboundBatch) -> list[str]:
    """Ids of the intents that are added."""
    return [write.filter["_id"] for write in decided.also if write.collection == COLLECTION and write.upsert]


def confirms(purpose: Purpose, inbound_id: str) -> str:
    return stable_id(purpose.value, inbound_id)


def test_a_stop_ends_what_is_open_with_any_number_of_the_contact() -> None:
    decided = batch(talk("home"), talk("work", WORK))
    decided.hear(text("1", "STOP"), Meaning.OPT_OUT)
    assert decided.hear(text("2", sender=WORK), Meaning.ORDINARY) is None
    assert {outcome.activity_id for outcome in told(decided, ActivityOutcome)} == {"home", "work"}
    (later,) = told(decided, ActivityCreated)
    assert (later.parent_id, later.root_id, later.destination) == ("work", "work", WORK)


def test_a_stop_takes_back_what_waits_to_be_sent() -> None:
    waiting = talk("work", WORK).model_copy(update={"intent_id": "waits"})
    decided = batch(talk("home"), waiting)
    decided.hear(text("1", "STOP"), Meaning.OPT_OUT)
    assert [write for write in decided.also if not write.must_match] == [cancelled("waits")]


def test_of_two_stops_one_is_confirmed_and_both_are_commands() -> None:
    decided = batch(talk())
    for id_ in ("1", "2"):
        decided.hear(text(id_, "STOP"), Meaning.OPT_OUT)
    assert [command.opted_out for command in told(decided, SetPreference)] == [True, True]
    assert len(told(decided, ActivityOutcome)) == 1
    assert intended(decided) == [confirms(Purpose.OPTED_OUT, "1")]


def test_a_start_lifts_the_stop_before_it() -> None:
    decided = batch(talk())
    decided.hear(text("1", "STOP"), Meaning.OPT_OUT)
    decided.hear(text("2", "START"), Meaning.OPT_IN)
    assert [command.opted_out for command in told(decided, SetPreference)] == [True, False]
    assert intended(decided) == [confirms(Purpose.OPTED_OUT, "1"), confirms(Purpose.OPTED_IN, "2")]


def test_who_writes_after_the_conclusion_is_left_to_a_person() -> None:
    decided = batch(talk())
    open_ = decided.hear(text("1", "yes"), Meaning.ORDINARY)
    assert open_ is not None
    decided.heed(text("1", "yes"), open_, Conclude("sold", "Agreed.", open_.dialogue))
    assert decided.hear(text("2", "and thanks"), Meaning.ORDINARY) is None
    (later,) = told(decided, ActivityCreated)
    assert (later.contact_id, later.parent_id) == ("ann", "a")


def test_a_second_text_goes_on_from_the_answer_to_the_first() -> None:
    decided = batch(talk())
    first = decided.hear(text("1", "yes"), Meaning.ORDINARY)
    assert first is not None
    agreed = first.dialogue.evolve(agreed=True, turns=1)
    decided.heed(text("1", "yes"), first, Say("Which plan?", agreed))
    second = decided.hear(text("2", "basic"), Meaning.ORDINARY)
    assert second is not None
    assert decided.turn(text("2", "basic"), second).dialogue == agreed


def test_a_text_whose_subject_was_lost_fails_for_a_reason_of_its_own() -> None:
    decided = batch(talk(), subjects={})
    open_ = decided.hear(text("1"), Meaning.ORDINARY)
    assert open_ is not None
    with pytest.raises(SubjectUnknown) as lost:
        decided.turn(text("1"), open_)
    assert not is_dependency(lost.value)


def test_a_stranger_is_nobodys_and_a_contact_is_asked_about() -> None:
    decided = batch()
    decided.hear(text("1"), Meaning.ORDINARY)
    assert decided.messages == []
    known = Directory(contacts={HOME: ["ann", "bob"]}, inbound_subject="inbound")
    decided = batch(directory=known)
    decided.hear(text("1"), Meaning.ORDINARY)
    (asked,) = told(decided, ActivityCreated)
    assert (asked.contact_id, asked.subject_id) == ("ann", "inbound")
