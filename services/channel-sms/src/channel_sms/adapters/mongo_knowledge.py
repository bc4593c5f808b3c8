"""This service's own copies of contacts and of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pymongo import ASCENDING, IndexModel

from contracts.campaigns import (
    AgentProfileChanged,
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    SubjectChanged,
)
from contracts.contacts import ContactChanged
from contracts.message import Message
from contracts.vocabulary import Picker, PreferenceKind, SubjectDirection
from servicekit.mongo import Document
from servicekit.projection import Projection
from servicekit.service import Service

M = TypeVar("M", bound=Message)

OPTED_OUT_FIELD = f"preferences.{PreferenceKind.DO_NOT_SMS.value}"
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
        return {id_: self._parse(id_, document) for id_, document in documents.items()}

    def _parse(self, id_: str, document: Document) -> Any:
        parsed = self._parsed.get(id_)
        if parsed is None or parsed[0] != document["version"]:
            message = self._class.model_validate({k: v for k, v in document.items() if k != "_id"})
            parsed = self._parsed[id_] = (document["version"], message)
        return parsed[1]


class Knowledge:
    def __init__(self, service: Service) -> None:
        self.contacts = service.projection("contacts", keep_contact, indexes=CONTACT_INDEXES)
        self.subjects = Copy(service.projection("subjects"), SubjectChanged)
        self.endpoints = Copy(service.projection("endpoints"), EndpointChanged)
        self.campaigns = Copy(service.projection("campaigns"), CampaignChanged)
        self.profiles = Copy(service.projection("agent_profiles"), AgentProfileChanged)
        self.dispositions = service.projection("dispositions", fresh_for=1.0)

    def handlers(self) -> dict[type, Any]:
        return {
            SubjectChanged: self.subjects.projection,
            EndpointChanged: self.endpoints.projection,
            CampaignChanged: self.campaigns.projection,
            AgentProfileChanged: self.profiles.projection,
            DispositionChanged: self.dispositions,
        }

    async def contacts_by_id(self, ids: Iterable[str]) -> Mapping[str, Document]:
        """Erased ones too: they carry `erased`."""
        rows = self.contacts.collection.find({"_id": {"$in": list(ids)}})
        return {row["_id"]: row async for row in rows}

    async def contacts_with(self, number: str) -> list[str]:
        rows = self.contacts.collection.find({"numbers": number}, {"_id": 1}).sort("_id", ASCENDING)
        return [row["_id"] async for row in rows]

    async def opted_out_among(self, contact_ids: Iterable[str]) -> set[str]:
        """Contacts that must not be texted, or are no more."""
        rows = self.contacts.collection.find(
            {"_id": {"$in": list(contact_ids)}, "$or": [{OPTED_OUT_FIELD: True}, {"erased": True}]},
            {"_id": 1},
        )
        return {row["_id"] async for row in rows}

    async def picks_of_agent(self) -> frozenset[str]:
        """Disposition codes that an automated agent may pick."""
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

    async def endpoint_with(self, address: str) -> str | None:
        row = await self.endpoints.projection.collection.find_one({"address": address}, {"_id": 1})
        return None if row is None else str(row["_id"])
