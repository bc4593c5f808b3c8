"""What topic `contact-commands` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from contacts.domain.consent import Request, with_preference
from contacts.domain.contact import (
    Contact,
    Details,
    InvalidContact,
    Owners,
    created,
    described,
    other_owner,
    revised,
)
from contacts.domain.contact_type import ContactType
from contracts.contacts import SetPreference, UpsertContact
from contracts.vocabulary import NAMELESS, OWN_ID_RULE, is_own_id, to_millisecond
from servicekit.verdict import Become, GiveUp, Unchanged, Verdict, Write

HANDLED = "handled_commands"
_LONGEST_NAME = 200

Command = SetPreference | UpsertContact


@dataclass(frozen=True, slots=True)
class Known:
    """What a batch of commands is decided with."""

    now: datetime
    handled: frozenset[str]
    """Ids of those commands in the batch that had their effect before."""
    types: Mapping[str, ContactType]
    owners: Owners


def decide(command: Command, contact: Contact | None, known: Known) -> Verdict[Contact]:
    if command.command_id in known.handled:
        return Unchanged("this command was handled")
    if contact is not None and contact.erased_at is not None:
        return Unchanged("the contact was erased")
    match command:
        case SetPreference():
            return _set_preference(command, contact, known)
        case UpsertContact():
            return _upsert(command, contact, known)
        case _:
            assert_never(command)


def _set_preference(command: SetPreference, contact: Contact | None, known: Known) -> Verdict[Contact]:
    if contact is None:
        return GiveUp("unknown_contact", f"there is no contact with id {command.contact_id!r}")
    request = Request(
        entry_id=command.command_id,
        preference=command.preference,
        opted_out=command.opted_out,
        # Cut or replaced rather than refused: a no stands, whoever says that they brought it.
        source=command.source[:_LONGEST_NAME] or NAMELESS,
        actor=command.actor[:_LONGEST_NAME] or NAMELESS,
        occurred_at=to_millisecond(command.occurred_at),
    )
    return with_preference(contact, request, known.now)


def _upsert(command: UpsertContact, contact: Contact | None, known: Known) -> Verdict[Contact]:
    type_ = known.types.get(command.contact_type)
    if type_ is None:
        return GiveUp("unknown_contact_type", f"there is no contact type {command.contact_type!r}")
    if contact is not None and contact.contact_type != command.contact_type:
        return GiveUp("contact_type_is_fixed", f"contact_type: this contact is a {contact.contact_type!r}")
    try:
        details = _described(command, type_)
    except InvalidContact as invalid:
        return GiveUp("invalid_contact", "; ".join(map(str, invalid.faults)))
    owner = other_owner(known.owners, type_.code, details, command.contact_id)
    if owner is not None:
        return GiveUp("external_id_taken", f"external_id: contact {owner!r} has it")
    if contact is None:
        if not is_own_id(command.contact_id):
            return GiveUp("invalid_contact", f"contact_id: {OWN_ID_RULE}")
        new = created(command.contact_id, type_.code, details, known.now)
        return Become(new, (new.announced(),), (_handled(command),))
    match revised(contact, details, known.now):
        case Become(state, messages):
            return Become(state, messages, (_handled(command),))
        case _:
            return Unchanged("it says so already", (_handled(command),))


def _described(command: UpsertContact, type_: ContactType) -> Details:
    raw = dict(command)
    raw["phones"] = [(phone.number, phone.type) for phone in command.phones]
    return described(raw, type_)


def _handled(command: UpsertContact) -> Write:
    return Write.new(HANDLED, command.command_id, contact_id=command.contact_id)
