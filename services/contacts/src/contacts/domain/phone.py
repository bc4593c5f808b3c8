"""Phone numbers as people write them, to E.164."""

from __future__ import annotations

import re

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

_AS_WRITTEN = re.compile(r"(?:tel:)?\s*\+?[\d\s().\-/\u2010-\u2015\u00a0\u202f\u2060]+", re.IGNORECASE)
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_NORTH_AMERICAN = re.compile(r"\+1[2-9]\d{2}[2-9]\d{6}")
_LONGEST = 40

REGIONS = frozenset(phonenumbers.SUPPORTED_REGIONS)

_WHY_NOT = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "the area code is missing",
    ValidationResult.INVALID_COUNTRY_CODE: "the country code does not exist",
    ValidationResult.TOO_SHORT: "it has too few digits",
    ValidationResult.TOO_LONG: "it has too many digits",
    ValidationResult.INVALID_LENGTH: "it has a number of digits that its country does not use",
}


class BadPhone(ValueError):
    """The message says what is wrong, and does not repeat the number."""


def to_e164(written: str, region: str | None = None) -> str:
    """`region` (ISO 3166, `US`) is where a number without `+` and country code belongs.

    Judged by length and, in North America, by shape, not by whether the range is assigned: numbers that
    regulators reserve for fiction and tests are good numbers here, and ranges open all the time.
    """
    if len(written) > _LONGEST or not _AS_WRITTEN.fullmatch(written.strip()):
        raise BadPhone("a phone number has digits, an optional + in front, spaces and ( ) . - / only")
    if region is None and "+" not in written:
        raise BadPhone("without a default region it must begin with + and the country code")
    try:
        number = phonenumbers.parse(written, region)
    except NumberParseException as error:
        raise BadPhone(_unparsable(error)) from error
    verdict = phonenumbers.is_possible_number_with_reason(number)
    if verdict != ValidationResult.IS_POSSIBLE:
        raise BadPhone(_WHY_NOT.get(verdict, "it cannot be dialled"))
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    if not _E164.fullmatch(e164):
        raise BadPhone("it cannot be written as + and 7 to 15 digits")
    if e164.startswith("+1") and not _NORTH_AMERICAN.fullmatch(e164):
        raise BadPhone("a North American area code and exchange begin with 2 to 9")
    return e164


def _unparsable(error: NumberParseException) -> str:
    match error.error_type:
        case NumberParseException.INVALID_COUNTRY_CODE:
            return "the country code does not exist"
        case NumberParseException.TOO_LONG:
            return "it has too many digits"
        case _:
            return "it has too few digits"
