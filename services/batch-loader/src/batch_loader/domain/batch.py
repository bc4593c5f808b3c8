"""A batch and its moves."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from batch_loader.domain.choices import Choices
from batch_loader.domain.copies import Copy, WaitingFor
from batch_loader.domain.filters import Filters
from contracts.batch_loader import BatchProgressed
from contracts.reasons import Skipped
from contracts.vocabulary import BatchId, BatchState, ContactId, Time
from servicekit.verdict import Become, Unchanged, Verdict, following

Move = Literal["load", "pause", "resume", "cancel"]

_FROM: dict[Move, set[BatchState]] = {
    "load": {BatchState.DRAFT},
    "pause": {BatchState.LOADING},
    "resume": {BatchState.PAUSED, BatchState.FAILED},
    "cancel": {BatchState.DRAFT, BatchState.LOADING, BatchState.PAUSED, BatchState.FAILED},
}
_TO: dict[Move, BatchState] = {
    "load": BatchState.LOADING,
    "pause": BatchState.PAUSED,
    "resume": BatchState.LOADING,
    "cancel": BatchState.CANCELLED,
}
_REPEATED: dict[Move, set[BatchState]] = {
    "load": {BatchState.LOADING, BatchState.LOADED},
    "pause": {BatchState.PAUSED},
    "resume": {BatchState.LOADING},
    "cancel": {BatchState.CANCELLED},
}
_PARTICIPLE: dict[Move, str] = {
    "load": "loaded",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
}


class IllegalMove(Exception):
    def __init__(self, move: Move, state: BatchState) -> None:
        allowed = " or ".join(sorted(state.value for state in _FROM[move]))
        super().__init__(
            f"This batch is {state.value} and cannot be {_PARTICIPLE[move]}; only one that is {allowed} can."
        )
        self.move = move
        self.state = state


class Batch(BaseModel):
    """selected = loaded + the sum of skipped, at every moment.

    checkpoint: the last contact, in id order, that is accounted for. created: activities asked for;
    refused: those of them that the activities service refused because the contact had an open one.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: BatchId
    version: int = 1
    name: str
    state: BatchState = BatchState.DRAFT
    filters: Filters
    choices: Choices
    asked: str | None = None
    """Digest of the request, whatever the catalogue made of it; None if drafted before there were digests."""
    created_at: Time
    changed_at: Time
    loading_since: Time | None = None
    """Membership and statistics are judged as of this instant."""
    expected: int = 0
    checkpoint: ContactId | None = None
    created: int = 0
    refused: int = 0
    passed_over: dict[str, int] = Field(default_factory=dict)
    per_second: float = 0
    estimated_end_at: Time | None = None
    waiting_for: WaitingFor | None = None
    error: str | None = None

    @property
    def loaded(self) -> int:
        return self.created - self.refused

    @property
    def skipped(self) -> dict[str, int]:
        if not self.refused:
            return dict(self.passed_over)
        duplicate = Skipped.DUPLICATE.value
        return self.passed_over | {duplicate: self.passed_over.get(duplicate, 0) + self.refused}

    @property
    def selected(self) -> int:
        return self.created + sum(self.passed_over.values())

    @property
    def room(self) -> int | None:
        """How many more contacts the limit lets in; null means any number."""
        return None if self.filters.limit is None else self.filters.limit - self.selected

    @property
    def copies(self) -> frozenset[Copy]:
        """Those that decide what becomes of a contact."""
        return self.filters.copies | (frozenset({"activities"}) if self.choices.exclusive else frozenset())

    def after(self, now: datetime, **changes: Any) -> Batch:
        return following(self, **changes, changed_at=now)


def progress(batch: Batch) -> BatchProgressed:
    return BatchProgressed(
        batch_id=batch.batch_id,
        version=batch.version,
        state=batch.state,
        campaign_id=batch.choices.campaign_id,
        subject_id=batch.choices.subject_id,
        expected=batch.expected,
        selected=batch.selected,
        loaded=batch.loaded,
        skipped=batch.skipped,
        per_second=batch.per_second,
        estimated_end_at=batch.estimated_end_at,
        error=batch.error,
        changed_at=batch.changed_at,
    )


def announced(batch: Batch) -> Become[Batch]:
    return Become(batch, (progress(batch),))


def steer(batch: Batch, move: Move, now: datetime, expected: int = 0) -> Verdict[Batch]:
    """A move that somebody asked for; repeating it changes nothing. Raises IllegalMove."""
    if batch.state in _REPEATED[move]:
        return Unchanged()
    if batch.state not in _FROM[move]:
        raise IllegalMove(move, batch.state)
    changes: dict[str, Any] = {
        "state": _TO[move],
        "per_second": 0.0,
        "estimated_end_at": None,
        "waiting_for": None,
        "error": None,
    }
    if move == "load":
        changes |= {"loading_since": now, "expected": batch.filters.capped(expected)}
    return announced(batch.after(now, **changes))


def fail(batch: Batch | None, error: str, now: datetime) -> Verdict[Batch]:
    """Loading cannot go on until somebody looks; it can be resumed where it stopped."""
    if batch is None or batch.state is not BatchState.LOADING:
        return Unchanged()
    return announced(
        batch.after(now, state=BatchState.FAILED, error=error, estimated_end_at=None, waiting_for=None)
    )


def wait(batch: Batch | None, waiting_for: WaitingFor, now: datetime) -> Verdict[Batch]:
    """Nothing is selected before the copies have what was announced when the load began."""
    if batch is None or batch.state is not BatchState.LOADING or batch.waiting_for == waiting_for:
        return Unchanged()
    return announced(batch.after(now, waiting_for=waiting_for))


def go_on(batch: Batch | None, found: int, now: datetime) -> Verdict[Batch]:
    """The copies are there. What was expected of them before is counted again, unless somebody has been
    selected already."""
    if batch is None or batch.state is not BatchState.LOADING:
        return Unchanged()
    expected = batch.expected if batch.checkpoint else batch.filters.capped(found)
    if (batch.expected, batch.waiting_for) == (expected, None):
        return Unchanged()
    return announced(batch.after(now, expected=expected, waiting_for=None))


def refuse(batch: Batch, count: int, now: datetime) -> Become[Batch]:
    """The activities service had the last word: this many were duplicates after all."""
    return announced(batch.after(now, refused=batch.refused + count))
