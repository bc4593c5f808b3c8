"""What a free value may be made of, so that the database and every reader can take it."""

from __future__ import annotations

import math
import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]{0,63}")
_DEEPEST = 16
_INTEGERS = range(-(2**63), 2**63)


def good_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def why_not_storable(value: object, depth: int = 0) -> str | None:
    """What is wrong with a JSON value, or None."""
    if depth > _DEEPEST:
        return f"must not be nested deeper than {_DEEPEST} levels"
    match value:
        case bool() | None:
            return None
        case int():
            return None if value in _INTEGERS else "must be an integer of at most 64 bits"
        case float():
            return None if math.isfinite(value) else "must be a finite number"
        case str():
            return None if _is_text(value) else "must be text without lone surrogates"
        case list() | tuple():
            return next(filter(None, (why_not_storable(item, depth + 1) for item in value)), None)
        case dict():
            if bad := next((name for name in value if not good_name(name)), None):
                return (
                    f"the name {bad[:64]!r} must begin with a letter and have letters, digits, _ - and spaces"
                )
            return next(filter(None, (why_not_storable(item, depth + 1) for item in value.values())), None)
        case _:
            return "must be a JSON value"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
