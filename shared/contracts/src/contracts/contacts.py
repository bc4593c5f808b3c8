"""Owned by services/contacts: who is talked to, and what they allow."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from contracts.message import Message, Record, Topic
from contracts.vocabulary import (
    E164,
    Code,
    ContactId,
    Identifier,
    Lifecycle,
    PhoneType,
    PreferenceKind,
    Time,
    Version,
)

CONTACT_CHANGED = Topic("contact-changed", compacted=True)
CONTACT_COMMANDS = Topic("contact-commands")


class Phone(Record):
    number: E164
    type: PhoneType = PhoneType.CELL


class OptOut(Record):
    """The first opt-out of one preference; later ones are rows in the consent ledger only."""

    at: Time
    source: str
    """Where it came from: `sms`, `import`, `api`, `workflow`, `person`."""
    actor: str


class ContactChanged(
    Message,
    type="parley.contact.changed.v1",
    topic=CONTACT_CHANGED,
    key="contact_id",
    identity=("contact_id", "version"),
    published_by=("contacts",),
    read_by=("batch-loader", "activities", "channel-sms", "stats"),
):
    """The full state of a contact. A tombstone (null body) means that the contact was erased."""

    contact_id: ContactId
    version: Version
    contact_type: Code
    lifecycle: Lifecycle = Lifecycle.PUBLISHED
    external_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    organisation: str | None = None
    phones: tuple[Phone, ...] = ()
    emails: tuple[str, ...] = ()
    time_zone: str | None = None
    """IANA name; null means unknown, and then nothing is sent that is not safe everywhere."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Custom fields, valid against the contact type's JSON Schema."""
    preferences: dict[PreferenceKind, OptOut] = Field(default_factory=dict)
    """Only what is opted out of is present."""
    created_at: Time
    changed_at: Time


class SetPreference(
    Message,
    type="parley.contact.set-preference.v1",
    topic=CONTACT_COMMANDS,
    key="contact_id",
    identity=("command_id",),
    published_by=("workflow", "channel-sms"),
    read_by=("contacts",),
):
    """Opt a contact out of something (`opted_out` true), or back in. Same command id: one ledger row.

    The newest wish holds, by `occurred_at`, in whatever order they arrive; an older one is kept in the
    consent ledger and not applied. A time ahead of ours counts as the moment of arrival. What a contact is
    opted out of stays when an upsert says nothing of it.
    """

    command_id: Identifier
    contact_id: ContactId
    preference: PreferenceKind
    opted_out: bool
    source: str
    actor: str
    occurred_at: Time


class UpsertContact(
    Message,
    type="parley.contact.upsert.v1",
    topic=CONTACT_COMMANDS,
    key="contact_id",
    identity=("command_id",),
    published_by=(),
    read_by=("contacts",),
):
    """Create the contact or replace what describes it; preferences are never touched by this command.

    The order of arrival decides, not `occurred_at`: what is told later replaces what was told before.
    """

    command_id: Identifier
    contact_id: ContactId
    contact_type: Code
    """Of a type that contacts knows."""
    lifecycle: Lifecycle = Lifecycle.PUBLISHED
    external_id: str | None = None
    """At most 200 characters, like every name here."""
    first_name: str | None = None
    last_name: str | None = None
    organisation: str | None = None
    phones: tuple[Phone, ...] = ()
    """At most 20, each with + and country code and possible in its country."""
    emails: tuple[str, ...] = ()
    """At most 20, each like name@example.org."""
    time_zone: str | None = None
    """IANA name."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Custom fields, valid against the contact type's JSON Schema."""
    occurred_at: Time
