"""A MongoDB in memory: what the use cases of stats ask of one, and an error for everything else.

With it thousands of stories are told to the very code of the service in seconds. That it answers as the real
one does is shown by telling some of the same stories to both.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from functools import partial
from typing import Any

import bson
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.results import UpdateResult

from servicekit.conflicts import Conflict
from servicekit.mongo import DUPLICATE_KEY, Document, Mongo, is_conflict

_TYPE_MISMATCH = 14
_OPTIONS = bson.CodecOptions[Document](tz_aware=True, tzinfo=UTC)
_COMPARISONS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}

Write = InsertOne[Document] | UpdateOne | ReplaceOne[Document] | DeleteOne


class TypeMismatch(Exception):
    """An increment of what is no number."""


class MemoryMongo(Mongo):
    def __init__(self) -> None:
        self.driver = "motor"
        self._collections: dict[str, MemoryCollection] = {}

    def __getitem__(self, collection: str) -> MemoryCollection:
        return self._collections.setdefault(collection, MemoryCollection())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[object]:
        before = {name: dict(collection.kept) for name, collection in self._collections.items()}
        try:
            yield object()
        except BaseException as error:
            for name, collection in self._collections.items():
                collection.kept = before.get(name, {})
            if isinstance(error, PyMongoError) and is_conflict(error):
                raise Conflict(str(error)) from error
            raise


class MemoryCollection:
    """Documents are kept as BSON: nobody holds one that is kept, and what BSON cannot hold is refused."""

    def __init__(self) -> None:
        self.kept: dict[Any, bytes] = {}

    def find(
        self, wanted: Document | None = None, fields: Mapping[str, int] | None = None, session: object = None
    ) -> MemoryCursor:
        return MemoryCursor([_only(row, fields) for row in self._matching(wanted or {})])

    async def find_one(
        self,
        wanted: Document | None = None,
        fields: Mapping[str, int] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        session: object = None,
    ) -> Document | None:
        rows = self.find(wanted, fields).sort(sort).rows
        return rows[0] if rows else None

    async def insert_many(
        self, rows: Iterable[Document], ordered: bool = True, session: object = None
    ) -> None:
        await self.bulk_write([InsertOne(row) for row in rows], ordered)

    async def update_one(
        self, wanted: Document, update: Document, upsert: bool = False, session: object = None
    ) -> UpdateResult:
        there = len(self._matching(wanted)[:1])
        if self._apply(UpdateOne(wanted, update, upsert=upsert)) == DUPLICATE_KEY:
            raise DuplicateKeyError("duplicate key", DUPLICATE_KEY)
        made = wanted["_id"] if upsert and not there else None
        return UpdateResult({"n": there, "upserted": made}, acknowledged=True)

    async def update_many(self, wanted: Document, update: Document) -> None:
        for row in self._matching(wanted):
            self._apply(UpdateOne({"_id": row["_id"]}, update))

    async def delete_many(self, wanted: Document) -> None:
        for row in self._matching(wanted):
            del self.kept[row["_id"]]

    async def bulk_write(self, writes: Iterable[Write], ordered: bool = True, session: object = None) -> None:
        failed = [{"code": code} for code in map(self._apply, writes) if code]
        if failed:
            raise BulkWriteError({"writeErrors": failed, "nMatched": 0, "nUpserted": 0})

    def _matching(self, wanted: Document) -> list[Document]:
        id_ = wanted.get("_id")
        if isinstance(id_, str):
            candidates = [id_] if id_ in self.kept else []
        elif isinstance(id_, dict) and "$in" in id_:
            candidates = [each for each in dict.fromkeys(id_["$in"]) if each in self.kept]
        else:
            candidates = list(self.kept)
        rows = (bson.decode(self.kept[each], _OPTIONS) for each in candidates)
        return [row for row in rows if _fits(row, wanted)]

    def _apply(self, write: Write) -> int:
        """0, or the code of what was wrong; then nothing was written."""
        if isinstance(write, InsertOne):
            return self._insert(dict(write._doc))
        found = self._matching(dict(write._filter))
        if isinstance(write, DeleteOne):
            for row in found[:1]:
                del self.kept[row["_id"]]
            return 0
        if not found and not write._upsert:
            return 0
        fresh = not found
        row = {"_id": write._filter["_id"]} if fresh else found[0]
        assert isinstance(write._doc, Mapping)
        if isinstance(write, ReplaceOne):
            row = {**write._doc, "_id": row["_id"]}
        else:
            try:
                _update(row, write._doc, fresh)
            except TypeMismatch:
                return _TYPE_MISMATCH
        if fresh:
            return self._insert(row)
        self.kept[row["_id"]] = bson.encode(row)
        return 0

    def _insert(self, row: Document) -> int:
        id_ = row.setdefault("_id", bson.ObjectId())
        if id_ in self.kept:
            return DUPLICATE_KEY
        self.kept[id_] = bson.encode(row)
        return 0


class MemoryCursor:
    def __init__(self, rows: list[Document]) -> None:
        self.rows = rows

    def sort(self, by: str | Sequence[tuple[str, int]], order: int = 1) -> MemoryCursor:
        for path, way in reversed([(by, order)] if isinstance(by, str) else by):
            self.rows.sort(key=partial(_place, path=path), reverse=way < 0)
        return self

    def batch_size(self, count: int) -> MemoryCursor:
        return self

    def limit(self, count: int) -> MemoryCursor:
        self.rows = self.rows[:count]
        return self

    async def to_list(self, count: int) -> list[Document]:
        return self.rows[:count]

    async def __aiter__(self) -> AsyncIterator[Document]:
        for row in self.rows:
            yield row


_ABSENT = object()


def _at(row: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(row, Mapping) or name not in row:
            return _ABSENT
        row = row[name]
    return row


def _place(row: Document, path: str) -> tuple[bool, Any]:
    found = _at(row, path)
    return (False, 0) if found is _ABSENT else (True, found)


def _fits(row: Document, wanted: Mapping[str, Any]) -> bool:
    return all(
        all(_fits(row, each) for each in asked) if path == "$and" else _matches(row, path, asked)
        for path, asked in wanted.items()
    )


def _matches(row: Document, path: str, asked: Any) -> bool:
    there = _at(row, path)
    if not isinstance(asked, Mapping):
        return bool(there == asked)
    for how, value in asked.items():
        match how:
            case "$in":
                passed = there in value
            case "$ne":
                passed = there != value
            case "$exists":
                passed = (there is not _ABSENT) == value
            case _ if how in _COMPARISONS:
                passed = there is not _ABSENT and _COMPARISONS[how](there, value)
            case _:
                raise NotImplementedError(how)
        if not passed:
            return False
    return True


def _update(row: Document, update: Mapping[str, Any], fresh: bool) -> None:
    for how, fields in update.items():
        for path, value in fields.items():
            *parents, name = path.split(".")
            inside = row
            for parent in parents:
                inside = inside.setdefault(parent, {})
            match how:
                case "$set":
                    inside[name] = value
                case "$setOnInsert":
                    if fresh:
                        inside[name] = value
                case "$unset":
                    inside.pop(name, None)
                case "$inc":
                    if not isinstance(inside.get(name, 0), int):
                        raise TypeMismatch(path)
                    inside[name] = inside.get(name, 0) + value
                case "$max":
                    # Null sorts before every time.
                    standing = inside.get(name)
                    inside[name] = value if standing is None else max(standing, value)
                case _:
                    raise NotImplementedError(how)


def _only(row: Document, fields: Mapping[str, int] | None) -> Document:
    if not fields:
        return row
    if set(fields.values()) == {0}:
        return {name: value for name, value in row.items() if name not in fields}
    return {name: value for name, value in row.items() if name == "_id" or name in fields}
