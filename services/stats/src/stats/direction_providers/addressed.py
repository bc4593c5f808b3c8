"""Types whose direction follows from who sent it to whom."""

from __future__ import annotations

from datetime import datetime
from email.utils import parseaddr

from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import Direction
from stats.direction_provider import TargetView


class Addressed:
    """Sender is the contact: incoming. A recipient is: outgoing. Neither: unknown."""

    interaction_type = ""
    priority = 0
    reads_addresses = True

    def direction(self, interaction: InteractionRecorded, target: TargetView) -> Direction:
        if interaction.direction is not None:
            return interaction.direction
        between = interaction.addresses
        if between is None:
            return Direction.UNKNOWN
        if between.sender is not None and self.bare(between.sender) in target.addresses:
            return Direction.INCOMING
        if any(self.bare(to) in target.addresses for to in (*between.to, *between.cc, *between.bcc)):
            return Direction.OUTGOING
        return Direction.UNKNOWN

    def occurred_at(self, interaction: InteractionRecorded) -> datetime | None:
        return interaction.occurred_at

    def bare(self, address: str) -> str:
        return address.strip().lower()


class EmailDirection(Addressed):
    interaction_type = "email"

    def bare(self, address: str) -> str:
        """`"Dana" <Dana@Example.com>` -> `dana@example.com`."""
        return (parseaddr(address)[1] or address).strip().lower()


class SmsDirection(Addressed):
    interaction_type = "sms"

    def bare(self, address: str) -> str:
        """`tel:+1 (202) 555-0123` -> `+12025550123`. A sender's name is a name."""
        address = address.strip().lower().removeprefix("tel:")
        number = address.translate(_SEPARATORS)
        return number if number.removeprefix("+").isdecimal() else address


_SEPARATORS = dict.fromkeys(map(ord, " \t\u00a0().-/\u2010\u2011\u2013"))
