"""One golden sample per message: what a reader in any language must be able to read, for ever."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from contracts.catalogue import by_type
from contracts.message import Message


def sample(type_: str) -> Message:
    """The golden sample of a message type, read as that message. Raises KeyError for an unknown type."""
    message = by_type(type_)
    if message is None:
        raise KeyError(type_)
    return message.from_json(sample_json(type_))


def sample_json(type_: str) -> bytes:
    return files("contracts").joinpath("samples", f"{type_}.json").read_bytes()


def sample_body(type_: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(sample_json(type_))
    return body
