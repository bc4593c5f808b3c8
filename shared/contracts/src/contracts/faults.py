"""What is wrong with a body, in the words of whoever wrote it as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_IN_WORDS_OF_JSON = {
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
}


def words_of(fault: Mapping[str, Any]) -> str:
    """The sentence of one of pydantic's errors, which otherwise names types of Python."""
    said = _IN_WORDS_OF_JSON.get(fault["type"])
    return f"Input {said}" if said else str(fault["msg"]).removeprefix("Value error, ")
