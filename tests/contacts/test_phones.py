import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.domain.phone import BadPhone, to_e164


@pytest.mark.parametrize(
    ("written", "region", "e164"),
    [
        ("(202) 555-0143", "US", "+12025550143"),
        ("202.555.0143", "US", "+12025550143"),
        ("+1 (202) 555-0143", "DE", "+12025550143"),
        ("07700 900123", "GB", "+447700900123"),
        ("030 23125 123", "DE", "+493023125123"),
        ("0491 570 006", "AU", "+61491570006"),
        ("06 39 98 00 12", "FR", "+33639980012"),
        ("tel:+12025550143", None, "+12025550143"),
    ],
)
def test_numbers_reserved_for_fiction_are_good_numbers(written: str, region: str | None, e164: str) -> None:
    assert to_e164(written, region) == e164


@pytest.mark.parametrize(
    ("written", "region", "because"),
    [
        ("555 0143", "US", "area code"),
        ("12345", "US", "too few"),
        ("+1 202 555 01434", "US", "too many"),
        ("+999 123 4567", "US", "country code"),
        ("(102) 555-0143", "US", "begin with 2 to 9"),
        ("(202) 055-0143", "US", "begin with 2 to 9"),
        ("202 555 0143", None, "begin with + and the country code"),
        ("202 555 0143 ext 7", "US", "digits"),
        ("1.20256E+10", "US", "digits"),
        ("++12025550143", "US", "digits"),
        ("", "US", "digits"),
    ],
)
def test_a_bad_number_is_told_why(written: str, region: str | None, because: str) -> None:
    with pytest.raises(BadPhone, match=re.escape(because)):
        to_e164(written, region)


@given(st.text(max_size=30) | st.from_regex(r"\+?[0-9 ()./-]{3,25}", fullmatch=True))
def test_any_text_becomes_e164_or_is_refused(text: str) -> None:
    try:
        number = to_e164(text, "US")
    except BadPhone:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}", number)
    assert to_e164(number) == number
