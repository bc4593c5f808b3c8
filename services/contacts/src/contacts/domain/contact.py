"""A person or company to reach: what may be said about one, and how it changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contacts.domain.contact_type import ContactType
from contacts.domain.phone import BadPhone, to_e164
from contacts.domain.storable import good_name, why_not_storable
from contacts.domain.time_zone import BadTimeZone, canonical
from contracts.contacts import ContactChanged, OptOut, Phone
from contracts.vocabulary import Code, Lifecycle, PhoneType, PreferenceKind, Time
from servicekit.verdict import Become, Unchanged, Verdict, following

Text = str | None
_EMAIL = re.compile(r"[^@\s\0,;<>\"]{1,64}@(?=.{3,190}$)[^@\s\0.,;<>\"]+(\.[^@\s\0.,;<>\"]+)+")
_MOST_ADDRESSES = 20
_LONGEST_TEXT = 200
LARGEST_FIELDS = 256 * 1024
_TEXTS = ("external_id", "first_name", "last_name", "organisation")


class Reason(StrEnum):
    BAD_PHONE = "bad_phone"
    BAD_EMAIL = "bad_email"
    BAD_TIME_ZONE = "bad_time_zone"
    MISSING_TIME_ZONE = "missing_time_zone"
    MISSING_ADDRESS = "missing_address"
    INVALID_FIELD = "invalid_field"
    DUPLICATE_IN_FILE = "duplicate_in_file"
    ERASED = "erased"
    KEY_USED_UP = "key_used_up"
    BROKEN_ROW = "broken_row"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, where, and what would be right. Never the value: it may be personal."""

    reason: Reason
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class InvalidContact(ValueError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


class Details(BaseModel):
    """What describes a contact, apart from its preferences."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lifecycle: Lifecycle = Lifecycle.PUBLISHED
    external_id: Text = None
    first_name: Text = None
    last_name: Text = None
    organisation: Text = None
    phones: tuple[Phone, ...] = ()
    emails: tuple[str, ...] = ()
    time_zone: Text = None
    fields: dict[str, Any] = Field(default_factory=dict)


class Contact(Details):
    """The aggregate. An erased one stays as a marker without personal data, so that nothing revives it."""

    contact_id: str
    version: int
    contact_type: Code
    preferences: dict[PreferenceKind, OptOut] = Field(default_factory=dict)
    newest_wishes: dict[PreferenceKind, Time] = Field(default_factory=dict)
    """Of each preference, when the newest wish was made that counted: an older one comes too late."""
    created_at: Time
    changed_at: Time
    erased_at: Time | None = None

    def details(self) -> Details:
        return Details(**{name: getattr(self, name) for name in Details.model_fields})

    def announced(self) -> ContactChanged:
        return ContactChanged.model_construct(
            **{name: getattr(self, name) for name in ContactChanged.model_fields}
        )


Owners = Mapping[tuple[str, str], str]
"""(contact type, external id) -> contact id, of those that somebody has."""


def other_owner(owners: Owners, contact_type: str, details: Details, contact_id: str) -> str | None:
    """Who else has this external id."""
    owner = owners.get((contact_type, details.external_id or ""), contact_id)
    return owner if owner != contact_id else None


def described(raw: Mapping[str, Any], type_: ContactType, region: str | None = None) -> Details:
    """Details that are right for this type of contact. Raises InvalidContact with every fault there is."""
    details, faults = written(raw, region)
    faults += type_faults(details, type_)
    if faults:
        raise InvalidContact(faults)
    return details


def written(raw: Mapping[str, Any], region: str | None = None) -> tuple[Details, list[Fault]]:
    """Details in their one written form (E.164, lower-case e-mails, canonical zone names), and what could
    not be brought into it. `raw` has the fields of Details, with phones as (number, type).
    """
    faults: list[Fault] = []
    details = Details(
        lifecycle=raw.get("lifecycle") or Lifecycle.PUBLISHED,
        phones=tuple(_phones(raw.get("phones") or (), region, faults)),
        emails=tuple(_emails(raw.get("emails") or (), faults)),
        time_zone=_time_zone(raw.get("time_zone"), faults),
        fields=dict(raw.get("fields") or {}),
        **{name: _text(name, raw.get(name), faults) for name in _TEXTS},
    )
    return details, faults


def type_faults(details: Details, type_: ContactType) -> list[Fault]:
    """What this type of contact does not allow, and what has become too much by being added to."""
    faults = list(_field_faults(details.fields, type_))
    if not faults and len(json.dumps(details.fields, ensure_ascii=False).encode()) > LARGEST_FIELDS:
        what = f"all custom fields of a contact together have at most {LARGEST_FIELDS:,} bytes of JSON"
        faults.append(Fault(Reason.INVALID_FIELD, "fields", what))
    if len(details.phones) > _MOST_ADDRESSES:
        faults.append(Fault(Reason.BAD_PHONE, "phones", f"at most {_MOST_ADDRESSES}"))
    if len(details.emails) > _MOST_ADDRESSES:
        faults.append(Fault(Reason.BAD_EMAIL, "emails", f"at most {_MOST_ADDRESSES}"))
    if type_.time_zone_required and details.time_zone is None:
        what = f"contacts of type {type_.code} need a time zone"
        faults.insert(0, Fault(Reason.MISSING_TIME_ZONE, "time_zone", what))
    return faults


def _text(name: str, value: Text, faults: list[Fault]) -> Text:
    text = (value or "").strip()
    if len(text) > _LONGEST_TEXT:
        faults.append(Fault(Reason.INVALID_FIELD, name, f"at most {_LONGEST_TEXT} characters"))
    if "\0" in text:
        faults.append(Fault(Reason.INVALID_FIELD, name, "must be text without NUL"))
    return text or None


def _phones(
    given: Sequence[tuple[str, PhoneType]], region: str | None, faults: list[Fault]
) -> Iterator[Phone]:
    if len(given) > _MOST_ADDRESSES:
        faults.append(Fault(Reason.BAD_PHONE, "phones", f"at most {_MOST_ADDRESSES}"))
        return
    seen: set[str] = set()
    for position, (written, type_) in enumerate(given):
        try:
            number = to_e164(written, region)
        except BadPhone as bad:
            faults.append(Fault(Reason.BAD_PHONE, f"phones.{position}.number", str(bad)))
            continue
        if number not in seen:
            seen.add(number)
            yield Phone(number=number, type=type_)


def _emails(given: Sequence[str], faults: list[Fault]) -> Iterator[str]:
    if len(given) > _MOST_ADDRESSES:
        faults.append(Fault(Reason.BAD_EMAIL, "emails", f"at most {_MOST_ADDRESSES}"))
        return
    seen: set[str] = set()
    for position, written in enumerate(given):
        email = written.strip().lower()
        if not _EMAIL.fullmatch(email):
            faults.append(Fault(Reason.BAD_EMAIL, f"emails.{position}", "must look like name@example.org"))
        elif email not in seen:
            seen.add(email)
            yield email


def _time_zone(name: Text, faults: list[Fault]) -> Text:
    if not name or not name.strip():
        return None
    try:
        return canonical(name)
    except BadTimeZone as bad:
        faults.append(Fault(Reason.BAD_TIME_ZONE, "time_zone", str(bad)))
        return None


def _field_faults(fields: Mapping[str, Any], type_: ContactType) -> Iterator[Fault]:
    for name, value in fields.items():
        where = f"fields.{name[:64]}"
        if not good_name(name):
            yield Fault(Reason.INVALID_FIELD, where, "a name has letters, digits, _ - and spaces")
            return
        if wrong := why_not_storable(value):
            yield Fault(Reason.INVALID_FIELD, where, wrong)
            return
    for where, what in type_.field_faults(fields):
        yield Fault(Reason.INVALID_FIELD, f"fields.{where}" if where else "fields", what)


def created(contact_id: str, contact_type: str, details: Details, now: datetime) -> Contact:
    return Contact(
        **dict(details),
        contact_id=contact_id,
        version=1,
        contact_type=contact_type,
        created_at=now,
        changed_at=now,
    )


def revised(contact: Contact, details: Details, now: datetime) -> Verdict[Contact]:
    if contact.details() == details:
        return Unchanged("it says so already")
    changed = following(contact, **dict(details), changed_at=now)
    return Become(changed, (changed.announced(),))


def erased(contact: Contact, now: datetime) -> Contact:
    return Contact(
        contact_id=contact.contact_id,
        version=contact.version + 1,
        contact_type=contact.contact_type,
        lifecycle=Lifecycle.DRAFT,
        created_at=contact.created_at,
        changed_at=now,
        erased_at=now,
    )
