from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_sms.domain.segments import is_gsm_7, segments

BASIC = st.text(alphabet="abcXYZ 019@£ñ\n", min_size=1, max_size=500)
EXTENDED = st.text(alphabet="ab€[]{}~\\|^", min_size=1, max_size=500)
WIDE = st.text(alphabet="абв漢字", min_size=1, max_size=300)
ASTRAL = st.text(alphabet="a😀🚀я", min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("я" * 70, 1),
        ("я" * 71, 2),
        ("я" * 134, 2),
        ("я" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("\u2019" + "a" * 69, 1),
        ("\u2019" + "a" * 70, 2),
    ],
)
def test_known_lengths_have_known_parts(text: str, parts: int) -> None:
    assert segments(text) == parts


@given(BASIC)
def test_basic_characters_cost_one_unit(text: str) -> None:
    assert is_gsm_7(text)
    assert segments(text) == (1 if len(text) <= 160 else -(-len(text) // 153))


@given(EXTENDED)
def test_extension_characters_cost_two_units_and_are_never_split(text: str) -> None:
    units = sum(1 if c in "ab" else 2 for c in text)
    least = 1 if units <= 160 else -(-units // 153)
    assert least <= segments(text) <= max(1, -(-units // 152))


@given(WIDE)
def test_other_characters_make_every_character_cost_one_of_seventy(text: str) -> None:
    assert segments(text) == (1 if len(text) <= 70 else -(-len(text) // 67))


@given(ASTRAL)
def test_a_surrogate_pair_is_never_split(text: str) -> None:
    if is_gsm_7(text):
        return
    units = len(text.encode("utf-16-le")) // 2
    least = 1 if units <= 70 else -(-units // 67)
    assert least <= segments(text) <= max(1, -(-units // 66))


@given(st.text(max_size=300), st.text(max_size=50))
def test_more_text_never_takes_fewer_parts(text: str, more: str) -> None:
    assert segments(text + more) >= segments(text)
