"""Writes what is published about the topics: AsyncAPI documents and JSON Schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts import catalogue
from contracts.asyncapi import asyncapi_document, merged_document
from contracts.compatibility import BreakingChange, breaking_changes
from contracts.schemas import schema_of

Document = dict[str, Any]


def documents() -> Iterator[tuple[Path, Document]]:
    """Every generated document, by its path inside the folder of documents."""
    for service in catalogue.services():
        yield Path("asyncapi", f"{service}.json"), asyncapi_document(service)
    yield Path("asyncapi", "parley.json"), merged_document()
    for message in catalogue.MESSAGES:
        yield Path("schemas", f"{message.wire.type}.json"), schema_of(message)


def write_documents(directory: Path) -> list[Path]:
    """Brings the folder up to date and returns the paths that changed.

    The schemas that are there are what was promised: raises BreakingChange, and writes nothing, if one
    of them would change by more than an added optional field.
    """
    fresh = {directory / path: document for path, document in documents()}
    for path, document in fresh.items():
        if path.parent.name == "schemas" and path.exists():
            faults = breaking_changes(json.loads(path.read_text()), document)
            if faults:
                raise BreakingChange(path.stem, faults)
    changed = []
    for path, document in fresh.items():
        if not path.exists() or path.read_text() != to_text(document):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_text(document))
            changed.append(path)
    return changed


def to_text(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
