"""Openings: what is accepted is what can be filled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.opening import filled, is_opening

ANN = {
    "first_name": "Ann",
    "version": 3,
    "fields": {"plan": "plus", "birth date": "May 1", "a-b": 7, "paid": True},
}


@pytest.mark.parametrize(
    ("opening", "sent"),
    [
        ("Hi {first_name} , your {plan} plan ends {when}.", "Hi Ann, your plus plan ends."),
        ("Born {birth date}, {a-b}", "Born May 1, 7"),
        ("{{{first_name}}}, {{really}}", "{Ann}, {really}"),
        ("Yours, {organisation}", "Yours,"),
        ("Paid: {paid}", "Paid: true"),
    ],
)
def test_an_opening_is_filled_with_what_is_known(opening: str, sent: str) -> None:
    assert is_opening(opening)
    assert filled(opening, ANN) == sent


def test_only_names_and_custom_fields_are_said() -> None:
    assert filled("{version}{fields}{contact_id}", {**ANN, "contact_id": "c-1"}) == ""


@pytest.mark.parametrize("text", ["{first_name", "a } b", "{}", "{0}", "{first_name!r}", "{plan:>9}", "{a}}"])
def test_what_could_not_be_filled_is_no_opening(text: str) -> None:
    assert not is_opening(text)


@given(st.lists(st.sampled_from(["{{", "}}", "{first_name}", "{a b}", "hi", " "]), max_size=12))
def test_nobody_is_sent_a_placeholder(parts: list[str]) -> None:
    opening = "".join(parts)
    sent = filled(opening, {"fields": {}})
    assert is_opening(opening)
    assert sent.count("{") == parts.count("{{")
    assert sent.count("}") == parts.count("}}")
