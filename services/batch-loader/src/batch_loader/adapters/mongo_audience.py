"""The searchable copy of contacts: three sources feed one document, each with a version of its own.

Whichever source speaks first makes the document; only one that `contact-changed` spoke of has a lifecycle,
and every search asks for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from batch_loader.domain.audience import Candidate, attribute, masked, proofs_of_reach, searchable
from batch_loader.domain.filters import FieldValue, Filters, PhoneMatch
from batch_loader.domain.zones import names_of
from batch_loader.ports import Example
from contracts.activities import ActivityChanged
from contracts.contacts import ContactChanged
from contracts.stats import ContactStatsChanged
from contracts.vocabulary import ActivityState, ContactId, Lifecycle
from servicekit.delivery import Delivery, Tombstone
from servicekit.mongo import DUPLICATE_KEY, Collection, Document, Mongo
from servicekit.projection import ERASED
from servicekit.verdict import Outcome, Unchanged

R = TypeVar("R", int, tuple[datetime, str, int])
M = TypeVar("M")

Change = tuple[Document, Document]
"""A condition and an update."""

COLLECTION = "contacts"
INDEXES = (
    IndexModel([("contact_type", ASCENDING), ("lifecycle", ASCENDING), ("_id", ASCENDING)]),
    IndexModel([("attributes", ASCENDING), ("_id", ASCENDING)]),
    IndexModel([("phones", ASCENDING)]),
    IndexModel([("national", ASCENDING)]),
    IndexModel([("created_at", ASCENDING)]),
    IndexModel([("last_subject_id", ASCENDING), ("last_disposition", ASCENDING), ("_id", ASCENDING)]),
)

_LONG_AGO = datetime.fromtimestamp(0, UTC)
_OF_THE_CONTACT: Document = {"version": 0}
_OF_STATISTICS: Document = {"stats_version": 0, "contact_count": 0, "attempts": 0, "last_contact_at": None}
_OF_THE_LAST_COMPLETED: Document = {
    "last_completed_at": _LONG_AGO,
    "last_activity_id": "",
    "last_activity_version": 0,
    "last_subject_id": None,
    "last_disposition": None,
}
_ERASED: Document = dict.fromkeys(
    (
        "contact_type",
        "lifecycle",
        "created_at",
        "time_zone",
        "phones",
        "national",
        "attributes",
        "opted_out",
        "reachable_by",
    ),
    "",
)


class MongoAudience:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    @property
    def _contacts(self) -> Collection:
        return self._mongo[COLLECTION]

    # What it learns

    async def keep_contacts(self, batch: Sequence[Delivery[ContactChanged] | Tombstone]) -> list[Outcome]:
        newest: dict[str, tuple[int, Change]] = {}
        for delivery in batch:
            if isinstance(delivery, Tombstone):
                newest[delivery.key] = (ERASED, _erased(delivery.key))
            else:
                contact = delivery.message
                _keep_newer(newest, contact.contact_id, contact.version, _searchable, contact)
        return _outcomes(batch, await self._write(newest))

    async def keep_statistics(
        self, batch: Sequence[Delivery[ContactStatsChanged] | Tombstone]
    ) -> list[Outcome]:
        """Of contacts only; a contact that is erased is forgotten because its own tombstone says so."""
        newest: dict[str, tuple[int, Change]] = {}
        for delivery in batch:
            if isinstance(delivery, Delivery) and delivery.message.target_type == "contact":
                told = delivery.message
                _keep_newer(newest, told.target_id, told.version, _with_statistics, told)
        return _outcomes(batch, await self._write(newest))

    async def keep_last_completed(self, changes: Iterable[ActivityChanged]) -> int:
        newest: dict[str, tuple[tuple[datetime, str, int], Change]] = {}
        for change in changes:
            if change.state is ActivityState.COMPLETED:
                rank = (_completed_at(change), change.activity_id, change.version)
                _keep_newer(newest, change.contact_id, rank, _with_last_completed, change)
        return await self._write(newest)

    async def _write(self, newest: Mapping[str, tuple[Any, Change]]) -> int:
        """How many were news."""
        changes = [change for _, change in newest.values()]
        if not changes:
            return 0
        try:
            result = await self._contacts.bulk_write(
                [UpdateOne(condition, update, upsert=True) for condition, update in changes], ordered=False
            )
            return int(result.modified_count + result.upserted_count)
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if any(fault["code"] != DUPLICATE_KEY for fault in faults):
                raise
            # Something newer is known, or another source made the document at this moment: now it is there.
            missed = [UpdateOne(*changes[fault["index"]]) for fault in faults]
            again = await self._contacts.bulk_write(missed, ordered=False)
            return int(error.details["nModified"] + error.details["nUpserted"] + again.modified_count)

    # What it answers

    async def count(self, filters: Filters, as_of: datetime) -> int:
        return int(await self._contacts.count_documents(query(filters, as_of)))

    async def count_without(
        self, filters: Filters, as_of: datetime, *, preference: str | None = None, address: str | None = None
    ) -> int:
        found = query(filters, as_of)
        if address is None:
            conditions = [found, {"opted_out": preference}]
        else:
            unreached = {"reachable_by": {"$nin": sorted(proofs_of_reach(address))}}
            conditions = [found, {"opted_out": {"$ne": preference}}, unreached]
        return int(await self._contacts.count_documents({"$and": conditions}))

    async def page(
        self, filters: Filters, as_of: datetime, after: ContactId | None, size: int
    ) -> list[Candidate]:
        found = query(filters, as_of)
        if after is not None:
            found["_id"] = {"$gt": after}
        cursor = self._contacts.find(found, {"time_zone": 1, "opted_out": 1, "reachable_by": 1})
        rows = await cursor.sort("_id", ASCENDING).limit(size).to_list(size)
        return [
            Candidate(
                row["_id"], row["time_zone"], frozenset(row["opted_out"]), frozenset(row["reachable_by"])
            )
            for row in rows
        ]

    async def sample(self, filters: Filters, as_of: datetime, size: int) -> list[Example]:
        cursor = self._contacts.find(
            query(filters, as_of), {"contact_type": 1, "time_zone": 1, "phones": {"$slice": 1}}
        )
        rows = await cursor.sort("_id", ASCENDING).limit(size).to_list(size)
        return [
            Example(
                row["_id"],
                row["contact_type"],
                row["time_zone"],
                masked(row["phones"][0]) if row["phones"] else None,
            )
            for row in rows
        ]


def query(filters: Filters, as_of: datetime) -> Document:
    """The search for what was there, as it stands, at an instant."""
    lifecycles = [Lifecycle.PUBLISHED] if filters.published_only else list(Lifecycle)
    found: Document = {
        "lifecycle": {"$in": [lifecycle.value for lifecycle in lifecycles]},
        "created_at": _created(filters, as_of),
    }
    every: list[Document] = []
    if filters.contact_type is not None:
        found["contact_type"] = filters.contact_type
    if filters.phone is not None:
        every.append(_phone(filters.phone))
    if filters.time_zones:
        named = {name for zone in filters.time_zones if zone is not None for name in names_of(zone)}
        found["time_zone"] = {"$in": [*sorted(named), *((None,) if None in filters.time_zones else ())]}
    every.extend(_field(name, value) for name, value in filters.fields.items())
    if filters.last_subjects:
        found["last_subject_id"] = {"$in": list(filters.last_subjects)}
    if filters.last_dispositions:
        found["last_disposition"] = {"$in": list(filters.last_dispositions)}
    if filters.never_contacted:
        found["contact_count"] = 0
    if filters.not_contacted_in_days is not None:
        since = as_of - timedelta(days=filters.not_contacted_in_days)
        every.append({"$or": [{"last_contact_at": None}, {"last_contact_at": {"$lte": since}}]})
    if filters.attempts_below is not None:
        found["attempts"] = {"$lt": filters.attempts_below}
    return found | ({"$and": every} if every else {})


def _created(filters: Filters, as_of: datetime) -> Document:
    created: Document = {"$lte": as_of}
    if filters.created_from is not None:
        created["$gte"] = filters.created_from
    if filters.created_before is not None:
        created["$lt"] = filters.created_before
    return created


def _phone(phone: PhoneMatch) -> Document:
    numbers = "phones" if phone.value.startswith("+") else "national"
    digits = re.escape(phone.value)
    match phone.match:
        case "exact":
            return {numbers: phone.value}
        case "begins":
            return {numbers: {"$regex": f"^{digits}"}}
        case "ends":
            return {numbers: {"$regex": f"{digits}$"}}
        case "contains":
            return {numbers: {"$regex": digits}}


def _field(name: str, value: FieldValue | tuple[FieldValue, ...]) -> Document:
    wanted = value if isinstance(value, tuple) else (value,)
    return {"attributes": {"$in": [attribute(name, one) for one in wanted]}}


def _keep_newer(
    newest: dict[str, tuple[R, Change]], id_: str, rank: R, made: Callable[[M], Change], message: M
) -> None:
    if id_ not in newest or newest[id_][0] < rank:
        newest[id_] = (rank, made(message))


def _erased(contact_id: str) -> Change:
    return (
        {"_id": contact_id},
        {
            "$set": {"version": ERASED},
            "$unset": _ERASED,
            "$setOnInsert": _OF_STATISTICS | _OF_THE_LAST_COMPLETED,
        },
    )


def _searchable(contact: ContactChanged) -> Change:
    # The same version is written again: a rewind gives everybody what a later release keeps.
    return (
        {"_id": contact.contact_id, "version": {"$lte": contact.version}},
        {
            "$set": searchable(contact) | {"version": contact.version},
            "$setOnInsert": _OF_STATISTICS | _OF_THE_LAST_COMPLETED,
        },
    )


def _with_statistics(message: ContactStatsChanged) -> Change:
    return (
        {"_id": message.target_id, "stats_version": {"$lt": message.version}},
        {
            "$set": {
                "stats_version": message.version,
                "contact_count": message.total.contact_count,
                "attempts": message.total.contact_count_out,
                "last_contact_at": message.total.last_contact_at,
            },
            "$setOnInsert": _OF_THE_CONTACT | _OF_THE_LAST_COMPLETED,
        },
    )


def _with_last_completed(change: ActivityChanged) -> Change:
    completed_at = _completed_at(change)
    return (
        {
            "_id": change.contact_id,
            "$or": [
                {"last_completed_at": {"$lt": completed_at}},
                {"last_completed_at": completed_at, "last_activity_id": {"$lt": change.activity_id}},
                {"last_activity_id": change.activity_id, "last_activity_version": {"$lt": change.version}},
            ],
        },
        {
            "$set": {
                "last_completed_at": completed_at,
                "last_activity_id": change.activity_id,
                "last_activity_version": change.version,
                "last_subject_id": change.subject_id,
                "last_disposition": change.disposition,
            },
            "$setOnInsert": _OF_THE_CONTACT | _OF_STATISTICS,
        },
    )


def _completed_at(change: ActivityChanged) -> datetime:
    return change.completed_at or change.changed_at


def _outcomes(batch: Sequence[Any], written: int) -> list[Outcome]:
    return [None if position < written else Unchanged() for position in range(len(batch))]
