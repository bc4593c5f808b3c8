"""What is asked for becomes an activity, waits for the catalogue, or never will."""

from __future__ import annotations

from dataclasses import replace

import pytest

from activities.domain.captured import faults_in
from activities.domain.creation import CreationFacts, create
from activities.domain.missing import Missing
from activities.http import NewActivity, id_for
from servicekit.verdict import Become, GiveUp, TryAgain, Unchanged
from tests.activities.builders import NOON, SUBJECT, catalog, created, manual

FACTS = CreationFacts(NOON, catalog(), {}, frozenset({"sms"}))


def test_manual_work_on_a_subject_that_is_not_known_yet_waits_for_it() -> None:
    """It would stand in a worklist where nobody can complete it."""
    unknown = manual("a-1").model_copy(update={"subject_id": "nope"})
    verdict = create(unknown, None, FACTS)
    assert isinstance(verdict, TryAgain)
    assert "there is no subject with id 'nope' here" in verdict.reason
    assert not verdict.patient, "it ends as a dead letter"
    assert isinstance(create(manual("a-1"), None, FACTS), Become)


def test_manual_work_waits_for_its_campaign_too() -> None:
    """People would complete it with what the campaign does not allow. The gate waits for an automated one."""
    verdict = create(manual("a-1").model_copy(update={"campaign_id": "care"}), None, FACTS)
    assert isinstance(verdict, TryAgain)
    assert "there is no campaign with id 'care' here" in verdict.reason
    assert isinstance(create(created("a-1").model_copy(update={"campaign_id": "care"}), None, FACTS), Become)


def test_others_do_not_wait_for_a_subject_that_was_waited_for_in_vain() -> None:
    missing = Missing()
    for now in (100, 102, 105, 110, 116):
        assert missing.too_long({"nope"}, now) == set()
    assert missing.too_long({"nope", "late"}, now=122) == {"nope"}
    assert missing.too_long(set(), now=140) == set()
    assert missing.too_long({"nope", "late"}, now=150) == {"nope"}
    assert missing.too_long({"nope"}, now=401) == set(), "it is waited for anew"

    unknown = manual("a-1").model_copy(update={"subject_id": "nope"})
    verdict = create(unknown, None, replace(FACTS, missing_too_long=frozenset({"nope"})))
    assert isinstance(verdict, GiveUp)
    assert (verdict.reason, verdict.detail) == (
        "tries_exhausted",
        "there is no subject with id 'nope' here",
    )


def test_while_nothing_could_come_nothing_was_waited_for() -> None:
    missing = Missing()
    for now in (100, 101, 160, 161):
        assert missing.too_long({"late"}, now) == set(), "the database was away for a minute"
    assert missing.too_long({"late"}, now=169) == set()
    assert missing.too_long({"late"}, now=175) == {"late"}


@pytest.mark.parametrize(
    ("field", "value"), [("activity_id", "a/b"), ("contact_id", "crm/77"), ("contact_id", "")]
)
def test_an_id_that_nobody_can_ask_for_is_refused(field: str, value: str) -> None:
    verdict = create(manual("a-1").model_copy(update={field: value}), None, FACTS)
    assert isinstance(verdict, GiveUp)
    assert verdict.detail.startswith(f"{field}: 1 to 200 letters")


def test_a_channel_that_is_not_connected_is_refused_with_those_that_are() -> None:
    postcard = created("a-1").model_copy(update={"channel": "postcard"})
    verdict = create(postcard, None, replace(FACTS, channels=frozenset({"sms", "fax"})))
    assert isinstance(verdict, GiveUp)
    assert verdict.detail == "no channel 'postcard' is connected here; there is fax, sms"


def test_an_id_that_another_contacts_activity_has_is_no_repeat() -> None:
    born = create(manual("a-1"), None, FACTS)
    assert isinstance(born, Become)
    assert isinstance(create(manual("a-1"), born.state, FACTS), Unchanged)
    for other in ({"contact_id": "someone-else"}, {"subject_id": "something-else"}):
        verdict = create(manual("a-1").model_copy(update=other), born.state, FACTS)
        assert isinstance(verdict, GiveUp)
        assert verdict.reason == "activity_exists"


def test_whoever_asks_has_a_name_and_not_a_book() -> None:
    verdict = create(manual("a-1").model_copy(update={"created_by": "x" * 201}), None, FACTS)
    assert isinstance(verdict, GiveUp)
    assert (verdict.reason, verdict.detail) == (
        "impossible_activity",
        "created_by: must have at most 200 characters",
    )
    assert isinstance(create(manual("a-1").model_copy(update={"created_by": "x" * 200}), None, FACTS), Become)


@pytest.mark.parametrize("name", ["owner", "created_by"])
def test_nobody_is_not_an_empty_name(name: str) -> None:
    verdict = create(manual("a-1").model_copy(update={name: ""}), None, FACTS)
    assert isinstance(verdict, GiveUp)
    assert (verdict.reason, verdict.detail) == ("impossible_activity", f"{name}: must not be empty")


def test_an_attempt_number_that_no_database_keeps_is_refused() -> None:
    verdict = create(manual("a-1").model_copy(update={"attempt_number": 2**63}), None, FACTS)
    assert isinstance(verdict, GiveUp)
    assert verdict.detail.startswith("attempt_number: must be at most")
    largest = manual("a-1").model_copy(update={"attempt_number": 2**63 - 1})
    assert isinstance(create(largest, None, FACTS), Become)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (2**63, "must be an integer of at most 64 bits"),
        (float("nan"), "must be a finite number"),
        ([1.5, float("inf")], "must be a finite number"),
        ("half \ud800", "text without lone surrogates"),
        ({"a\0b": 1}, "a name with a NUL"),
        ({"a": [{"\ud800": 1}]}, "a name with a NUL or half a character"),
    ],
)
def test_what_cannot_be_kept_or_published_as_it_is_cannot_be_captured(value: object, why: str) -> None:
    """A schema without a type allows all of these."""
    asked = SUBJECT.model_copy(update={"version": 700, "data_schema": {"properties": {"remark": {}}}})
    (fault,) = faults_in({"remark": value}, asked)
    assert fault.startswith("remark: must ")
    assert why in fault


def test_a_captured_field_may_be_nested_but_not_for_ever() -> None:
    asked = SUBJECT.model_copy(update={"version": 700, "data_schema": {"properties": {"remark": {}}}})
    deep: object = 1
    for _ in range(64):
        deep = {"a": deep}
    assert faults_in({"remark": deep}, asked) == []
    assert faults_in({"remark": [deep]}, asked) == ["remark: must not be nested deeper than 64 levels"]


def test_a_captured_field_is_held_to_its_format() -> None:
    schema = {"type": "object", "properties": {"mail": {"type": "string", "format": "email"}}}
    asked = SUBJECT.model_copy(update={"version": 701, "data_schema": schema})
    assert faults_in({"mail": "ann@example.org"}, asked) == []
    assert faults_in({"mail": "no address"}, asked) == ["mail: must be a mail address"]


def test_an_update_changes_no_id_that_is_made_from_a_key() -> None:
    """Or a request that a killed process did not answer would make a second activity when it is repeated."""
    told = {"contact_id": "contact-1", "kind": "call", "subject_id": "subject-1"}
    made = id_for(NewActivity.model_validate(told), "key-1")
    assert made == "e66fbd69-9e4c-5603-9d06-41635cad6e59"
    assert made == id_for(NewActivity.model_validate(told | {"owner": None}), "key-1")
