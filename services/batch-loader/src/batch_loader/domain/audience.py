"""What the searchable copy keeps of a contact, and what a load looks at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import phonenumbers

from contracts.channels import EMAIL, NEED_AN_ADDRESS, kinds_for
from contracts.contacts import ContactChanged
from contracts.vocabulary import ContactId

_LONGEST_PLAIN = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """A contact that the filters found."""

    contact_id: ContactId
    time_zone: str | None = None
    opted_out: frozenset[str] = frozenset()
    """Preferences, for example `do-not-sms`."""
    reachable_by: frozenset[str] = frozenset()
    """As `searchable` keeps it."""

    def reached_over(self, channel: str) -> bool:
        return not proofs_of_reach(channel).isdisjoint(self.reachable_by)


def searchable(contact: ContactChanged) -> dict[str, Any]:
    """No names and no mail addresses: only what can be searched for."""
    return {
        "contact_type": contact.contact_type,
        "lifecycle": contact.lifecycle.value,
        "created_at": contact.created_at,
        "time_zone": contact.time_zone,
        "phones": [phone.number for phone in contact.phones],
        "national": sorted({digits for phone in contact.phones for digits in national_digits(phone.number)}),
        "attributes": sorted(set(attributes(contact.fields))),
        "opted_out": sorted(preference.value for preference in contact.preferences),
        "reachable_by": sorted(_ways_to(contact)),
    }


def national_digits(number: str) -> set[str]:
    """How people of that country write it, with and without the trunk prefix; nothing for no country."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return set()
    written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    return {phonenumbers.national_significant_number(parsed), "".join(filter(str.isdigit, written))}


def attributes(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        for element in value if isinstance(value, list) else [value]:
            if not isinstance(element, dict | list):
                yield attribute(name, element)


def attribute(name: str, value: str | int | float | bool | None) -> str:
    """One searchable string for a custom field and a value; equal in JSON means equal here (1 is 1.0)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps([name, value], ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= _LONGEST_PLAIN else hashlib.sha256(text.encode()).hexdigest()


def proofs_of_reach(channel: str) -> frozenset[str]:
    """What in `reachable_by` shows that a contact has an address for a channel: one of its kinds, or, in a
    document of a release that kept channels alone, a channel that takes no other kinds."""
    kinds = kinds_for(channel)
    return kinds | {other for other in NEED_AN_ADDRESS if kinds_for(other) <= kinds}


def _ways_to(contact: ContactChanged) -> set[str]:
    """The kinds of address that there are, so that a channel that is yet to come finds its own; and today's
    channels, which replicas of an earlier release look for."""
    kinds = {phone.type.value for phone in contact.phones} | ({EMAIL} if contact.emails else set())
    return kinds | {channel for channel in NEED_AN_ADDRESS if not kinds.isdisjoint(kinds_for(channel))}


def masked(number: str) -> str:
    """Enough to recognise a number one knows, too little to learn it."""
    return f"{number[:3]}{'•' * max(len(number) - 5, 1)}{number[-2:]}"
