import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from campaigns.main import build
from campaigns.settings import Settings
from servicekit.service import Service
from tests.engines import Engines
from tests.kit import Wire, running

BUNDLE: dict[str, Any] = {
    "dispositions": [
        {"code": "sold", "name": "Sold", "terminal": True, "success": True, "human_contact": True},
        {"code": "no-answer", "name": "No answer", "pickable_by": ["system", "person"]},
    ],
    "endpoints": [{"code": "main", "channel": "sms", "address": "+12025550100"}],
    "policies": [
        {"code": "us-default", "name": "08:00 to 21:00", "window": {"start": "08:00", "end": "21:00"}}
    ],
    "agent_profiles": [{"code": "scripted"}],
    "subjects": [
        {
            "code": "renewal",
            "name": "Renewal",
            "data_schema": {
                "$id": "urn:renewal",
                "type": "object",
                "properties": {"month": {"$ref": "#/$defs/month"}},
                "$defs": {"month": {"type": "integer"}},
            },
            "opening": "Hello {first_name}, {{really}}",
            "questions": [{"field": "month", "text": "Which month?"}],
            "yes_disposition": "sold",
            "no_response_disposition": "no-answer",
        }
    ],
    "campaigns": [
        {
            "code": "spring",
            "name": "Spring",
            "channel": "sms",
            "endpoint": "main",
            "policy": "us-default",
            "dispositions": ["sold", "no-answer"],
            "group": "2026",
            "starts_at": "2026-01-01T00:00:00.1234+01:00",
        }
    ],
}


def a_bundle(**lists: Any) -> dict[str, Any]:
    """The whole bundle, with these lists instead of its own."""
    return copy.deepcopy(BUNDLE) | lists


@dataclass
class Running:
    """The service, its REST API and its topics."""

    service: Service
    api: httpx.AsyncClient
    wire: Wire

    async def apply(self, bundle: dict[str, Any], **query: Any) -> dict[str, Any]:
        answer = await self.api.put("/v1/bundle", json=bundle, params=query)
        assert answer.status_code == 200, answer.text
        applied: dict[str, Any] = answer.json()
        return applied


@pytest.fixture
async def campaigns(engines: Engines, namespace: str) -> AsyncIterator[Running]:
    wire = Wire(engines, namespace)
    async with running(build, Settings, engines, namespace) as service:
        base = f"http://127.0.0.1:{service.port}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as api:
            yield Running(service, api, wire)
    await wire.close()
