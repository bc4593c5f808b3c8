"""Whether captured data fits the subject that it was captured for."""

from __future__ import annotations

from typing import Any

from contracts.campaigns import SubjectChanged
from servicekit.json_schema import Judge, judge_of

_VALIDATORS: dict[tuple[str, int], Judge] = {}
_KEPT = 512


def faults_in(captured: dict[str, Any], subject: SubjectChanged) -> list[str]:
    """What is wrong with each field, without its value (it may be personal). Fields may be missing."""
    if not captured:
        return []
    known = subject.data_schema.get("properties", {})
    unknown = [
        f"{field}: the subject {subject.code} has no such field" for field in captured if field not in known
    ]
    wrong = [
        f"{'.'.join(map(str, error.absolute_path)) or 'captured'}: does not fit {error.validator} "
        f"{error.validator_value!r}"[:200]
        for error in _validator(subject).iter_errors({f: v for f, v in captured.items() if f in known})
    ]
    too_large = [
        f"{field}: holds a whole number of more than 64 bits"
        for field, value in captured.items()
        if field in known and not _fits(value)
    ]
    return unknown + wrong + too_large


def _fits(value: Any) -> bool:
    """A schema may allow any number; the database takes whole ones of 64 bits."""
    match value:
        case int():
            return -(2**63) <= value < 2**63
        case dict():
            return all(map(_fits, value.values()))
        case list():
            return all(map(_fits, value))
        case _:
            return True


def _validator(subject: SubjectChanged) -> Judge:
    key = (subject.subject_id, subject.version)
    if key not in _VALIDATORS:
        if len(_VALIDATORS) >= _KEPT:
            _VALIDATORS.clear()
        partial = {name: rule for name, rule in subject.data_schema.items() if name != "required"}
        _VALIDATORS[key] = judge_of(partial)
    return _VALIDATORS[key]
