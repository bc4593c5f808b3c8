from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from channel_sms.agents.scripted import respond, understood
from channel_sms.domain.dialogue import Answer, Conclude, Dialogue, HandOver, Say, Turn
from contracts.campaigns import SubjectChanged
from tests.channel_sms.world import CODES, subject

WORDS = st.one_of(
    st.sampled_from(["yes", "no", "basic", "plus please", "3", "three seats", "who is this?", "human", ""]),
    st.text(max_size=40),
)


def turn(text: str, dialogue: Dialogue | None = None, **changes: Any) -> Turn:
    told: dict[str, Any] = {
        "dialogue": dialogue or Dialogue(),
        "subject": subject(),
        "opening": "Would you like to renew?",
        "allowed": frozenset(CODES),
        "max_turns": 6,
    }
    return Turn(text, **{**told, **changes})


def talk(texts: list[str], **changes: Any) -> tuple[list[Answer], Dialogue]:
    answers: list[Answer] = []
    dialogue = Dialogue()
    for text in texts:
        answer = respond(turn(text, dialogue, **changes))
        answers.append(answer)
        dialogue = answer.dialogue
        if not isinstance(answer, Say):
            break
    return answers, dialogue


def test_agreement_and_valid_answers_end_with_the_yes_disposition() -> None:
    answers, dialogue = talk(["Yes", "the PLUS one", "I need three"])
    assert [type(answer) for answer in answers] == [Say, Say, Conclude]
    assert isinstance(answers[-1], Conclude)
    assert answers[-1].disposition == "sold"
    assert dialogue.captured == {"plan": "plus", "seats": 3}


def test_a_no_ends_with_the_no_disposition() -> None:
    (answer,), _ = talk(["no thanks"])
    assert isinstance(answer, Conclude)
    assert answer.disposition == "declined"


def test_what_is_not_understood_is_asked_once_more_and_then_handed_over() -> None:
    answers, _ = talk(["Who is this?", "hm"])
    assert [type(answer) for answer in answers] == [Say, HandOver]


def test_an_invalid_answer_is_asked_again_and_never_captured() -> None:
    answers, dialogue = talk(["yes", "gold", "basic", "zero"])
    assert [type(answer) for answer in answers] == [Say, Say, Say, Say]
    assert dialogue.captured == {"plan": "basic"}


def test_a_person_who_asks_for_a_person_gets_one() -> None:
    (answer,), _ = talk(["let me talk to a human"])
    assert isinstance(answer, HandOver)


def test_a_disposition_that_may_not_be_picked_is_not_picked() -> None:
    answers, _ = talk(["no"], allowed=frozenset({"sold"}))
    assert isinstance(answers[-1], HandOver)


def test_the_turn_limit_hands_over() -> None:
    answers, _ = talk(["yes", "basic"], max_turns=1)
    assert [type(answer) for answer in answers] == [Say, HandOver]


@given(st.lists(WORDS, max_size=12), st.integers(1, 5))
def test_every_talk_keeps_to_the_schema_the_dispositions_and_the_limit(
    texts: list[str], max_turns: int
) -> None:
    answers, dialogue = talk(texts, max_turns=max_turns)
    schema = subject().data_schema["properties"]
    assert set(dialogue.captured) <= set(schema)
    for field, value in dialogue.captured.items():
        Draft202012Validator(schema[field]).validate(value)
    assert sum(isinstance(answer, Say) for answer in answers) <= max_turns
    assert all(answer.disposition in CODES for answer in answers if isinstance(answer, Conclude))
    assert talk(texts, max_turns=max_turns)[0] == answers


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("I need 12 of them", {"type": "integer"}, 12),
        ("2 or 3", {"type": "integer"}, None),
        ("1.5", {"type": "number"}, 1.5),
        ("1.5", {"type": "integer"}, None),
        ("9" * 30, {"type": "integer"}, None),
        ("9" * 400, {"type": "number"}, None),
        ("yes", {"type": "boolean"}, True),
        ("nope", {"type": "boolean"}, False),
        ("basic or plus", {"enum": ["basic", "plus"]}, None),
        ("on 2027-02-03 then", {"type": "string", "format": "date"}, "2027-02-03"),
        ("2027-02-31", {"type": "string", "format": "date"}, None),
        ("it is ann@example.com thanks", {"type": "string", "format": "email"}, "ann@example.com"),
        ("anything", {"type": "string", "maxLength": 3}, None),
        ("  spaced ", {"type": ["string", "null"]}, "spaced"),
    ],
)
def test_what_is_understood(text: str, schema: dict[str, Any], value: Any) -> None:
    assert understood(text, schema) == value


def test_a_subject_without_questions_ends_with_the_first_yes() -> None:
    bare: SubjectChanged = subject(questions=())
    answer = respond(turn("yes", subject=bare))
    assert isinstance(answer, Conclude)
