"""Every service does what its OpenAPI document says, whatever somebody sends."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from servicekit.service import Service
from tests.engines import Engines
from tests.kit import running

SERVICES = sorted(
    path.name
    for path in (Path(__file__).parents[2] / "services").iterdir()
    if (path / "pyproject.toml").exists()
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 5
"""Of each operation; the same ones in every run, so that a failure is one for everybody."""

schemathesis.openapi.media_type("text/csv", st.text().map(str.encode))


def operations(service: Service) -> Iterator[Any]:
    url = f"http://127.0.0.1:{service.port}"
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


def examine(operation: Any, url: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def answers_as_written(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS)

    answers_as_written()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_keeps_to_its_document(engines: Engines, namespace: str, name: str) -> None:
    package = name.replace("-", "_")
    build = importlib.import_module(f"{package}.main").build
    own = importlib.import_module(f"{package}.settings").Settings
    async with running(build, own, engines, namespace) as service:
        url = f"http://127.0.0.1:{service.port}"
        found = await asyncio.to_thread(lambda: list(operations(service)))
        assert len(found) > 5
        wrong = []
        for operation in found:
            try:
                await asyncio.to_thread(examine, operation, url)
            except Exception as error:  # all of them in one report
                wrong.append(f"{operation.method.upper()} {operation.path}: {error}")
        assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("name", SERVICES)
async def test_a_damaged_cursor_is_not_the_end_of_a_list(engines: Engines, namespace: str, name: str) -> None:
    package = name.replace("-", "_")
    build = importlib.import_module(f"{package}.main").build
    own = importlib.import_module(f"{package}.settings").Settings
    async with (
        running(build, own, engines, namespace) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as client,
    ):
        paths = (await client.get("/openapi.json")).json()["paths"]
        asked = {path: _as_a_list(path, operations.get("get", {})) for path, operations in paths.items()}
        assert any(asked.values())
        for path, query in asked.items():
            if not query:
                continue
            answer = await client.get(path, params=query)
            assert (path, answer.status_code, answer.json().get("type")) == (
                path,
                422,
                "urn:parley:problem:bad-cursor",
            )


def _as_a_list(path: str, operation: Any) -> dict[str, str]:
    """What asks for its next page with a cursor that is none; nothing if it has no pages."""
    names = {each["name"] for each in operation.get("parameters", [])}
    if "{" in path or "cursor" not in names:
        return {}
    days = {"first": "2026-03-01", "last": "2026-03-01"}
    return {"cursor": "zzz"} | {name: day for name, day in days.items() if name in names}
