"""Finding contacts, and what erasing one has to reach."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Mapping
from typing import Any

from pymongo import ASCENDING, IndexModel

from contacts.domain.commands import HANDLED
from contacts.domain.consent import LEDGER
from contacts.domain.contact import Contact, Owners
from contacts.domain.contact_type import ContactType
from contracts.vocabulary import PreferenceKind
from servicekit.mongo import Document, Mongo
from servicekit.unit_of_work import Store

CONTACT_INDEXES = (
    IndexModel(
        [("contact_type", ASCENDING), ("external_id", ASCENDING)],
        unique=True,
        partialFilterExpression={"external_id": {"$type": "string"}},
        name="external_id_of_type",
    ),
    IndexModel([("external_id", ASCENDING)], sparse=True),
    IndexModel([("phones.number", ASCENDING), ("_id", ASCENDING)]),
    IndexModel([("contact_type", ASCENDING), ("_id", ASCENDING)]),
    *(IndexModel([(f"preferences.{kind}.at", ASCENDING)], sparse=True) for kind in PreferenceKind),
)
LEDGER_INDEXES = (IndexModel([("contact_id", ASCENDING), ("version", ASCENDING), ("_id", ASCENDING)]),)


class MongoContacts:
    """Contacts that are not erased, but for `get`, `load` and `erased`."""

    def __init__(self, mongo: Mongo, store: Store[Contact]) -> None:
        self._mongo = mongo
        self._store = store

    async def get(self, contact_id: str) -> Contact | None:
        return await self._store.get(contact_id)

    async def load(self, contact_ids: list[str]) -> dict[str, Contact]:
        return await self._store.load(contact_ids)

    async def owners(self, keys: Several[tuple[str, str]]) -> Owners:
        found: dict[tuple[str, str], str] = {}
        for type_ in {type_ for type_, _ in keys}:
            wanted = [external_id for of_type, external_id in keys if of_type == type_]
            rows = self._store.collection.find(
                {"contact_type": type_, "external_id": {"$in": wanted}}, {"external_id": 1}
            )
            found |= {(type_, row["external_id"]): row["_id"] async for row in rows}
        return found

    async def erased(self, contact_ids: Several[str]) -> set[str]:
        rows = self._store.collection.find(
            {"_id": {"$in": list(contact_ids)}, "erased_at": {"$ne": None}}, {"_id": 1}
        )
        return {row["_id"] async for row in rows}

    async def page(
        self,
        *,
        contact_type: str | None,
        phone: str | None,
        external_id: str | None,
        opted_out: PreferenceKind | None,
        after: str | None,
        limit: int,
    ) -> list[Contact]:
        wanted: dict[str, Any] = {"erased_at": None}
        wanted |= {"contact_type": contact_type} if contact_type is not None else {}
        wanted |= {"phones.number": phone} if phone is not None else {}
        wanted |= {"external_id": external_id} if external_id is not None else {}
        wanted |= {f"preferences.{opted_out}.at": {"$exists": True}} if opted_out is not None else {}
        wanted |= {"_id": {"$gt": after}} if after is not None else {}
        rows = self._store.collection.find(wanted).sort("_id", ASCENDING).limit(limit)
        return [self._store.from_document(row) async for row in rows]


class MongoLedger:
    """The consent ledger, read. Its rows are written with the contact they are about."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def known(self, entry_ids: list[str]) -> set[str]:
        rows = self._mongo[LEDGER].find({"_id": {"$in": entry_ids}}, {"_id": 1})
        return {row["_id"] async for row in rows}

    async def sources_of(self, contact_id: str) -> Mapping[str, str]:
        rows = self._mongo[LEDGER].find({"contact_id": contact_id}, {"source": 1})
        return {row["_id"]: row["source"] async for row in rows}

    async def page(self, contact_id: str, after: tuple[int, str] | None, limit: int) -> list[Document]:
        """Oldest first."""
        wanted: dict[str, Any] = {"contact_id": contact_id}
        if after is not None:
            version, entry_id = after
            wanted["$or"] = [
                {"version": {"$gt": version}},
                {"version": version, "_id": {"$gt": entry_id}},
            ]
        rows = self._mongo[LEDGER].find(wanted).sort([("version", ASCENDING), ("_id", ASCENDING)])
        return [row async for row in rows.limit(limit)]


class MongoHandledUpserts:
    """Commands that were carried out. Their marks are written with the contact they are about."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def known(self, command_ids: list[str]) -> set[str]:
        rows = self._mongo[HANDLED].find({"_id": {"$in": command_ids}}, {"_id": 1})
        return {row["_id"] async for row in rows}


class MongoContactTypes:
    """All of them: there are few."""

    def __init__(self, store: Store[ContactType]) -> None:
        self._store = store

    async def get(self, code: str) -> ContactType | None:
        return await self._store.get(code)

    async def load(self, codes: Several[str]) -> dict[str, ContactType]:
        return await self._store.load(list(codes))

    async def page(self, after: str | None, limit: int) -> list[ContactType]:
        return await self._store.page(after, limit)
