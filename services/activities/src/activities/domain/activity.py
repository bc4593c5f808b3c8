"""What is known of one activity."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from zlib import crc32

from pydantic import Field

from contracts.activities import ActivityCreated, ActivitySpec
from contracts.message import Record
from contracts.vocabulary import (
    FINAL_STATES,
    URGENCY_RANK,
    ActivityState,
    Code,
    Identifier,
    Time,
    Verdict,
    Version,
)

BUCKETS = 16
"""As many as the leases of servicekit; a test holds them together."""


AuditWord = Literal[
    "created",
    "assigned",
    "released",
    "started",
    "rescheduled",
    "completed",
    "failed",
    "corrected",
    "cancelled",
    "purged",
]


class AuditEntry(Record):
    what: AuditWord
    who: str
    at: Time


class LateOutcome(Record):
    """What came of a channel's work after the activity was called off, which stands."""

    outcome_id: Identifier
    result: Literal["completed", "failed"]
    disposition: Code | None
    reason: str | None
    actor: str
    occurred_at: Time
    told_at: Time


class LastVerdict(Record):
    """The newest answer of the policy gate; all of them are on the topic."""

    verdict: Verdict
    reason: str
    until: Time | None = None
    decided_at: Time
    inputs: dict[str, Any] = Field(default_factory=dict)


class ActivityRecord(ActivitySpec):
    """An activity as people and programs see it."""

    version: Version
    state: ActivityState
    reason: str | None = None
    """Why it was failed, cancelled, expired or deferred."""
    due_at: Time
    """When it is looked at next: its scheduled time, or later after a deferral."""
    disposition: Code | None = None
    notes: str = ""
    captured: dict[str, Any] = Field(default_factory=dict)
    preparation_notes: str = ""
    follow_up_at: Time | None = None
    assigned_to: str | None = None
    dispatch_number: int = 0
    transcript_id: str | None = None
    created_at: Time
    created_by: str
    started_at: Time | None = None
    completed_at: Time | None = None
    completed_by: str | None = None
    changed_at: Time
    last_verdict: LastVerdict | None = None
    audit: tuple[AuditEntry, ...] = ()
    late_outcomes: tuple[LateOutcome, ...] = ()
    """The first ten."""


class Activity(ActivityRecord):
    """The stored state: the record, and how it is found and told apart from its repeats."""

    bucket: int
    """Spreads the scheduler's work over replicas, all of one contact's to the same."""
    rank: int
    """Urgency, sortable."""
    hold: str | None = None
    """The item of the catalogue that it waits for instead of a time: a paused campaign, an endpoint..."""
    awaits_contact: bool = False
    """Deferred for something that only a newer contact can mend."""
    deferrals: int = 0
    """How often in a row it was deferred for the same reason."""
    outcome_id: str | None = None
    incoming: bool = False
    """A person logged that the contact called or wrote to us."""

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def slot(self) -> str:
        return slot_of(self.contact_id, self.subject_id)


def slot_of(contact_id: str, subject_id: str) -> str:
    """What two activities share that the duplicate rule keeps apart."""
    return f"{contact_id}:{subject_id}"


def bucket_of(contact_id: str) -> int:
    return crc32(contact_id.encode()) % BUCKETS


_SPEC_FIELDS = tuple(ActivitySpec.model_fields)


def scheduled(message: ActivityCreated, now: datetime) -> Activity:
    """The first state of every activity, before anybody looked whether it is due."""
    spec = {field: getattr(message, field) for field in _SPEC_FIELDS}
    return Activity(
        **spec,
        version=1,
        state=ActivityState.SCHEDULED,
        due_at=message.scheduled_at,
        assigned_to=message.owner,
        created_at=message.created_at,
        created_by=message.created_by,
        changed_at=now,
        audit=(AuditEntry(what="created", who=message.created_by, at=message.created_at),),
        bucket=bucket_of(message.contact_id),
        rank=URGENCY_RANK[message.urgency],
    )
