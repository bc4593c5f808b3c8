"""What an automated agent is given, and the closed set of what it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.campaigns import SubjectChanged
from contracts.message import copied


class Dialogue(BaseModel):
    """How far a conversation got: all that an agent remembers between two messages."""

    model_config = ConfigDict(frozen=True)

    agreed: bool = False
    asked: str | None = None
    """The field of the subject's schema that was asked for last."""
    captured: dict[str, Any] = Field(default_factory=dict)
    misunderstood: int = 0
    """In a row."""
    turns: int = 0
    """Messages of the agent after the opening."""

    def evolve(self, **changes: Any) -> Dialogue:
        return copied(self, changes)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a contact, and everything an agent may look at to answer it."""

    text: str
    dialogue: Dialogue
    subject: SubjectChanged
    opening: str
    allowed: frozenset[str]
    """Disposition codes an automated agent may pick here."""
    max_turns: int


@dataclass(frozen=True, slots=True)
class Say:
    text: str
    dialogue: Dialogue


@dataclass(frozen=True, slots=True)
class Conclude:
    disposition: str
    summary: str
    dialogue: Dialogue


@dataclass(frozen=True, slots=True)
class HandOver:
    """A person is to go on."""

    reason: str
    dialogue: Dialogue


Answer = Say | Conclude | HandOver
