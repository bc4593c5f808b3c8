"""How the carrier and its subscribers behave. Rates are shares of messages, 0 to 1."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Share = float


class Persona(StrEnum):
    """What kind of person answers a number."""

    YES = "yes"
    ANSWERS = "answers"
    """Agrees and answers in whole sentences."""
    NO = "no"
    SILENT = "silent"
    STOP = "stop"
    QUESTION = "question"
    """Asks who is there first, then agrees."""


class Behaviour(BaseModel):
    """Everything that can be changed at run time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 1
    latency_ms: float = Field(default=5, ge=0, le=60_000)
    rate_limited: Share = Field(default=0, ge=0, le=1)
    """Answered 429 before anything happened."""
    retry_after_seconds: float = Field(default=1, ge=0, le=3600)
    reset_before: Share = Field(default=0, ge=0, le=1)
    error_before: Share = Field(default=0, ge=0, le=1)
    """Answered 500 although nothing was accepted."""
    error_after: Share = Field(default=0, ge=0, le=1)
    """Accepted, and answered 500."""
    reset_after: Share = Field(default=0, ge=0, le=1)
    timeout_after: Share = Field(default=0, ge=0, le=1)
    """Accepted, and never answered."""
    timeout_seconds: float = Field(default=60, ge=0, le=600)
    bad_numbers: Share = Field(default=0, ge=0, le=1)
    """Numbers that are refused for good; which ones depends on seed and number alone."""
    receipts: Share = Field(default=1, ge=0, le=1)
    undelivered: Share = Field(default=0, ge=0, le=1)
    receipt_delay_seconds: float = Field(default=1, ge=0)
    reply_delay_seconds: float = Field(default=2, ge=0)
    webhook_repeats: Share = Field(default=0, ge=0, le=1)
    """Webhooks that are delivered two to five times instead of once."""
    people_yes: int = Field(default=50, ge=0)
    people_answers: int = Field(default=10, ge=0)
    people_no: int = Field(default=15, ge=0)
    people_silent: int = Field(default=15, ge=0)
    people_stop: int = Field(default=5, ge=0)
    people_question: int = Field(default=5, ge=0)

    def changed(self, changes: dict[str, Any]) -> Behaviour:
        return Behaviour.model_validate(self.model_dump() | changes)

    def draw(self, *of: str) -> float:
        """A number in [0, 1) that depends on the seed and on nothing but what it is for."""
        digest = blake2b("\x1f".join((str(self.seed), *of)).encode(), digest_size=7).digest()
        return int.from_bytes(digest) / 2**56

    def persona(self, number: str) -> Persona:
        weights = [(persona, getattr(self, f"people_{persona.value}")) for persona in Persona]
        drawn = self.draw("persona", number) * sum(weight for _, weight in weights)
        for persona, weight in weights:
            drawn -= weight
            if drawn < 0:
                return persona
        return Persona.SILENT

    def is_bad_number(self, number: str) -> bool:
        return self.draw("number", number) < self.bad_numbers

    def copies(self, *of: str) -> int:
        """How often one webhook is delivered."""
        if self.draw("repeats", *of) >= self.webhook_repeats:
            return 1
        return 2 + int(self.draw("copies", *of) * 4)
