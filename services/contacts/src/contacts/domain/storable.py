"""What the custom fields of a contact may be made of: they are searched by name."""

from __future__ import annotations

import re

from servicekit import storable

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]{0,63}")
_DEEPEST = 16


def good_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def why_not_storable(value: object) -> str | None:
    """What is wrong with a JSON value, or None."""
    return storable.why_not_storable(value, _DEEPEST, _wrong_name)


def _wrong_name(name: str) -> str | None:
    if good_name(name):
        return None
    return f"the name {name[:64]!r} must begin with a letter and have letters, digits, _ - and spaces"
