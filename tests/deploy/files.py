"""The deployment's files, read."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from tests.services import ROOT, SERVICES

__all__ = ["ROOT", "SERVICES"]


Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    """Every document of a YAML file, anchors and merges followed."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def document(path: Path) -> Document:
    (only,) = documents(path)
    return only


def settings_of(service: str) -> set[str]:
    """The variables of ours that a service knows; it refuses every other."""
    if service == "carrier":
        fields = import_module("carrier.settings").Settings.model_fields
        return {f"CARRIER_{name.upper()}" for name in fields}
    fields = import_module(f"{service.replace('-', '_')}.settings").Settings.model_fields
    return {f"PARLEY_{name.upper()}" for name in fields} | {"KAFKA_BOOTSTRAP_SERVERS", "MONGO_URL"}


def strings(value: object) -> Iterator[str]:
    """Every string inside a document."""
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from strings(each)
        case list():
            for each in value:
                yield from strings(each)
