"""What Parley knows of a channel: everything that says which contact can be worked over it, and how.

A channel of somebody else's making needs no entry: no preference forbids it, its work is a task, and its
service is given the contact's id for an address.
"""

from __future__ import annotations

from collections.abc import Iterable

from contracts.vocabulary import ActivityKind, PhoneType, PreferenceKind

PREFERENCE_OF_CHANNEL: dict[str, PreferenceKind] = {
    "voice": PreferenceKind.DO_NOT_CALL,
    "sms": PreferenceKind.DO_NOT_SMS,
    "email": PreferenceKind.DO_NOT_EMAIL,
    "chat": PreferenceKind.DO_NOT_CHAT,
}
"""Which preference forbids a channel."""

KIND_OF_CHANNEL: dict[str, ActivityKind] = {
    "voice": ActivityKind.CALL,
    "sms": ActivityKind.SMS,
    "email": ActivityKind.EMAIL,
}

NEED_AN_ADDRESS = frozenset({"voice", "sms", "email"})
"""Channels that reach a contact at an address that Parley knows."""


def address_for(channel: str, phones: Iterable[tuple[str, PhoneType]], emails: Iterable[str]) -> str | None:
    """The first address for one of those channels; a text goes to a cell phone if there is one."""
    lines = [(number, type_) for number, type_ in phones if type_ is not PhoneType.FAX]
    match channel:
        case "voice":
            return next((number for number, _ in lines), None)
        case "sms":
            cells = [number for number, type_ in lines if type_ is PhoneType.CELL]
            return next(iter(cells or [number for number, _ in lines]), None)
        case "email":
            return next(iter(emails), None)
        case _:
            return None
