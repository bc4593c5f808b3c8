"""What people and systems do to one contact over REST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contacts.adapters.mongo_contacts import Contacts, ContactTypes, Ledger
from contacts.adapters.mongo_imports import Imports
from contacts.domain import contact as contact_
from contacts.domain.consent import Request, with_preference, without_actor
from contacts.domain.contact import Contact, Details, InvalidContact, NoNaturalKey
from contacts.domain.contact_type import ContactType
from contacts.domain.importing import identifiers
from contracts.contacts import CONTACT_CHANGED
from servicekit.clock import Clock
from servicekit.failpoints import Failpoint
from servicekit.outbox import Outbox, Tombstoned
from servicekit.problems import NotFound, Problem
from servicekit.unit_of_work import Commands
from servicekit.verdict import Become, Unchanged, Verdict

_REJECTS_ERASED = Failpoint("contacts.rejects_erased")


class CreateContact:
    def __init__(
        self, commands: Commands[Contact], contacts: Contacts, types: ContactTypes, clock: Clock
    ) -> None:
        self._commands = commands
        self._contacts = contacts
        self._types = types
        self._clock = clock

    async def __call__(self, contact_type: str, raw: Mapping[str, Any], own_id: str | None) -> Contact:
        type_ = await type_named(self._types, contact_type)
        details = checked(raw, type_)
        try:
            contact_id = own_id or contact_.natural_id(contact_type, details)
        except NoNaturalKey as missing:
            raise Problem(422, "no-natural-key", "The contact has no key", str(missing)) from missing
        await refuse_taken(self._contacts, contact_type, details, contact_id)
        now = self._clock.now()

        def decide(standing: Contact | None) -> Verdict[Contact]:
            if standing is not None:
                raise _exists(standing)
            new = contact_.created(contact_id, contact_type, details, now)
            return Become(new, (new.announced(),))

        contact, _ = await self._commands.change(contact_id, decide)
        assert contact is not None
        return contact


class ReviseContact:
    """A merge patch (RFC 7396): what is named replaces, null clears, custom fields merge one by one."""

    def __init__(
        self, commands: Commands[Contact], contacts: Contacts, types: ContactTypes, clock: Clock
    ) -> None:
        self._commands = commands
        self._contacts = contacts
        self._types = types
        self._clock = clock

    async def __call__(self, contact_id: str, patch: Mapping[str, Any], version: int | None) -> Contact:
        known = standing(contact_id, await self._contacts.get(contact_id))
        type_ = await type_named(self._types, known.contact_type)
        if external_id := patch.get("external_id"):
            wanted = Details(external_id=external_id.strip() or None)
            await refuse_taken(self._contacts, known.contact_type, wanted, contact_id)
        now = self._clock.now()

        def decide(state: Contact | None) -> Verdict[Contact]:
            contact = standing(contact_id, state)
            refuse_other_version(contact, version)
            return contact_.revised(contact, checked(_patched(contact, patch), type_), now)

        contact, _ = await self._commands.change(contact_id, decide)
        assert contact is not None
        return contact


class SetContactPreference:
    def __init__(
        self, commands: Commands[Contact], types: ContactTypes, ledger: Ledger, clock: Clock
    ) -> None:
        self._commands = commands
        self._types = types
        self._ledger = ledger
        self._clock = clock

    async def __call__(self, contact_id: str, make: Callable[[datetime], Request]) -> Contact:
        now = self._clock.now()
        request = make(now)
        types = {type_.code: type_ for type_ in await self._types.page(None, 1000)}
        handled = bool(await self._ledger.known([request.entry_id]))

        def decide(state: Contact | None) -> Verdict[Contact]:
            contact = standing(contact_id, state)
            type_ = types.get(contact.contact_type)
            if type_ is not None and request.preference not in type_.preferences:
                raise Problem(
                    422,
                    "preference-does-not-apply",
                    "This preference does not apply",
                    f"Contacts of type {type_.code} know {', '.join(type_.preferences) or 'none'}.",
                )
            return (
                Unchanged("this command was handled") if handled else with_preference(contact, request, now)
            )

        contact, _ = await self._commands.change(contact_id, decide)
        assert contact is not None
        return contact


class EraseContact:
    """The contact, its rejected rows and the actors of its consent rows go; a marker stays."""

    def __init__(
        self,
        commands: Commands[Contact],
        contacts: Contacts,
        ledger: Ledger,
        imports: Imports,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._commands = commands
        self._contacts = contacts
        self._ledger = ledger
        self._imports = imports
        self._outbox = outbox
        self._clock = clock

    async def __call__(self, contact_id: str, version: int | None) -> None:
        contact = await self._contacts.get(contact_id)
        if contact is None:
            raise NotFound("contact", contact_id)
        # First what cannot be found again once the contact is gone.
        await self._imports.erase_rejects(identifiers(contact.details()))
        _REJECTS_ERASED()
        tombstone = Tombstoned(CONTACT_CHANGED.name, contact_id)
        while contact.erased_at is None:
            refuse_other_version(contact, version)
            known = contact.version
            rows = tuple(map(without_actor, await self._ledger.entries_of(contact_id)))

            def decide(state: Contact | None) -> Verdict[Contact]:
                if state is None or state.erased_at is not None or state.version != known:  # noqa: B023
                    return Unchanged("it moved meanwhile")
                return Become(contact_.erased(state, self._clock.now()), also=rows)  # noqa: B023

            changed, _ = await self._commands.change(
                contact_id, decide, lambda _: [self._outbox.tombstone(tombstone)]
            )
            assert changed is not None
            contact = changed


async def type_named(types: ContactTypes, code: str) -> ContactType:
    type_ = await types.get(code)
    if type_ is None:
        known = ", ".join(known.code for known in await types.page(None, 20)) or "none yet"
        raise Problem(
            422,
            "unknown-contact-type",
            "No such contact type",
            f"There is no contact type {code[:64]!r}; there are: {known}.",
        )
    return type_


def checked(raw: Mapping[str, Any], type_: ContactType) -> Details:
    try:
        return contact_.described(raw, type_)
    except InvalidContact as invalid:
        raise Problem(
            422,
            "invalid-contact",
            "The contact is not valid",
            str(invalid),
            errors=[
                {"where": fault.where, "reason": fault.reason, "what": fault.what} for fault in invalid.faults
            ],
        ) from invalid


def standing(contact_id: str, contact: Contact | None) -> Contact:
    if contact is None:
        raise NotFound("contact", contact_id)
    if contact.erased_at is not None:
        raise _was_erased(contact)
    return contact


def refuse_other_version(contact: Contact, version: int | None) -> None:
    if version is not None and contact.version != version:
        raise Problem(
            412,
            "version-moved",
            "The contact changed meanwhile",
            f"It is at version {contact.version}, not {version}; read it again.",
        )


async def refuse_taken(contacts: Contacts, contact_type: str, details: Details, contact_id: str) -> None:
    if details.external_id is None:
        return
    key = (contact_type, details.external_id)
    owner = (await contacts.owners([key])).get(key, contact_id)
    if owner != contact_id:
        raise Problem(
            409,
            "external-id-taken",
            "Another contact has this external id",
            f"It belongs to the contact {owner}.",
            contact_id=owner,
        )


def _patched(contact: Contact, patch: Mapping[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = dict(contact.details())
    raw["phones"] = [(phone.number, phone.type) for phone in contact.phones]
    raw.update(patch)
    if patch.get("fields"):
        merged = {**contact.fields, **patch["fields"]}
        raw["fields"] = {name: value for name, value in merged.items() if value is not None}
    return raw


def _exists(contact: Contact) -> Problem:
    if contact.erased_at is not None:
        return _was_erased(contact)
    return Problem(
        409,
        "contact-exists",
        "This contact exists",
        f"It is {contact.contact_id}; change it with PATCH.",
        contact_id=contact.contact_id,
    )


def _was_erased(contact: Contact) -> Problem:
    return Problem(410, "erased", "The contact was erased", "Nothing is kept of it, and it cannot come back.")
