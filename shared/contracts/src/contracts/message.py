"""What makes a class a message: its wire name, its topic, its key, and the id of one instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails

B = TypeVar("B", bound=BaseModel)

PARLEY = UUID("6f1d0f5e-6a2b-5c8e-9d43-7a1b52c3d9e0")
"""The root of every deterministic id (UUID version 5, RFC 9562)."""

DAY_MS = 86_400_000

LARGEST_RECORD = 1024 * 1024
"""Bytes that a topic takes in one record; of a body also when it is unpacked."""

DEAD_LETTER_SUFFIX = ".dlq"
"""What a reader could not use goes to the topic of this name behind the topic's own."""


def stable_id(*parts: object) -> str:
    """The same parts always give the same id: how an effect is made to happen once.

    >>> stable_id("activity", "batch-1", "contact-1") == stable_id("activity", "batch-1", "contact-1")
    True
    """
    return str(uuid5(PARLEY, "\x1f".join(map(str, parts))))


def copied(model: B, changes: Mapping[str, Any]) -> B:
    """A copy that differs in these fields. Raises TypeError for one that it has not: pydantic's own copy
    checks no name, and what is misspelt would be told as it was."""
    known = type(model).model_fields.keys()
    if not changes.keys() <= known:
        raise TypeError(f"{type(model).__name__} has no {', '.join(sorted(changes.keys() - known))}")
    return model.model_copy(update=changes)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and the settings it must have.

    `name` may end in `.{channel}`: one topic per channel. `compacted` topics carry the full state of
    an aggregate and end in a tombstone; the others are kept for `retention_days`.
    """

    name: str
    compacted: bool = False
    retention_days: int = 7
    partitions: int = 12

    def named(self, **parts: str) -> str:
        return self.name.format(**parts)

    @property
    def is_template(self) -> bool:
        return "{" in self.name

    def settings(self) -> dict[str, str]:
        """Kafka's topic-level settings, as `kafka-configs` would show them."""
        if self.compacted:
            return {
                "cleanup.policy": "compact",
                # How long a reader may be away and still hear of an erasure.
                "delete.retention.ms": str(self.retention_days * DAY_MS),
                "max.message.bytes": str(LARGEST_RECORD),
            }
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_days * DAY_MS),
            "max.message.bytes": str(LARGEST_RECORD),
        }


@dataclass(frozen=True, slots=True)
class Wire:
    """How a message class travels.

    type: CloudEvents type with its version, for example `parley.activity.created.v1`.
    key: the field whose value is the Kafka key, or a property that says in words what it is. identity:
    the fields that, with the type, make up `ce_id`, as the body writes them: two deliveries of one fact have
    equal ids.
    published_by, read_by: services, by folder name.
    """

    type: str
    topic: Topic
    key: str
    identity: tuple[str, ...]
    published_by: tuple[str, ...]
    read_by: tuple[str, ...]


class Record(BaseModel):
    """A frozen value inside a message. Readers ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Message(Record):
    """A fact or a command that crosses a topic."""

    wire: ClassVar[Wire]

    def __init_subclass__(cls, **_wire: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__()
        if kwargs:
            cls.wire = Wire(**kwargs)
            unknown = {cls.wire.key, *cls.wire.identity} - cls.model_fields.keys()
            if isinstance(getattr(cls, cls.wire.key, None), property):
                unknown.discard(cls.wire.key)
            if unknown:
                raise TypeError(f"{cls.__name__}: key or identity names no field: {sorted(unknown)}")

    def topic(self) -> str:
        """The topic of this instance (a template is filled from its fields)."""
        topic = self.wire.topic
        return topic.named(channel=str(getattr(self, "channel", ""))) if topic.is_template else topic.name

    def key(self) -> str:
        return str(getattr(self, self.wire.key))

    @classmethod
    def key_rule(cls) -> str:
        """What the key is, for people: `contact_id` of the body."""
        computed = getattr(cls, cls.wire.key, None)
        told = computed.__doc__ if isinstance(computed, property) else None
        return " ".join(told.split()) if told else f"`{cls.wire.key}` of the body"

    def identity(self) -> str:
        """Tells the facts of one type apart: equal for two deliveries of the same. Each part is written as in
        the body, so that whoever has the body can make it."""
        written = self.model_dump(mode="json", include=set(self.wire.identity))
        return ":".join(str(written[field]) for field in self.wire.identity)

    def event_id(self) -> str:
        """The CloudEvents id: equal for two deliveries of the same fact, different otherwise. One source has
        facts of several types about one version of a thing, so the type is part of it."""
        return f"{self.wire.type.removeprefix('parley.')}:{self.identity()}"

    def to_json(self) -> bytes:
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises pydantic.ValidationError, naming each field that is wrong."""
        message = cls.model_validate_json(body, strict=True)
        if b"NaN" in body or b"Infinity" in body:
            cls._refuse_what_is_no_json(body)
        return message

    @classmethod
    def _refuse_what_is_no_json(cls, body: bytes) -> None:
        """Pydantic passes over it where no field is known; a strict reader would stop at what we took."""

        def refuse(constant: str) -> None:
            fault = InitErrorDetails(
                type="json_invalid",
                loc=(),
                input=constant,
                ctx={"error": f"there is no {constant} in JSON"},
            )
            raise ValidationError.from_exception_data(cls.__name__, [fault])

        json.loads(body, parse_constant=refuse)

    def evolve(self, **changes: Any) -> Self:
        """A copy that differs in these fields. Raises TypeError for a field that it has not."""
        return copied(self, changes)


def wire_headers(
    message: Message, source: str, time: str, traceparent: str | None = None
) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 Kafka binary mode. `time` is RFC 3339; `source` is `parley/<service>`."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", message.event_id().encode()),
        ("ce_type", message.wire.type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


REQUIRED_HEADERS = ("ce_specversion", "ce_id", "ce_type", "ce_source")


def missing_headers(headers: Mapping[str, str | bytes | None]) -> list[str]:
    if all(map(headers.get, REQUIRED_HEADERS)):
        return []
    return [name for name in REQUIRED_HEADERS if not headers.get(name)]
