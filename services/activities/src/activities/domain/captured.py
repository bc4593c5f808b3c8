"""Whether captured data fits the subject that it was captured for."""

from __future__ import annotations

import math
from typing import Any

from contracts.campaigns import SubjectChanged
from servicekit.json_schema import Judge, judge_of

_VALIDATORS: dict[tuple[str, int], Judge] = {}
_KEPT = 512
_DEEPEST = 64


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
    not_storable = [
        f"{field}: {why}"
        for field, value in captured.items()
        if field in known and (why := _why_not_storable(value))
    ]
    return unknown + wrong + not_storable


def _why_not_storable(value: Any, depth: int = 0) -> str | None:
    """A schema may allow anything; the database and every reader of the topics do not take all of it."""
    if depth > _DEEPEST:
        return f"is nested deeper than {_DEEPEST} levels"
    match value:
        case int():
            return None if -(2**63) <= value < 2**63 else "holds a whole number of more than 64 bits"
        case float():
            return None if math.isfinite(value) else "holds a number that is not finite"
        case str():
            return None if _is_whole(value) else "holds half a character (a lone surrogate)"
        case dict():
            if not all("\0" not in name and _is_whole(name) for name in value):
                return "holds a name with a NUL or half a character"
            return next(filter(None, (_why_not_storable(item, depth + 1) for item in value.values())), None)
        case list():
            return next(filter(None, (_why_not_storable(item, depth + 1) for item in value)), None)
        case _:
            return None


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _validator(subject: SubjectChanged) -> Judge:
    key = (subject.subject_id, subject.version)
    if key not in _VALIDATORS:
        if len(_VALIDATORS) >= _KEPT:
            _VALIDATORS.clear()
        partial = {name: rule for name, rule in subject.data_schema.items() if name != "required"}
        _VALIDATORS[key] = judge_of(partial)
    return _VALIDATORS[key]
