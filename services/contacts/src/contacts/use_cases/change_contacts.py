"""What people and systems do to one contact over REST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contacts.domain import contact as contact_
from contacts.domain.consent import Request, with_preference, without_actor
from contacts.domain.contact import Contact, Details, Owners
from contacts.domain.contact_type import ContactType
from contacts.domain.natural_key import natural_key
from contacts.ports import Contacts, ContactTypes, Ledger
from contacts.use_cases.forget_rejects import ForgetRejects, Identifiers
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
        contact_id = own_id or await self._derived_id(contact_type, details)

        async def owners(_: Contact | None) -> Owners:
            return await owners_of(self._contacts, contact_type, details.external_id)

        def decide(standing: Contact | None, owners: Owners) -> Verdict[Contact]:
            refuse_taken(owners, contact_type, details, contact_id)
            if standing is not None:
                raise ContactErased if standing.erased_at is not None else ContactExists(contact_id)
            new = contact_.created(contact_id, contact_type, details, self._clock.now())
            return Become(new, (new.announced(),))

        contact, _ = await self._commands.change(contact_id, decide, facts=owners)
        assert contact is not None
        return contact

    async def _derived_id(self, contact_type: str, details: Details) -> str:
        key = natural_key(contact_type, details)
        ids = key.ids()
        return key.place(ids, await self._contacts.load(list(ids)))


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
        async def facts(state: Contact | None) -> tuple[ContactType, Owners]:
            contact = standing(contact_id, state)
            external_id = (patch.get("external_id") or "").strip() or None
            return (
                await type_named(self._types, contact.contact_type),
                await owners_of(self._contacts, contact.contact_type, external_id),
            )

        def decide(state: Contact | None, known: tuple[ContactType, Owners]) -> Verdict[Contact]:
            contact, (type_, owners) = standing(contact_id, state), known
            details = contact_.described(_patched(contact, patch), type_)
            refuse_taken(owners, contact.contact_type, details, contact_id)
            return contact_.revised(contact, details, self._clock.now())

        contact, _ = await self._commands.change(contact_id, decide, facts=facts, expected=version)
        return standing(contact_id, contact)


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
        request = make(self._clock.now())

        async def facts(state: Contact | None) -> tuple[bool, ContactType | None]:
            contact = standing(contact_id, state)
            handled = bool(await self._ledger.known([request.entry_id]))
            return handled, await self._types.get(contact.contact_type)

        def decide(state: Contact | None, known: tuple[bool, ContactType | None]) -> Verdict[Contact]:
            contact, (handled, type_) = standing(contact_id, state), known
            if handled:
                return Unchanged("this command was handled")
            expect_version(version, contact)
            if type_ is not None and request.preference not in type_.preferences:
                raise PreferenceDoesNotApply(type_)
            return with_preference(contact, request, self._clock.now())

        contact, _ = await self._commands.change(contact_id, decide, facts=facts)
        return standing(contact_id, contact)


class EraseContact:
    """The contact, its rejected rows and the actors of its consent rows go, with sources in somebody's own
    words; a marker stays."""

    def __init__(
        self,
        commands: Commands[Contact],
        ledger: Ledger,
        forget_rejects: ForgetRejects,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._commands = commands
        self._ledger = ledger
        self._forget_rejects = forget_rejects
        self._outbox = outbox
        self._clock = clock

    async def __call__(self, contact_id: str, version: int | None) -> None:
        found_by: Identifiers = ()

        async def facts(contact: Contact | None) -> Mapping[str, str]:
            nonlocal found_by
            if contact is None:
                raise NotFound("contact", contact_id)
            if contact.erased_at is None:
                expect_version(version, contact)
            # By what its rows are found cannot be told any more once the contact is gone.
            found_by = await self._forget_rejects.announce(contact)
            return await self._ledger.sources_of(contact_id)

        def decide(contact: Contact | None, sources: Mapping[str, str]) -> Verdict[Contact]:
            assert contact is not None
            also = tuple(without_actor(*entry) for entry in sources.items())
            if contact.erased_at is not None:
                # An earlier release kept more of them.
                return Unchanged("it was erased", also=also)
            return Become(contact_.erased(contact, self._clock.now()), also=also)

        tombstone = Tombstoned(CONTACT_CHANGED.name, contact_id)
        _, verdict = await self._commands.change(
            contact_id, decide, lambda _: [self._outbox.tombstone(tombstone)], facts=facts, expected=version
        )
        await self._forget_rejects(contact_id, found_by)
        _REJECTS_ERASED()
        if isinstance(verdict, Unchanged):
            # Whoever heard of it when it knew less about forgetting hears of it again.
            await self._outbox.insert([self._outbox.tombstone(tombstone)])
            self._outbox.written.set()


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


async def owners_of(contacts: Contacts, contact_type: str, external_id: str | None) -> Owners:
    return {} if external_id is None else await contacts.owners([(contact_type, external_id)])


def refuse_taken(owners: Owners, contact_type: str, details: Details, contact_id: str) -> None:
    owner = contact_.other_owner(owners, contact_type, details, contact_id)
    if owner is not None:
        raise ExternalIdTaken(owner)


def _patched(contact: Contact, patch: Mapping[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = dict(contact.details())
    raw["phones"] = [(phone.number, phone.type) for phone in contact.phones]
    raw.update(patch)
    if patch.get("fields") is not None:
        merged = {**contact.fields, **patch["fields"]}
        raw["fields"] = {name: value for name, value in merged.items() if value is not None}
    return raw
