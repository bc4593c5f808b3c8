"""Addresses that nothing may be sent to. `stopping`: an opt-out is being recorded; it blocks already.

The number of somebody who was erased is kept as its fingerprint: their no still stands, and nobody reads it.
"""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Mapping, Sequence
from datetime import datetime

from pymongo import UpdateOne

from channel_sms.domain.fingerprints import KEYED, Fingerprints
from channel_sms.domain.inbound import Arrived
from servicekit.mongo import Collection, Document, Mongo, rows_behind
from servicekit.settings import BadSettings
from servicekit.verdict import Write

COLLECTION = "suppressions"
KEYS = "fingerprint_keys"
"""Names of keys that something was hashed with, written before that; earlier versions wrote none."""
_BLOCKING = {"$in": ["stopping", "active"]}


class MongoSuppressions:
    def __init__(self, mongo: Mongo, fingerprints: Fingerprints) -> None:
        self._mongo = mongo
        self._fingerprints = fingerprints
        self._key_is_named = False
        self._rows_were_seen = False

    @property
    def collection(self) -> Collection:
        return self._mongo[COLLECTION]

    async def listed(self, address: str | None, after: str | None, limit: int) -> list[Document]:
        """Those that opted out, and those that came back. address: also as a fingerprint of it."""
        wanted = {} if address is None else {"_id": {"$in": self._known_as(address)}}
        return await rows_behind(self.collection, after, limit, wanted)

    async def among(self, addresses: Members[str]) -> set[str]:
        if not addresses:
            return set()
        return await self._found(addresses, _BLOCKING)

    async def active_among(self, addresses: Members[str]) -> set[str]:
        return await self._found(addresses, "active")

    async def _found(self, addresses: Members[str], state: object) -> set[str]:
        address_of = {name: address for address in addresses for name in self._known_as(address)}
        rows = self.collection.find({"_id": {"$in": list(address_of)}, "state": state}, {"_id": 1})
        return {address_of[row["_id"]] async for row in rows}

    def _known_as(self, address: str) -> list[str]:
        return [address, *self._fingerprints.all_of(address)]

    async def refuse_a_lost_key(self) -> None:
        """Raises BadSettings: without its key nobody knows whom a fingerprint forbids to write to."""
        names = [row["_id"] async for row in self._mongo[KEYS].find({})]
        if not self._rows_were_seen:
            # There may be many, so once: this version names a key before it hashes with it.
            keyed = {"$match": {"_id": {"$regex": KEYED}}}
            of_key = {"$group": {"_id": {"$arrayElemAt": [{"$split": ["$_id", ":"]}, 1]}}}
            names += [row["_id"] for row in await self._mongo.aggregate(COLLECTION, [keyed, of_key])]
        for name in names:
            if not self._fingerprints.knows(name):
                raise BadSettings(
                    "numbers of erased people that must not be written to are hashed with a key that is"
                    f" missing (erased:{name}:...); add it to PARLEY_SMS_FINGERPRINT_KEYS_OTHER"
                )
        self._rows_were_seen = True

    async def announce(self, addresses: Members[str]) -> None:
        """Block these addresses from now on, ahead of the transaction that records why."""
        stopping = {"$cond": [{"$eq": ["$state", "active"]}, "active", "stopping"]}
        await self.collection.bulk_write(
            [
                UpdateOne({"_id": address}, [{"$set": {"state": stopping}}], upsert=True)
                for address in addresses
            ],
            ordered=False,
        )

    async def forget(self, contact_id: str, addresses: Members[str], theirs_alone: Members[str]) -> None:
        """Of the numbers of somebody who was erased only a fingerprint stays, and that only of a no.

        One that is being recorded is left for the next time. theirs_alone: numbers that no other contact has.
        """
        await self._name_the_key()
        await self._move({address: self._fingerprints.of(address) for address in theirs_alone})
        await self.collection.update_many(
            {"_id": {"$in": list(addresses)}, "contact_ids": contact_id},
            {"$pull": {"contact_ids": contact_id}},
        )

    async def _name_the_key(self) -> None:
        if (name := self._fingerprints.name) and not self._key_is_named:
            await self._mongo[KEYS].update_one({"_id": name}, {"$set": {}}, upsert=True)
            self._key_is_named = True

    async def remember(self, addresses: Members[str]) -> None:
        """Somebody with such a number writes again: what is known under its fingerprint is under it again."""
        await self._move({name: each for each in addresses for name in self._fingerprints.all_of(each)})

    async def _move(self, ids: Mapping[str, str]) -> None:
        """Old id -> new id. Few of those that are asked about are there."""
        if not ids:
            return
        there = await self.collection.find({"_id": {"$in": list(ids)}}, {"_id": 1}).to_list(len(ids))
        for row in there:
            await self._move_one(row["_id"], ids[row["_id"]])

    async def _move_one(self, old: str, new: str) -> None:
        """Both at once: whoever moves it back meanwhile collides. Raises Conflict."""
        async with self._mongo.transaction() as session:
            row = await self.collection.find_one({"_id": old, "state": {"$ne": "stopping"}}, session=session)
            if row is None:
                return
            if row["state"] == "active":
                kept = {name: row[name] for name in ("state", "since") if name in row}
                await self.collection.update_one(
                    {"_id": new}, {"$setOnInsert": kept}, upsert=True, session=session
                )
            await self.collection.delete_one({"_id": old}, session=session)


def opted_out(arrived: Arrived, contact_ids: Sequence[str]) -> Write:
    return Write(
        COLLECTION,
        {"_id": arrived.sender, "state": "stopping"},
        {
            "$set": {
                "state": "active",
                "since": arrived.received_at,
                "inbound_id": arrived.inbound_id,
                "contact_ids": list(contact_ids),
            }
        },
    )


def stays_stopped(arrived: Arrived) -> Write:
    """An opt-out that was announced and cannot be recorded stands, so that a START can lift it."""
    return Write(
        COLLECTION,
        {"_id": arrived.sender, "state": "stopping"},
        {"$set": {"state": "active", "since": arrived.received_at, "inbound_id": arrived.inbound_id}},
        must_match=False,
    )


def opted_in(arrived: Arrived, now: datetime) -> Write:
    return Write(
        COLLECTION,
        {"_id": arrived.sender, "state": "active"},
        {"$set": {"state": "lifted", "lifted_at": now, "lifted_by": arrived.inbound_id}},
    )
