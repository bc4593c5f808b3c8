"""MongoDB behind one seam: Motor by default, PyMongo's own async client as a setting.

The two differ in three calls (start_session, close, aggregate); nothing outside this file knows. PyMongo's
`to_list` refuses a length of 0, which Motor takes: ask for nothing without asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import structlog
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ASCENDING, AsyncMongoClient, IndexModel
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from servicekit.backoff import backoff
from servicekit.conflicts import Conflict
from servicekit.settings import MONGO_URL_RULE, BadSettings, without_login

log = structlog.get_logger()

Collection = Any
"""A Motor or PyMongo collection: their operations are the same, their types have no common name."""
Session = Any
Document = dict[str, Any]

DUPLICATE_KEY = 11000
WRITE_CONFLICT = 112

_NO_PRIMARY_SECONDS = 0.2
UNAVAILABLE = (
    AutoReconnect,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)


class Client(Protocol):
    def __getitem__(self, name: str) -> Any: ...


def difference(before: Document, after: Document) -> Document:
    """The update that makes one document of another; both have the same id."""
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    gone = {name: "" for name in before if name not in after}
    return ({"$set": changed} if changed else {}) | ({"$unset": gone} if gone else {})


def given(**fields: Any) -> Document:
    """A query for those fields that somebody wants to be equal to something."""
    return {name: value for name, value in fields.items() if value is not None}


async def rows_behind(
    collection: Collection, after: str | None, limit: int, wanted: Document | None = None
) -> list[Document]:
    """In the order of their ids, behind that one."""
    behind: Document = {} if after is None else {"_id": {"$gt": after}}
    query = {"$and": [wanted, behind]} if wanted and behind else wanted or behind
    rows: list[Document] = await collection.find(query).sort("_id", ASCENDING).limit(limit).to_list(limit)
    return rows


def is_conflict(error: PyMongoError) -> bool:
    """Whether a failed write means that the state had moved, so that deciding again makes sense."""
    if isinstance(error, DuplicateKeyError):
        return True
    if isinstance(error, BulkWriteError):
        codes = {fault.get("code") for fault in error.details.get("writeErrors", ())}
        return bool(codes) and codes <= {DUPLICATE_KEY, WRITE_CONFLICT}
    if isinstance(error, OperationFailure) and error.code == WRITE_CONFLICT:
        return True
    return error.has_error_label("TransientTransactionError") and not isinstance(error, UNAVAILABLE)


def _is_duplicate(error: PyMongoError) -> bool:
    if isinstance(error, BulkWriteError):
        return DUPLICATE_KEY in {fault.get("code") for fault in error.details.get("writeErrors", ())}
    return isinstance(error, DuplicateKeyError)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database, rather than the request, is at fault."""
    if isinstance(error, UNAVAILABLE):
        return True
    if isinstance(error, PyMongoError):
        return error.has_error_label("RetryableWriteError") or (
            isinstance(error, OperationFailure) and error.code in {91, 189, 10107, 11600, 11602, 13435, 13436}
        )
    return False


class Mongo:
    """One service's database. Raises BadSettings if no client can be made of the address."""

    def __init__(self, url: str, database: str, driver: Literal["motor", "pymongo"] = "motor") -> None:
        options: dict[str, Any] = {
            "tz_aware": True,
            "w": "majority",
            "journal": True,
            "retryWrites": True,
            "serverSelectionTimeoutMS": 5000,
            "connectTimeoutMS": 5000,
            "socketTimeoutMS": 30_000,
            "maxPoolSize": 50,
            "appname": database,
        }
        self.driver = driver
        made = AsyncIOMotorClient if driver == "motor" else AsyncMongoClient
        try:
            self._client: Any = made(url, **options)
        except OSError as wrong:  # a certificate that it names is not there
            raise BadSettings(f"MONGO_URL cannot be used: {wrong}") from None
        except (ValueError, ConfigurationError):
            raise BadSettings(f"MONGO_URL={without_login(url)!r}: {MONGO_URL_RULE}") from None
        self.database: Any = self._client[database]
        self._collections: dict[str, Collection] = {}

    def __getitem__(self, collection: str) -> Collection:
        # Making the object costs more than many a query that is sent with it.
        if collection not in self._collections:
            self._collections[collection] = self.database[collection]
        return self._collections[collection]

    async def ping(self, timeout: float = 2.0) -> None:
        async with asyncio.timeout(timeout):
            await self.database.command("ping")

    async def server_time(self) -> datetime:
        """What the database's clock shows."""
        hello = await self.database.command("hello")
        told: datetime = hello["localTime"]
        return told.replace(tzinfo=UTC)

    async def wait(self, stopping: asyncio.Event | None = None) -> None:
        """Wait until the database answers as a replica set; a stand-alone server is refused at once."""
        failures = 0
        while not (stopping and stopping.is_set()):
            try:
                hello = await self.database.command("hello")
            except UNAVAILABLE as error:
                # What the driver says begins with what is wrong and where, for example another set's name.
                log.warning("waiting for the database", error=type(error).__name__, detail=str(error)[:200])
                await asyncio.sleep(backoff(failures, 0.2, 5.0))
                failures += 1
                continue
            if "setName" not in hello:
                raise ConfigurationError(
                    "MongoDB runs without a replica set, and transactions need one:"
                    " start mongod with --replSet"
                )
            if hello.get("isWritablePrimary"):
                return
            await asyncio.sleep(_NO_PRIMARY_SECONDS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Commits at the end, aborts on any error. Raises Conflict, with nothing written, if what was read or
        expected had moved."""
        try:
            if self.driver == "motor":
                async with await self._client.start_session() as session, session.start_transaction():
                    yield session
            else:
                async with self._client.start_session() as session, await session.start_transaction():
                    yield session
        except PyMongoError as error:
            if is_conflict(error):
                raise Conflict(str(error)[:200], _is_duplicate(error)) from error
            raise

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """Everything that is read with this session is as of one moment, that of its first read."""
        session = self._client.start_session(snapshot=True)
        async with await session if self.driver == "motor" else session as opened:
            yield opened

    async def aggregate(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[Document]:
        """All the results at once: for pipelines whose answer is small."""
        return [row async for row in await self.aggregate_cursor(collection, pipeline, **options)]

    async def aggregate_cursor(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]], **options: Any
    ) -> Any:
        """An async iterator over the results, however many."""
        cursor = self.database[collection].aggregate(list(pipeline), **options)
        return cursor if self.driver == "motor" else await cursor

    async def ensure_indexes(
        self,
        indexes: Mapping[str, Sequence[IndexModel]],
        retired: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Create collections and indexes before traffic: creating one in a transaction is slow, or fails.

        retired: names of earlier versions' indexes that would be wrong now, by collection; they are dropped.
        """
        for collection, names in (retired or {}).items():
            for name in (await self.database[collection].index_information()).keys() & set(names):
                await self._drop_index(collection, name)
        existing = set(await self.database.list_collection_names())
        for collection, models in indexes.items():
            if collection not in existing:
                try:
                    await self.database.create_collection(collection, check_exists=False)
                except OperationFailure as error:
                    if error.code != 48:  # NamespaceExists: another replica was first
                        raise
            if models:
                await self.database[collection].create_indexes(list(models))
            await self._tell_of_others(collection, models)

    async def _drop_index(self, collection: str, name: str) -> None:
        try:
            await self.database[collection].drop_index(name)
        except OperationFailure as error:
            if error.code != 27:  # IndexNotFound: another replica was first
                raise
        else:
            log.info("an index of an earlier version is dropped", collection=collection, index=name)

    async def _tell_of_others(self, collection: str, models: Sequence[IndexModel]) -> None:
        """What an earlier version left, or an operator made, costs every write: that is theirs to decide."""
        declared = {"_id_", *(model.document["name"] for model in models)}
        others = (await self.database[collection].index_information()).keys() - declared
        if others:
            log.warning(
                "indexes that this version does not use", collection=collection, indexes=sorted(others)
            )

    async def close(self) -> None:
        if self.driver == "motor":
            self._client.close()
        else:
            await self._client.close()
