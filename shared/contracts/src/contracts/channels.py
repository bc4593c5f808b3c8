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

EMAIL = "Email"
"""The kind of address that a mail address is; a number's kind is its `PhoneType`."""

_LINES = frozenset(PhoneType) - {PhoneType.FAX}

ADDRESSES_OF_CHANNEL: dict[str, tuple[frozenset[str], ...]] = {
    "voice": (_LINES,),
    "sms": (frozenset({PhoneType.CELL}), _LINES),
    "email": (frozenset({EMAIL}),),
}
"""At which kinds of address a channel reaches a contact, those it prefers first."""

NEED_AN_ADDRESS = ADDRESSES_OF_CHANNEL.keys()
"""Channels that reach a contact at an address that Parley knows."""


def address_for(channel: str, phones: Iterable[tuple[str, PhoneType]], emails: Iterable[str]) -> str | None:
    """The first address for one of those channels; a text goes to a cell phone if there is one."""
    known: list[tuple[str, str]] = [
        *((type_, number) for number, type_ in phones),
        *((EMAIL, mail) for mail in emails),
    ]
    preferred = ADDRESSES_OF_CHANNEL.get(channel, ())
    return next((address for kinds in preferred for kind, address in known if kind in kinds), None)


def kinds_for(channel: str) -> frozenset[str]:
    """The kinds of address of which any will do; none for a channel that needs no address."""
    return frozenset().union(*ADDRESSES_OF_CHANNEL.get(channel, ()))
