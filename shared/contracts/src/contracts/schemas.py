"""The published JSON Schema of each message, and what the documents share of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from contracts.message import Message

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def schema_id(message: type[Message]) -> str:
    return f"urn:parley:schema:{message.wire.type}"


def schema_of(message: type[Message]) -> Schema:
    """The JSON Schema of a message's body; `x-parley` says how it travels, and is as binding."""
    wire = message.wire
    return {
        "$schema": DIALECT,
        "$id": schema_id(message),
        **message.model_json_schema(),
        "x-parley": {
            "type": wire.type,
            "topic": wire.topic.name,
            "compacted": wire.topic.compacted,
            "key": wire.key,
            "identity": list(wire.identity),
        },
    }


def shared_schemas(messages: Iterable[type[Message]], ref_template: str) -> Mapping[str, Schema]:
    """The schemas of these messages and of every record inside them, each once, by class name."""
    _, schemas = models_json_schema(
        [(message, "validation") for message in messages], ref_template=ref_template
    )
    definitions: dict[str, Schema] = schemas.get("$defs", {})
    return definitions
