"""What is wrong with a bundle, in sentences that begin with the place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contracts.faults import words_of
from workflow.domain.actions import ACTION_NAMES

_SOURCES = ("body", "query", "path")
_EXPECTED = f"one of {', '.join(ACTION_NAMES)}"


def sentences(errors: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{place(error['loc'])}: {_sentence(error)}" for error in errors]


def place(location: Sequence[str | int]) -> str:
    """`flows[0].when.no-answer[0].delay`: as a person would point at it, without the action's name."""
    text = ""
    in_action = False
    for part in location[1:] if location[:1] and location[0] in _SOURCES else location:
        in_action = isinstance(part, int) or (in_action and part in ACTION_NAMES)
        if isinstance(part, int):
            text += f"[{part}]"
        elif not in_action and part != "[key]":
            text += f".{part}"
    return text.removeprefix(".") or "the request"


def _sentence(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "is not a known field"
        case "missing":
            return "is required"
        case "union_tag_not_found":
            return f"an action is a mapping with one key, {_EXPECTED}"
        case "union_tag_invalid":
            return f"{error['ctx']['tag']!r} is not a known action; use {_EXPECTED}"
        case "string_type":
            return "must be text"
        case "value_error":
            return words_of(error)
        case _:
            message = words_of(error)
            return message[:1].lower() + message[1:]
