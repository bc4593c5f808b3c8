"""A way to send texts, behind one interface that says what it can promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Promise(StrEnum):
    """What a provider offers to whoever does not know whether a send happened."""

    IDEMPOTENCY_KEY = "idempotency_key"
    """The same intent may be sent again without harm."""
    LOOK_UP = "look_up"
    """It can be asked what it accepted."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Text:
    """One message to send. `intent_id` travels in the status callback."""

    intent_id: str
    to: str
    sender: str
    body: str
    validity_seconds: int


@dataclass(frozen=True, slots=True)
class Accepted:
    provider_message_id: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Provably: it may be tried again."""

    reason: str
    retry_after: float = 0.0
    everybody: bool = False
    """Whether the reason holds for every message (the provider is away), not for this one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """For good: the same request will never be accepted."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """It may or may not have been sent; never to be repeated on this ground."""

    reason: str


Result = Accepted | NotSent | Refused | Ambiguous


class LookUpFailed(Exception):
    """The provider did not answer; nothing is proven."""


class Provider(Protocol):
    name: str
    promise: Promise
    absence_proves_after: float | None
    """Seconds after which a message that a look-up does not show was surely never accepted; None: never."""

    async def send(self, text: Text, before: float) -> Result:
        """One try, never repeated here. Nothing is written to a socket after `before` (monotonic)."""
        ...

    async def look_up(self, text: Text, earliest: datetime) -> Sequence[str]:
        """Ids of messages accepted since then that look like this one, oldest first. Raises LookUpFailed.

        However late: what was in a socket may be accepted long after we gave it up.
        """
        ...

    async def close(self) -> None: ...
