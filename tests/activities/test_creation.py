"""What is asked for becomes an activity, waits for the catalogue, or never will."""

from __future__ import annotations

import pytest

from activities.domain.captured import faults_in
from activities.domain.creation import CreationFacts, create
from servicekit.verdict import Become, GiveUp, TryAgain
from tests.activities.builders import NOON, SUBJECT, catalog, manual

FACTS = CreationFacts(NOON, catalog(), {}, frozenset({"sms"}))


def test_manual_work_on_a_subject_that_is_not_known_yet_waits_for_it() -> None:
    """It would stand in a worklist where nobody can complete it."""
    unknown = manual("a-1").model_copy(update={"subject_id": "nope"})
    verdict = create(unknown, None, FACTS)
    assert isinstance(verdict, TryAgain)
    assert "there is no subject with id 'nope' here" in verdict.reason
    assert not verdict.patient, "it ends as a dead letter"
    assert isinstance(create(manual("a-1"), None, FACTS), Become)


@pytest.mark.parametrize(
    ("field", "value"), [("activity_id", "a/b"), ("contact_id", "crm/77"), ("contact_id", "")]
)
def test_an_id_that_nobody_can_ask_for_is_refused(field: str, value: str) -> None:
    verdict = create(manual("a-1").model_copy(update={field: value}), None, FACTS)
    assert isinstance(verdict, GiveUp)
    assert str(verdict.detail["error"]).startswith(f"{field}: 1 to 200 letters")


def test_a_captured_field_is_held_to_its_format() -> None:
    schema = {"type": "object", "properties": {"mail": {"type": "string", "format": "email"}}}
    asked = SUBJECT.model_copy(update={"data_schema": schema})
    assert faults_in({"mail": "ann@example.org"}, asked) == []
    assert faults_in({"mail": "no address"}, asked) == ["mail: does not fit format 'email'"]
