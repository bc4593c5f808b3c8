"""How the first words of a conversation are written, and what a contact is sent of them.

Whoever takes an opening and whoever sends it read the same grammar here: what one accepts the other fills.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PART = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]*")
_OWN_WORDS = ("first_name", "last_name", "organisation")
"""Of every contact; any other name is one of its custom fields."""

RULE = "{first_name} or a custom field may stand in braces; write {{ for a brace"


def is_opening(text: str) -> bool:
    """Whether it keeps the rule.

    >>> is_opening("Hi {first_name}, {{yes}}"), is_opening("Hi {first_name"), is_opening("{first_name!r}")
    (True, False, False)
    """
    names = [found["name"] for found in _PART.finditer(text) if found["name"] is not None]
    around = _PART.sub("", text)
    return not {"{", "}"} & set(around) and all(_NAME.fullmatch(name) for name in names)


def filled(opening: str, contact: Mapping[str, Any]) -> str:
    """With the contact's own words; what is not known of them is left out. Yes and no are `true` and `false`.

    >>> filled("Hi {first_name}, it is time.", {"first_name": "Ann"}), filled("Hi {first_name}!", {})
    ('Hi Ann, it is time.', 'Hi!')
    """
    fields = contact.get("fields") or {}

    def part(found: re.Match[str]) -> str:
        if found["brace"] is not None:
            return found["brace"][0]
        name = found["name"]
        told = contact.get(name) if name in _OWN_WORDS else fields.get(name)
        if told is None or isinstance(told, dict | list):
            return ""
        return str(told).lower() if isinstance(told, bool) else str(told)

    text = _PART.sub(part, opening)
    return re.sub(r" +([,.!?])", r"\1", re.sub(r" {2,}", " ", text)).strip()
