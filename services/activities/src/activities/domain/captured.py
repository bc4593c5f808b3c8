"""Whether captured data fits the subject that it was captured for."""

from __future__ import annotations

from typing import Any

from contracts.campaigns import SubjectChanged
from servicekit.json_schema import Judge, faults, judge_of
from servicekit.storable import why_not_storable

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
    given = {field: value for field, value in captured.items() if field in known}
    wrong = [f"{where or 'captured'}: {what}" for where, what in faults(_validator(subject), given)]
    not_storable = [f"{field}: {why}" for field, value in given.items() if (why := why_not_storable(value))]
    return unknown + wrong + not_storable


def _validator(subject: SubjectChanged) -> Judge:
    key = (subject.subject_id, subject.version)
    if key not in _VALIDATORS:
        if len(_VALIDATORS) >= _KEPT:
            _VALIDATORS.clear()
        partial = {name: rule for name, rule in subject.data_schema.items() if name != "required"}
        _VALIDATORS[key] = judge_of(partial)
    return _VALIDATORS[key]
