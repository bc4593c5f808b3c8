"""This service's own copies of contacts and of the catalogue."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as Members
from datetime import datetime
from typing import Any, Generic, TypeVar

from pymongo import ASCENDING, IndexModel

from channel_sms.domain.intent import FORBIDDEN_BY
from contracts.campaigns import (
    AgentProfileChanged,
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    SubjectChanged,
)
from contracts.contacts import ContactChanged
from contracts.message import Message
from contracts.reasons import AT_REST
from contracts.vocabulary import CampaignState, Picker, SubjectDirection
from servicekit.mongo import Document
from servicekit.projection import Projection
from servicekit.verdict import Outcome

M = TypeVar("M", bound=Message)
T = TypeVar("T")

_FRESH_SECONDS = 0.2
OPTED_OUT_FIELD = f"preferences.{FORBIDDEN_BY.value}"
CONTACT_INDEXES = (IndexModel([("numbers", ASCENDING)]),)


def keep_contact(message: ContactChanged) -> Document:
    return {
        "first_name": message.first_name,
        "last_name": message.last_name,
        "organisation": message.organisation,
        "fields": message.fields,
        "numbers": [phone.number for phone in message.phones],
        "preferences": {kind.value: True for kind in message.preferences},
    }


class Copy:
    """Documents of one projection as their message class, parsed once per version."""

    def __init__(self, projection: Projection, message_class: type[Message]) -> None:
        self.projection = projection
        self._class = message_class
        self._parsed: dict[str, tuple[int, Any]] = {}

    async def get(self, ids: Iterable[str | None]) -> Mapping[str, Any]:
        documents = await self.projection.get_cached(ids)
        return {id_: self.parsed(document) for id_, document in documents.items()}

    def parsed(self, document: Document) -> Any:
        id_ = document["_id"]
        parsed = self._parsed.get(id_)
        if parsed is None or parsed[0] != document["version"]:
            message = self._class.model_validate({k: v for k, v in document.items() if k != "_id"})
            parsed = self._parsed[id_] = (document["version"], message)
        return parsed[1]


class Remembered(Generic[T]):
    """What a read found, for as long as it may be that old."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._value: T | None = None
        self._good_until = 0.0

    async def get(self) -> T:
        if self._value is None or time.monotonic() >= self._good_until:
            asked = time.monotonic()
            self._value = await self._read()
            self._good_until = asked + self._seconds
        return self._value

    def forget(self) -> None:
        self._value = None


class MongoKnowledge:
    def __init__(self, projection: Callable[..., Projection]) -> None:
        self.contacts = projection("contacts", keep_contact, indexes=CONTACT_INDEXES)
        self.subjects = Copy(projection("subjects"), SubjectChanged)
        self.endpoints = Copy(projection("endpoints"), EndpointChanged)
        self.campaigns = Copy(projection("campaigns"), CampaignChanged)
        self.profiles = Copy(projection("agent_profiles"), AgentProfileChanged)
        self.dispositions = projection("dispositions")
        self._not_running = Remembered(self._read_not_running, _FRESH_SECONDS)
        self._picks = Remembered(self._read_picks_of_agent, _FRESH_SECONDS)

    def handlers(self) -> dict[type, Any]:
        return {
            SubjectChanged: self.subjects.projection,
            EndpointChanged: self.endpoints.projection,
            CampaignChanged: self._keep_campaigns,
            AgentProfileChanged: self.profiles.projection,
            DispositionChanged: self._keep_dispositions,
        }

    async def _keep_campaigns(self, batch: Sequence[Any]) -> list[Outcome]:
        outcomes = await self.campaigns.projection(batch)
        self._not_running.forget()
        return outcomes

    async def _keep_dispositions(self, batch: Sequence[Any]) -> list[Outcome]:
        outcomes = await self.dispositions(batch)
        self._picks.forget()
        return outcomes

    async def campaigns_at_rest(self, now: datetime) -> frozenset[str]:
        """Campaigns that begin no conversation now, and may later; as they were at most a moment ago."""
        campaigns = await self._not_running.get()
        return frozenset(each.campaign_id for each in campaigns if each.objection(now) in AT_REST)

    async def _read_not_running(self) -> Sequence[CampaignChanged]:
        rows = self.campaigns.projection.collection.find(
            {
                "state": {"$ne": CampaignState.STOPPED.value},
                "$or": [{"state": {"$ne": CampaignState.RUNNING.value}}, {"starts_at": {"$ne": None}}],
                "erased": {"$exists": False},
            }
        )
        return [self.campaigns.parsed(row) async for row in rows]

    async def contacts_by_id(self, ids: Iterable[str]) -> Mapping[str, Document]:
        """Erased ones too: they carry `erased`."""
        rows = self.contacts.collection.find({"_id": {"$in": list(ids)}})
        return {row["_id"]: row async for row in rows}

    async def contacts_with(self, numbers: Members[str]) -> Mapping[str, Sequence[str]]:
        """Who has each of the numbers, in the order of their ids."""
        found: dict[str, list[str]] = {}
        rows = self.contacts.collection.find({"numbers": {"$in": list(numbers)}}, {"numbers": 1})
        async for row in rows.sort("_id", ASCENDING):
            for number in numbers & set(row["numbers"]):
                found.setdefault(number, []).append(row["_id"])
        return found

    async def opted_out_among(self, contact_ids: Iterable[str]) -> set[str]:
        """Contacts that must not be texted, or are no more."""
        rows = self.contacts.collection.find(
            {"_id": {"$in": list(contact_ids)}, "$or": [{OPTED_OUT_FIELD: True}, {"erased": True}]},
            {"_id": 1},
        )
        return {row["_id"] async for row in rows}

    async def picks_of_agent(self) -> frozenset[str]:
        """Disposition codes that an automated agent may pick, as they were at most a moment ago."""
        return await self._picks.get()

    async def _read_picks_of_agent(self) -> frozenset[str]:
        rows = self.dispositions.collection.find(
            {"pickable_by": Picker.AGENT.value, "erased": {"$exists": False}}, {"code": 1}
        )
        return frozenset([row["code"] async for row in rows])

    async def inbound_subject(self) -> str | None:
        """The subject of messages that belong to nothing else."""
        row = await self.subjects.projection.collection.find_one(
            {"direction": SubjectDirection.INBOUND.value, "erased": {"$exists": False}},
            {"_id": 1},
            sort=[("code", ASCENDING)],
        )
        return None if row is None else str(row["_id"])

    async def endpoints_with(self, addresses: Iterable[str]) -> Mapping[str, str]:
        rows = self.endpoints.projection.collection.find(
            {"address": {"$in": list(addresses)}}, {"address": 1}
        )
        return {row["address"]: row["_id"] async for row in rows}
