"""What people and systems do to one contact over REST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contacts.domain import contact as contact_
from contacts.domain.consent import Request, with_preference, without_actor
from contacts.domain.contact import Contact, Details
from contacts.domain.contact_type import ContactType
from contacts.domain.importing import identifiers
from contacts.ports import Contacts, ContactTypes, Imports, Ledger
from contracts.contacts import CONTACT_CHANGED
from servicekit.clock import Clock
from servicekit.failpoints import Failpoint
from servicekit.outbox import Outbox, Tombstoned
from servicekit.refusals import NotFound, expect_version
from servicekit.unit_of_work import Commands
from servicekit.verdict import Become, Unchanged, Verdict

_REJECTS_ERASED = Failpoint("contacts.rejects_erased")


class ContactExists(Exception):
    def __init__(self, contact_id: str) -> None:
        super().__init__(f"It is {contact_id}; change it with PATCH.")
        self.contact_id = contact_id


class ContactErased(Exception):
    """Nothing is kept of it, and it cannot come back."""


class ExternalIdTaken(Exception):
    def __init__(self, owner: str) -> None:
        super().__init__(f"It belongs to the contact {owner}.")
        self.owner = owner


class UnknownContactType(LookupError):
    """The message says which ones there are."""


class PreferenceDoesNotApply(ValueError):
    def __init__(self, type_: ContactType) -> None:
        super().__init__(f"Contacts of type {type_.code} know {', '.join(type_.preferences) or 'none'}.")


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
        details = contact_.described(raw, type_)
        contact_id = own_id or contact_.natural_id(contact_type, details)
        await refuse_taken(self._contacts, contact_type, details, contact_id)
        now = self._clock.now()

        def decide(standing: Contact | None) -> Verdict[Contact]:
            if standing is not None:
                raise ContactErased if standing.erased_at is not None else ContactExists(contact_id)
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
            return contact_.revised(contact, contact_.described(_patched(contact, patch), type_), now)

        contact, _ = await self._commands.change(contact_id, decide, expected=version)
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

    async def __call__(
        self, contact_id: str, make: Callable[[datetime], Request], version: int | None = None
    ) -> Contact:
        """version: the one the caller saw. Raises NotFound, VersionMoved, PreferenceDoesNotApply."""
        now = self._clock.now()
        request = make(now)
        types = {type_.code: type_ for type_ in await self._types.page(None, 1000)}
        handled = bool(await self._ledger.known([request.entry_id]))

        def decide(state: Contact | None) -> Verdict[Contact]:
            contact = standing(contact_id, state)
            if handled:
                return Unchanged("this command was handled")
            expect_version(version, contact)
            type_ = types.get(contact.contact_type)
            if type_ is not None and request.preference not in type_.preferences:
                raise PreferenceDoesNotApply(type_)
            return with_preference(contact, request, now)

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
        if contact.erased_at is not None:
            # Whoever heard of it when it knew less about forgetting hears of it again.
            await self._outbox.insert([self._outbox.tombstone(tombstone)])
            self._outbox.written.set()
        while contact.erased_at is None:
            expect_version(version, contact)
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
        raise UnknownContactType(f"There is no contact type {code[:64]!r}; there are: {known}.")
    return type_


def standing(contact_id: str, contact: Contact | None) -> Contact:
    if contact is None:
        raise NotFound("contact", contact_id)
    if contact.erased_at is not None:
        raise ContactErased
    return contact


async def refuse_taken(contacts: Contacts, contact_type: str, details: Details, contact_id: str) -> None:
    if details.external_id is None:
        return
    key = (contact_type, details.external_id)
    owner = (await contacts.owners([key])).get(key, contact_id)
    if owner != contact_id:
        raise ExternalIdTaken(owner)


def _patched(contact: Contact, patch: Mapping[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = dict(contact.details())
    raw["phones"] = [(phone.number, phone.type) for phone in contact.phones]
    raw.update(patch)
    if patch.get("fields") is not None:
        merged = {**contact.fields, **patch["fields"]}
        raw["fields"] = {name: value for name, value in merged.items() if value is not None}
    return raw
