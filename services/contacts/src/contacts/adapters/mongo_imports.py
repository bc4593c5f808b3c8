"""Files on their way in: their bytes in chunks, the contacts seen in them, their rejected rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from collections.abc import Collection as Several
from datetime import datetime

from pymongo import ASCENDING, IndexModel

from contacts.domain.importing import Import, Rejected
from servicekit.mongo import Document, Mongo
from servicekit.unit_of_work import Store
from servicekit.verdict import Write

IMPORTS, CHUNKS, SEEN, REJECTS = "imports", "import_chunks", "import_seen", "import_rejects"

IMPORT_INDEXES = (
    IndexModel([("received_at", ASCENDING)], partialFilterExpression={"swept": False}, name="unfinished"),
)
CHUNK_INDEXES = (
    IndexModel([("import_id", ASCENDING), ("upload_id", ASCENDING), ("number", ASCENDING)], unique=True),
)
RETIRED = ("import_id_1_number_1",)
"""Of the chunks, unique: from when one import could have one upload only."""
SEEN_INDEXES = (IndexModel([("import_id", ASCENDING), ("contact_ids", ASCENDING)]),)


def reject_indexes(days: int) -> tuple[IndexModel, ...]:
    return (
        IndexModel([("import_id", ASCENDING), ("line", ASCENDING)]),
        IndexModel([("identifiers", ASCENDING)]),
        IndexModel([("contact_id", ASCENDING)]),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=days * 86_400),
    )


class MongoImports:
    def __init__(self, mongo: Mongo, store: Store[Import]) -> None:
        self._mongo = mongo
        self.store = store

    async def get(self, import_id: str) -> Import | None:
        return await self.store.get(import_id)

    async def page(self, after: str | None, limit: int) -> list[Import]:
        return await self.store.page(after, limit)

    async def next(self, buckets: Several[int]) -> Import | None:
        row = await self.store.collection.find_one(
            {"swept": False, "bucket": {"$in": sorted(buckets)}},
            sort=[("received_at", ASCENDING), ("_id", ASCENDING)],
        )
        return None if row is None else self.store.from_document(row)

    async def forget_abandoned(self, before: datetime) -> int:
        rows = self._mongo[CHUNKS].find({"at": {"$lt": before}}, {"import_id": 1, "upload_id": 1})
        begun = {(row["import_id"], row.get("upload_id")) async for row in rows}
        unfinished = self.store.collection.find({"swept": False}, {"upload_id": 1})
        needed = {(row["_id"], row.get("upload_id")) async for row in unfinished}
        for import_id, upload_id in begun - needed:
            # Nothing that began later: a new upload of the same id may be on its way.
            await self._mongo[CHUNKS].delete_many({"import_id": import_id, "upload_id": upload_id})
        return len(begun - needed)

    async def forget(self, import_id: str, upload_id: str) -> None:
        await self._mongo[CHUNKS].delete_many({"import_id": import_id, "upload_id": upload_id})

    async def sweep(self, import_id: str) -> None:
        await self._mongo[CHUNKS].delete_many({"import_id": import_id})
        await self._mongo[SEEN].delete_many({"import_id": import_id})

    async def add_chunk(self, import_id: str, upload_id: str, number: int, data: bytes, at: datetime) -> None:
        chunk = {"import_id": import_id, "upload_id": upload_id, "number": number, "data": data, "at": at}
        await self._mongo[CHUNKS].insert_one(chunk)

    async def chunks(self, import_id: str, upload_id: str | None) -> AsyncIterator[bytes]:
        rows = self._mongo[CHUNKS].find({"import_id": import_id, "upload_id": upload_id}, batch_size=4)
        async for row in rows.sort("number", ASCENDING):
            yield row["data"]

    async def seen(self, import_id: str, contact_ids: list[str]) -> set[str]:
        rows = self._mongo[SEEN].find({"import_id": import_id, "contact_ids": {"$in": contact_ids}})
        return {contact_id async for row in rows for contact_id in row["contact_ids"]} & set(contact_ids)

    async def rejects(self, import_id: str) -> AsyncIterator[Document]:
        async for row in self._mongo[REJECTS].find({"import_id": import_id}).sort("line", ASCENDING):
            yield row

    async def erase_rejects(self, contact_id: str, identifiers: Several[str]) -> None:
        theirs = [{"contact_id": contact_id}, {"identifiers": {"$in": list(identifiers)}}]
        await self._mongo[REJECTS].delete_many({"$or": theirs})

    def mark_seen(self, import_id: str, line: int, contact_ids: list[str]) -> Write:
        return Write.once(SEEN, f"{import_id}/{line}", import_id=import_id, contact_ids=contact_ids)

    def keep_reject(self, import_id: str, reject: Rejected, at: datetime) -> Write:
        return Write.once(
            REJECTS,
            f"{import_id}/{reject.line}",
            import_id=import_id,
            line=reject.line,
            reason=reject.fault.reason.value,
            what=reject.fault.what,
            cells=list(reject.cells),
            identifiers=list(reject.identifiers),
            contact_id=reject.contact_id,
            at=at,
        )
