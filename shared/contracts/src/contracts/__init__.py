"""Parley's published language: every message that crosses a topic, and nothing else.

Pure pydantic. A message class declares its type, topic, key and identity once; the catalogue,
the JSON Schemas, the AsyncAPI documents and the wire format are all derived from that declaration.
"""

from contracts.message import Message, Topic, Wire

__all__ = ["Message", "Topic", "Wire"]
