"""From a Kafka record to something a handler can be given, or a reason why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from contracts.faults import words_of
from contracts.message import LARGEST_RECORD, Message, missing_headers
from contracts.vocabulary import END_OF_TIME, FIRST_TIME, as_kept, instant_of
from servicekit.fetching import UnreadableRecord
from servicekit.tracing import valid_traceparent

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)

_base_and_version = re.compile(r"(.+)\.v([1-9]\d{0,8})").fullmatch
_TOO_LARGE = f"a body has at most {LARGEST_RECORD:,} bytes, and compression does not make room for more"
_LAST_MILLISECOND = int((END_OF_TIME - FIRST_TIME).total_seconds() * 1000) - 1


@dataclass(slots=True)
class Delivery(Generic[M_co]):
    """One message that arrived, and where from. Not frozen: a frozen one costs a microsecond each."""

    message: M_co
    headers: Mapping[str, bytes | None]
    record: Any
    attempts: int = 0
    not_before: float = 0.0
    """By a clock that only goes forward: when the next try is due."""
    began_anew: bool = False
    """Whether its tries were counted from the beginning, because the broker had been away."""

    @property
    def key(self) -> bytes | None:
        key: bytes | None = self.record.key
        return key

    @property
    def event_id(self) -> str:
        return _text(self.headers.get("ce_id"))

    @property
    def traceparent(self) -> str | None:
        return valid_traceparent(_text(self.headers.get("traceparent")))

    @property
    def time(self) -> datetime:
        """The event's own time (ce_time), else the time Kafka was given it."""
        return event_time(_text(self.headers.get("ce_time")), self.record)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The aggregate with this key was erased."""

    key: str
    record: Any


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that goes to the dead letters."""

    record: Any
    reason: str
    detail: str
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Ignored:
    """A known type that this reader does not read, or a newer version of one."""

    record: Any


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value is not None else ""


def headers_of(record: Any) -> dict[str, str]:
    """Headers as text; a null or undecodable one becomes something readable instead of an error."""
    return {str(name): _text(value) for name, value in record.headers}


class Reader:
    """Turns records of one topic into deliveries.

    read: the message classes this subscriber handles. known: every type that may be on the topic.
    """

    def __init__(self, read: tuple[type[Message], ...], known: tuple[type[Message], ...]) -> None:
        self._read = {message.wire.type.encode(): message for message in read}
        self._known = sorted({message.wire.type for message in known})
        self._compacted = any(message.wire.topic.compacted for message in read)

    def __call__(self, record: Any) -> Delivery[Message] | Tombstone | Rejected | Ignored:
        if record.value is None:
            if isinstance(record, UnreadableRecord):
                return Rejected(record, "unreadable", f"{record.why}; the record is still where it came from")
            return self._null_body(record)
        headers: dict[str, bytes | None] = dict(record.headers)
        if missing := missing_headers(headers):
            return Rejected(
                record,
                "missing_header",
                f"missing {', '.join(missing)}; CloudEvents binary mode needs them in the record's headers",
            )
        message_class = self._read.get(headers["ce_type"] or b"")
        if message_class is None:
            return self._unread(record, _text(headers["ce_type"]))
        if len(record.value) > LARGEST_RECORD:
            return Rejected(record, "too_large", _TOO_LARGE)
        try:
            message = message_class.from_json(record.value)
        except ValidationError as wrong:
            return Rejected(record, "invalid_body", describe(wrong))
        if record.key != message.key().encode():
            return Rejected(
                record,
                "wrong_key",
                f"the key must equal {message_class.key_rule()}, {message.key()!r}",
            )
        return Delivery(message, headers, record)

    def _null_body(self, record: Any) -> Tombstone | Rejected:
        if self._compacted and record.key:
            return Tombstone(record.key.decode("utf-8", "replace"), record)
        return Rejected(record, "null_body", "a null body is a tombstone, and this topic has none")

    def _unread(self, record: Any, type_: str) -> Ignored | Rejected:
        if type_ in self._known or any(is_newer(type_, than=known) for known in self._known):
            return Ignored(record)
        here = ", ".join(self._known)
        return Rejected(record, "unknown_type", f"ce_type {type_!r} is not published here: {here}")


def is_newer(type_: str, than: str) -> bool:
    """Whether it is a later version of the same type."""
    told, known = _base_and_version(type_), _base_and_version(than)
    if told is None or known is None:
        return False
    return told[1] == known[1] and int(told[2]) > int(known[2])


def event_time(told: str, record: Any) -> datetime:
    """What the header says if it is a time that a body may have; else Kafka's, whose producer sets it."""
    moment = instant_of(told)
    if moment is not None and moment.tzinfo is not None and FIRST_TIME <= moment < END_OF_TIME:
        return as_kept(moment)
    return FIRST_TIME + timedelta(milliseconds=min(max(record.timestamp, 0), _LAST_MILLISECOND))


def describe(wrong: ValidationError) -> str:
    """Each wrong field and what would be right, without the offending value (it may be personal)."""
    faults = wrong.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'body'}: {words_of(fault)}" for fault in faults[:10]
    )
