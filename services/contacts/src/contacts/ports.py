"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from typing import Protocol

from contacts.domain.contact import Contact, Owners
from contacts.domain.contact_type import ContactType
from contacts.domain.importing import Import, Rejected
from servicekit.unit_of_work import Store
from servicekit.verdict import Write


class Contacts(Protocol):
    async def get(self, contact_id: str) -> Contact | None:
        """Also an erased one."""
        ...

    async def load(self, contact_ids: list[str]) -> dict[str, Contact]: ...

    async def erased(self, contact_ids: Collection[str]) -> set[str]:
        """Those of them that are."""
        ...

    async def owners(self, keys: Collection[tuple[str, str]]) -> Owners: ...


class ContactTypes(Protocol):
    async def get(self, code: str) -> ContactType | None: ...

    async def page(self, after: str | None, limit: int) -> list[ContactType]: ...


class Ledger(Protocol):
    """Of consent. Its rows are written with the contact they are about."""

    async def known(self, entry_ids: list[str]) -> set[str]: ...

    async def sources_of(self, contact_id: str) -> Mapping[str, str]:
        """Entry -> where it came from."""
        ...


class Imports(Protocol):
    """Files on their way in: their bytes in chunks, the contacts seen in them, their rejected rows."""

    @property
    def store(self) -> Store[Import]: ...

    async def get(self, import_id: str) -> Import | None: ...

    async def next(self, buckets: Collection[int]) -> Import | None:
        """The oldest that has something left to do."""
        ...

    async def add_chunk(
        self, import_id: str, upload_id: str, number: int, data: bytes, at: datetime
    ) -> None: ...

    def chunks(self, import_id: str, upload_id: str | None) -> AsyncIterator[bytes]: ...

    async def seen(self, import_id: str, contact_ids: list[str]) -> set[str]:
        """Those of the contacts that an earlier row of the file was about."""
        ...

    def mark_seen(self, import_id: str, line: int, contact_ids: list[str]) -> Write:
        """What the batch that ends at `line` was about."""
        ...

    def keep_reject(self, import_id: str, reject: Rejected, at: datetime) -> Write: ...

    async def erase_rejects(self, contact_id: str, identifiers: Collection[str]) -> None:
        """Those of the contact, and those that name one of its addresses or its external id."""
        ...

    async def sweep(self, import_id: str) -> None:
        """A finished one: all but its rejected rows goes."""
        ...

    async def forget(self, import_id: str, upload_id: str) -> None:
        """An upload that was refused or broke off: as if it had never been."""
        ...

    async def forget_abandoned(self, before: datetime) -> int:
        """Remove uploads that began before that and are no longer needed, or were never accepted."""
        ...
