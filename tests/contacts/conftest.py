from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from contacts.main import build
from contacts.settings import Settings
from servicekit.service import Service
from tests.engines import Engines
from tests.kit import Wire, eventually, running

PERSON: dict[str, Any] = {
    "code": "person",
    "name": "Person",
    "fields_schema": {
        "type": "object",
        "properties": {
            "plan": {"type": "string", "enum": ["basic", "gold"]},
            "age": {"type": "integer", "minimum": 0},
            "member": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
}


@dataclass
class Running:
    """The service, its REST API and its topics."""

    service: Service
    api: httpx.AsyncClient
    wire: Wire

    async def create(self, **fields: Any) -> dict[str, Any]:
        body = {"contact_type": "person", "phones": [{"number": "+12025550143"}]} | fields
        answer = await self.api.post("/v1/contacts", json=body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    async def get(self, contact_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/v1/contacts/{contact_id}")
        assert answer.status_code == 200, answer.text
        contact: dict[str, Any] = answer.json()
        return contact

    async def send(self, csv: str | bytes, **query: str) -> httpx.Response:
        params = {"contact_type": "person", "default_region": "US"} | query
        body = csv.encode() if isinstance(csv, str) else csv
        headers = {"Content-Type": "text/csv"}
        return await self.api.post("/v1/imports", params=params, content=body, headers=headers)

    async def import_(self, csv: str | bytes, **query: str) -> dict[str, Any]:
        answer = await self.send(csv, **query)
        assert answer.status_code == 202, answer.text
        return await self.finished(answer.json()["import_id"])

    async def finished(self, import_id: str) -> dict[str, Any]:
        async def done() -> dict[str, Any] | None:
            progress: dict[str, Any] = (await self.api.get(f"/v1/imports/{import_id}")).json()
            return progress if progress["state"] in ("finished", "failed") else None

        progress: dict[str, Any] = await eventually(done, "the import to finish")
        assert progress["state"] == "finished", progress
        return progress


@pytest.fixture
async def contacts(engines: Engines, namespace: str) -> AsyncIterator[Running]:
    wire = Wire(engines, namespace)
    async with running(build, Settings, engines, namespace, contacts_import_batch=100) as service:
        base = f"http://127.0.0.1:{service.port}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as api:
            answer = await api.post("/v1/contact-types", json=PERSON)
            assert answer.status_code == 201, answer.text
            yield Running(service, api, wire)
    await wire.close()
