"""What a free JSON value may be made of, so that the database and every reader of the topics can take it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

_INTEGERS = range(-(2**63), 2**63)

WrongName = Callable[[str], str | None]


def whole_name(name: str) -> str | None:
    """What is wrong with the name of a member, or None: the database ends a name at a NUL."""
    return (
        None
        if "\0" not in name and _is_whole(name)
        else "must not have a name with a NUL or half a character"
    )


def why_not_storable(
    value: object, deepest: int = 64, wrong_name: WrongName = whole_name, depth: int = 0
) -> str | None:
    """What is wrong with a JSON value, or None. wrong_name: what is wrong with the name of a member."""

    def first(items: Iterable[object]) -> str | None:
        found = (why_not_storable(item, deepest, wrong_name, depth + 1) for item in items)
        return next(filter(None, found), None)

    if depth > deepest:
        return f"must not be nested deeper than {deepest} levels"
    match value:
        case bool() | None:
            return None
        case int():
            return None if value in _INTEGERS else "must be an integer of at most 64 bits"
        case float():
            return None if math.isfinite(value) else "must be a finite number"
        case str():
            return None if _is_whole(value) else "must be text without lone surrogates"
        case list() | tuple():
            return first(value)
        case dict():
            return next(filter(None, map(wrong_name, value)), None) or first(value.values())
        case _:
            return "must be a JSON value"


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
