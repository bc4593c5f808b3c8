from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.domain.commands import HANDLED, Known, decide
from contacts.domain.consent import LEDGER, Request, with_preference
from contacts.domain.contact import Contact, Details, created, erased
from contacts.domain.contact_type import ContactType
from contracts.contacts import ContactChanged, OptOut, Phone, SetPreference, UpsertContact
from contracts.vocabulary import ContactId, PreferenceKind
from servicekit.verdict import Become, GiveUp, Unchanged, Write
from tests.contacts.conftest import PERSON

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SMS = PreferenceKind.DO_NOT_SMS
TYPE = ContactType(version=1, **PERSON)
KNOWN = Known(NOW, frozenset(), {"person": TYPE}, {})


def a_contact(**details: object) -> Contact:
    return created(
        "c-1", "person", Details.model_validate({"phones": [Phone(number="+12025550143")], **details}), NOW
    )


LATER = NOW + timedelta(hours=1)
"""By then all wishes of these tests were made."""


def request(number: int, opted_out: bool, minute: int) -> Request:
    return Request(
        f"entry-{number}", SMS, opted_out, "sms", f"actor-{number}", NOW + timedelta(minutes=minute)
    )


def entry(contact: Contact, wish: Request, applied: bool, recorded_at: datetime) -> Write:
    """The row of the ledger that the change to this contact leaves."""
    return Write.new(
        LEDGER,
        wish.entry_id,
        contact_id=contact.contact_id,
        version=contact.version,
        preference=SMS,
        opted_out=wish.opted_out,
        applied=applied,
        source=wish.source,
        actor=wish.actor,
        occurred_at=wish.occurred_at,
        recorded_at=recorded_at,
    )


def upsert(**fields: object) -> UpsertContact:
    told = {"command_id": "u-1", "contact_id": "c-1", "contact_type": "person", "occurred_at": NOW}
    return UpsertContact.model_validate(told | fields)


def prefer(**fields: object) -> SetPreference:
    told = {
        "command_id": "p-1",
        "contact_id": "c-1",
        "preference": SMS,
        "opted_out": True,
        "source": "sms",
        "actor": "contact",
        "occurred_at": NOW,
    }
    return SetPreference.model_validate(told | fields)


def test_an_opt_out_from_the_future_can_be_taken_back_today() -> None:
    mistaken = request(1, opted_out=True, minute=400 * 365 * 24 * 60)
    out = with_preference(a_contact(), mistaken, NOW)
    assert out.state.preferences[SMS].at == NOW
    assert out.also == (entry(out.state, mistaken, True, NOW),)
    back = with_preference(out.state, request(2, opted_out=False, minute=1), NOW)
    assert back.state.preferences == {}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12))
def test_the_newest_wish_holds_and_an_opt_out_keeps_its_first_time(wishes: list[tuple[bool, int]]) -> None:
    contact = a_contact()
    asked: list[Request] = []
    standing: OptOut | None = None
    for number, (opted_out, minute) in enumerate(wishes):
        wish = request(number, opted_out, minute)
        verdict = with_preference(contact, wish, LATER)
        assert verdict.state.version == contact.version + 1
        was_out = SMS in contact.preferences
        contact = verdict.state
        applied = (SMS in contact.preferences) is not was_out
        assert verdict.also == (entry(contact, wish, applied, LATER),)
        asked.append(wish)
        newest = max(reversed(asked), key=lambda each: each.occurred_at)
        told = contact.preferences.get(SMS)
        assert (told is not None) is newest.opted_out
        if told is not None:
            assert told.at <= newest.occurred_at
            if was_out:
                assert told == standing
        standing = told


@given(st.permutations([(True, 0), (True, 3), (False, 2), (True, 5), (False, 4)]))
def test_the_order_in_which_wishes_arrive_does_not_matter(wishes: list[tuple[bool, int]]) -> None:
    contact = a_contact()
    for number, (opted_out, minute) in enumerate(wishes):
        contact = with_preference(contact, request(number, opted_out, minute), LATER).state
    assert SMS in contact.preferences


def test_an_opt_in_between_two_opt_outs_comes_too_late() -> None:
    contact = a_contact()
    for number, (opted_out, minute) in enumerate([(True, 0), (True, 3), (False, 2)]):
        contact = with_preference(contact, request(number, opted_out, minute), LATER).state
    assert contact.preferences[SMS].at == NOW


def test_an_opt_out_from_before_the_opt_in_comes_too_late() -> None:
    contact = a_contact()
    for number, (opted_out, minute) in enumerate([(True, 0), (False, 2), (True, 1)]):
        contact = with_preference(contact, request(number, opted_out, minute), LATER).state
    assert contact.preferences == {}


def test_a_wish_from_the_future_does_not_swallow_what_is_wished_until_then() -> None:
    ahead = with_preference(a_contact(), request(1, opted_out=False, minute=180), NOW).state
    out = with_preference(ahead, request(2, opted_out=True, minute=5), NOW + timedelta(minutes=5)).state
    assert out.preferences[SMS].at == NOW + timedelta(minutes=5)


def wish(opted_out: bool, ago: timedelta) -> Request:
    return Request("entry", SMS, opted_out, "sms", "contact", NOW - ago)


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(milliseconds=50), timedelta(minutes=5)], ids=str)
@pytest.mark.parametrize(
    "ahead", [timedelta(seconds=1), timedelta(hours=20), timedelta(days=330_000)], ids=str
)
def test_what_another_clock_noted_ahead_of_ours_swallows_no_opt_out(ahead: timedelta, ago: timedelta) -> None:
    kept = a_contact().model_copy(update={"newest_wishes": {SMS: NOW + ahead}})
    assert SMS in with_preference(kept, wish(opted_out=True, ago=ago), NOW).state.preferences


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(milliseconds=50), timedelta(minutes=5)], ids=str)
def test_an_opt_out_noted_ahead_is_taken_back_unless_clocks_may_just_differ(ago: timedelta) -> None:
    def opted_out_at(ahead: timedelta) -> Contact:
        noted = OptOut(at=NOW + ahead, source="sms", actor="contact")
        return a_contact().model_copy(update={"preferences": {SMS: noted}})

    back = wish(opted_out=False, ago=ago)
    assert not with_preference(opted_out_at(timedelta(days=330_000)), back, NOW).state.preferences
    assert not with_preference(opted_out_at(timedelta(minutes=1)), back, NOW).state.preferences
    still = with_preference(opted_out_at(timedelta(seconds=1)), back, NOW).state.preferences
    assert (SMS in still) is (ago > timedelta(0)), "it may have been made before the opt-out"


def test_an_opt_out_that_an_earlier_release_noted_is_no_older_than_it_is() -> None:
    noted = OptOut(at=NOW + timedelta(minutes=5), source="sms", actor="contact")
    contact = a_contact().model_copy(update={"preferences": {SMS: noted}, "newest_wishes": {SMS: NOW}})
    assert SMS in with_preference(contact, request(1, opted_out=False, minute=3), LATER).state.preferences
    assert not with_preference(contact, request(1, opted_out=False, minute=6), LATER).state.preferences


def test_a_command_that_was_handled_does_nothing() -> None:
    known = Known(NOW, frozenset({"p-1"}), {}, {})
    assert isinstance(decide(prefer(), a_contact(), known), Unchanged)


def test_nothing_revives_an_erased_contact() -> None:
    gone = erased(a_contact(first_name="Ada"), NOW)
    assert isinstance(decide(prefer(), gone, KNOWN), Unchanged)
    assert isinstance(decide(upsert(first_name="Ada"), gone, KNOWN), Unchanged)


def test_erasing_leaves_nothing_personal() -> None:
    gone = erased(a_contact(first_name="Ada", emails=["ada@example.org"], fields={"plan": "gold"}), NOW)
    left = gone.model_dump(exclude_defaults=True, exclude={"created_at", "changed_at", "erased_at"})
    assert left == {"contact_id": "c-1", "version": 2, "contact_type": "person", "lifecycle": "draft"}


def test_a_wish_of_somebody_unknown_is_given_up() -> None:
    assert isinstance(decide(prefer(), None, KNOWN), GiveUp)


def test_a_no_stands_however_long_the_name_is_of_whoever_brought_it() -> None:
    verdict = decide(prefer(actor="x" * 300, source="y" * 300), a_contact(), KNOWN)
    assert isinstance(verdict, Become)
    told = verdict.state.preferences[SMS]
    assert (told.actor, told.source) == ("x" * 200, "y" * 200)


def test_an_upsert_creates_and_announces_the_full_state() -> None:
    verdict = decide(upsert(first_name="Ada", phones=[{"number": "+12025550143"}]), None, KNOWN)
    assert isinstance(verdict, Become)
    (announced,) = verdict.messages
    assert isinstance(announced, ContactChanged)
    assert ContactChanged.from_json(announced.to_json()) == announced
    assert (announced.first_name, announced.version) == ("Ada", 1)


def test_an_upsert_never_touches_preferences() -> None:
    contact = with_preference(a_contact(), request(1, True, 0), NOW).state
    verdict = decide(upsert(first_name="Ada"), contact, KNOWN)
    assert isinstance(verdict, Become)
    assert verdict.state.preferences == contact.preferences


def test_an_upsert_that_says_nothing_new_is_remembered_and_changes_nothing() -> None:
    told = upsert(phones=[{"number": "+12025550143"}])
    verdict = decide(told, a_contact(), KNOWN)
    assert isinstance(verdict, Unchanged)
    assert verdict.also == (Write.new(HANDLED, "u-1", contact_id="c-1"),)


def test_a_wrong_upsert_is_given_up_without_repeating_values() -> None:
    verdict = decide(upsert(contact_id=ContactId("c-1"), fields={"plan": "secret-plan"}), None, KNOWN)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "invalid_contact"
    assert "secret-plan" not in str(verdict.detail)


@pytest.mark.parametrize("told", ["", " ", "crm/77", "..", "a?b", "a\n", "c" * 201])
def test_a_contact_that_nobody_could_ask_for_is_not_made(told: str) -> None:
    verdict = decide(upsert(contact_id=ContactId(told)), None, KNOWN)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "invalid_contact"


def test_a_contact_may_have_an_id_of_another_system() -> None:
    told = upsert(contact_id=ContactId("crm:77~a.b_c-d"), phones=[{"number": "+12025550143"}])
    assert isinstance(decide(told, None, KNOWN), Become)


def test_an_external_id_belongs_to_one_contact() -> None:
    known = Known(NOW, frozenset(), {"person": TYPE}, {("person", "X1"): "c-2"})
    verdict = decide(upsert(external_id="X1"), None, known)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "external_id_taken"
