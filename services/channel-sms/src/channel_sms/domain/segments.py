"""How many parts a text is sent in (3GPP TS 23.038)."""

from __future__ import annotations

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM_7 = _BASIC | _EXTENSION

_GSM_7_ALONE, _GSM_7_EACH = 160, 153
_UCS_2_ALONE, _UCS_2_EACH = 70, 67


def is_gsm_7(text: str) -> bool:
    return _GSM_7.issuperset(text)


def segments(text: str) -> int:
    """At least 1. A character of two units is never split over two parts.

    >>> segments("a" * 160), segments("a" * 161), segments("я" * 71)
    (1, 2, 2)
    """
    if is_gsm_7(text):
        doubled = _EXTENSION.intersection(text)
        if not doubled:
            return _parts(len(text), _GSM_7_ALONE, _GSM_7_EACH)
        return _packed([2 if c in doubled else 1 for c in text], _GSM_7_ALONE, _GSM_7_EACH)
    if text.isascii() or max(text) <= "\uffff":
        return _parts(len(text), _UCS_2_ALONE, _UCS_2_EACH)
    return _packed([2 if c > "\uffff" else 1 for c in text], _UCS_2_ALONE, _UCS_2_EACH)


def _parts(units: int, alone: int, each: int) -> int:
    return 1 if units <= alone else -(-units // each)


def _packed(units: list[int], alone: int, each: int) -> int:
    if sum(units) <= alone:
        return 1
    parts, used = 1, 0
    for size in units:
        if used + size > each:
            parts, used = parts + 1, 0
        used += size
    return parts
