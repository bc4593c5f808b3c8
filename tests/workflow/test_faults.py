"""What is wrong with a bundle is said in one sentence, with its place."""

from typing import Any

import pytest
from pydantic import ValidationError

from workflow.domain.faults import sentences
from workflow.http import Bundle
from workflow.use_cases.apply_flows import faults_of


def faults(*flows: Any) -> list[str]:
    try:
        return faults_of(Bundle.model_validate({"flows": flows}).flows)
    except ValidationError as wrong:
        return sentences(wrong.errors())


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ({"try_again": {"max_attempts": 3, "delay": "-2h"}}, "[0].delay: '-2h' is negative"),
        ({"try_again": {"max_attempts": 0}}, "[0].max_attempts: input should be greater than or equal to 1"),
        ({"try_again": {}}, "[0].max_attempts: is required"),
        ({"try_again": {"max_attempts": 3, "dellay": "2h"}}, "[0].dellay: is not a known field"),
        ({"telephone": {}}, "[0]: 'telephone' is not a known action; use one of finish, try_again,"),
        ("finish", "[0]: an action is a mapping with one key, one of finish,"),
        ({"finish": {}, "try_again": {}}, "[0]: an action is a mapping with one key"),
        ({"new_activity": {"kind": "fax"}}, "[0].kind: input should be 'task', 'call'"),
        ({"new_activity": {"mode": "automated"}}, "[0].channel: an automated activity needs a channel"),
        (
            {"try_again": {"max_attempts": 2, "exhausted": [{"try_again": {"max_attempts": 2}}]}},
            "[0].exhausted[0].max_attempts: 2 is never reached here",
        ),
    ],
)
def test_an_action_that_cannot_be_meant_is_named(action: Any, fault: str) -> None:
    fine = {"subject": "fine", "when": {"sold": [{"finish": {}}]}}
    (found,) = faults(fine, {"subject": "renewal", "when": {"no-answer": [action]}})
    assert found.startswith(f"flows[1].when.no-answer{fault}")


@pytest.mark.parametrize(
    ("flow", "fault"),
    [
        ({"when": {"sold": [{"finish": {}}]}}, "flows[0].subject: is required"),
        (
            {"subject": "a", "when": {"Not sold": [{"finish": {}}]}},
            "flows[0].when.Not sold: string should match",
        ),
        ({"subject": "a", "when": {"finish": [{"finish": 1}]}}, "flows[0].when.finish[0]: input should be"),
        (
            {"subject": "a", "when": {"a": [{"finish": {}}]}, "applies": "never"},
            "flows[0].applies: input should",
        ),
        (
            {"subject": "a", "when": {"a": [{"finish": {}}]}, "if": "true"},
            "flows[0].if: is not a known field",
        ),
    ],
)
def test_a_flow_that_cannot_be_meant_is_named(flow: Any, fault: str) -> None:
    (found,) = faults(flow)
    assert found.startswith(fault)


def test_what_is_right_has_no_fault() -> None:
    assert faults({"subject": "a", "when": {"sold": [{"finish": None}]}}) == []
