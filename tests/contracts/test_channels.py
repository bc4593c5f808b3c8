"""Which contacts a channel reaches, and where."""

from __future__ import annotations

import pytest

from contracts.channels import KIND_OF_CHANNEL, NEED_AN_ADDRESS, PREFERENCE_OF_CHANNEL, address_for
from contracts.vocabulary import PhoneType

FAX = ("+12025550100", PhoneType.FAX)
HOME = ("+12025550101", PhoneType.HOME)
CELL = ("+12025550102", PhoneType.CELL)


@pytest.mark.parametrize(
    ("channel", "phones", "address"),
    [
        ("sms", [FAX, HOME, CELL], CELL[0]),
        ("sms", [FAX, HOME], HOME[0]),
        ("sms", [FAX], None),
        ("voice", [FAX, HOME, CELL], HOME[0]),
        ("voice", [FAX], None),
        ("email", [CELL], "ann@example.com"),
        ("postcard", [CELL], None),
    ],
)
def test_a_text_prefers_a_cell_phone_and_nothing_reaches_a_fax(
    channel: str, phones: list[tuple[str, PhoneType]], address: str | None
) -> None:
    assert address_for(channel, phones, ["ann@example.com"]) == address


def test_a_channel_that_needs_an_address_has_one_a_kind_and_a_preference() -> None:
    everything = [FAX, HOME, CELL]
    assert all(address_for(channel, everything, ["ann@example.com"]) for channel in NEED_AN_ADDRESS)
    assert KIND_OF_CHANNEL.keys() == NEED_AN_ADDRESS
    assert PREFERENCE_OF_CHANNEL.keys() >= NEED_AN_ADDRESS
