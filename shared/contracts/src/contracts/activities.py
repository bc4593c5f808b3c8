"""Owned by services/activities: the one truth about every unit of work."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from contracts.message import Message, Record, Topic
from contracts.reasons import ALLOWED, OVERTAKEN, Objection, Skipped, one_of
from contracts.vocabulary import (
    ActivityId,
    ActivityKind,
    ActivityState,
    BatchId,
    CampaignId,
    ChannelName,
    Code,
    ContactId,
    EndpointId,
    Identifier,
    Mode,
    Source,
    SubjectId,
    Time,
    Urgency,
    Verdict,
    Version,
)

ACTIVITY_CREATED = Topic("activity-created")
ACTIVITY_DISPATCHED = Topic("activity-dispatched.{channel}")
ACTIVITY_OUTCOME = Topic("activity-outcome")
ACTIVITY_DECIDED = Topic("activity-decided")
ACTIVITY_COMPLETED = Topic("activity-completed")
ACTIVITY_CHANGED = Topic("activity-changed")


class ActivitySpec(Record):
    """What an activity is to do: set when it is made, never changed by working it."""

    activity_id: ActivityId
    contact_id: ContactId
    kind: ActivityKind
    mode: Mode
    source: Source
    subject_id: SubjectId
    campaign_id: CampaignId | None = None
    channel: ChannelName | None = None
    """Null only for manual work that uses no channel."""
    endpoint_id: EndpointId | None = None
    destination: str | None = None
    """An address fixed in advance; null means the contact's first one for the channel at dispatch."""
    agent_profile_id: str | None = None
    scheduled_at: Time
    urgency: Urgency = Urgency.NORMAL
    instructions: str = ""
    owner: str | None = None
    """The agent (a person) a manual activity is for; null means anybody may claim it."""
    attempt_number: int = Field(default=1, ge=1)
    """Business attempts of one intention, counted by flows; technical retries are not in it."""
    batch_id: BatchId | None = None
    parent_id: ActivityId | None = None
    """The completed activity that this one follows."""
    root_id: ActivityId | None = None
    """The first activity of the chain; null for the first itself."""
    chain_depth: int = Field(default=0, ge=0, le=1000)
    """How many activities led here by themselves. What somebody begins, a contact's text outside any
    conversation for example, is 0 again: a flow ends a chain after 50, and nobody who keeps writing."""
    exclusive: bool = False
    """The duplicate rule: refused if the contact has an open activity of the same subject."""


class ActivityCreated(
    Message,
    ActivitySpec,
    type="parley.activity.created.v1",
    topic=ACTIVITY_CREATED,
    key="contact_id",
    identity=("activity_id",),
    published_by=("batch-loader", "workflow", "channel-sms"),
    read_by=("activities",),
):
    """Asks for an activity to exist. The same id again changes nothing."""

    created_at: Time
    created_by: str


class ActivityProgressed(
    Message,
    type="parley.activity.progressed.v1",
    topic=ACTIVITY_OUTCOME,
    key="contact_id",
    identity=("activity_id", "state", "occurred_at"),
    published_by=("channel-sms",),
    read_by=("activities",),
):
    """A channel tells how far it is; never moves an activity backwards."""

    activity_id: ActivityId
    contact_id: ContactId
    state: Literal["in_progress", "awaiting_reply"]
    occurred_at: Time


class ActivityReturned(
    Message,
    type="parley.activity.returned.v1",
    topic=ACTIVITY_OUTCOME,
    key="contact_id",
    identity=("activity_id", "dispatch_number"),
    published_by=("channel-sms",),
    read_by=("activities",),
):
    """A channel gives back what it did not begin in time: the policy gate is asked again."""

    activity_id: ActivityId
    contact_id: ContactId
    dispatch_number: int = Field(ge=1)
    """Of the dispatch that is given back; an older one changes nothing."""
    reason: str = Field(
        description=f"Why: {one_of(OVERTAKEN)} in the words of the gate, or some of your own."
    )
    occurred_at: Time


class ActivityOutcome(
    Message,
    type="parley.activity.outcome.v1",
    topic=ACTIVITY_OUTCOME,
    key="contact_id",
    identity=("outcome_id",),
    published_by=("channel-sms",),
    read_by=("activities",),
):
    """What a channel (or any system that worked it) reports about an activity.

    `completed` needs a disposition; `failed` needs a reason; `unknown` says that a side effect may or
    may not have happened, and that nobody could find out.
    """

    outcome_id: Identifier
    activity_id: ActivityId
    contact_id: ContactId
    dispatch_number: int | None = Field(default=None, ge=1)
    """Of the dispatch that it is about; one of an older dispatch changes nothing. Null: of the newest."""
    result: Literal["completed", "failed", "unknown"] = "completed"
    disposition: Code | None = None
    notes: str = Field(default="", max_length=20_000)
    captured: dict[str, Any] = Field(default_factory=dict)
    """Fields of the subject's schema."""
    transcript_id: str | None = None
    reason: str | None = None
    actor: str
    occurred_at: Time


class DispositionFlags(Record):
    """A disposition as it was when it was picked, so that a reader needs no catalogue of its own.

    Parley itself uses `success`, `human_contact` and `counts_as_attempt`; the other flags are for readers.
    """

    code: Code
    terminal: bool = False
    success: bool = False
    human_contact: bool = False
    opt_out: bool = False
    bad_address: bool = False
    callback: bool = False
    counts_as_attempt: bool = True


class ActivityDispatched(
    Message,
    type="parley.activity.dispatched.v1",
    topic=ACTIVITY_DISPATCHED,
    key="contact_id",
    identity=("activity_id", "dispatch_number"),
    published_by=("activities",),
    read_by=("channel-sms",),
):
    """Allowed by the policy gate: the channel named in the topic is to work it now."""

    activity_id: ActivityId
    contact_id: ContactId
    channel: ChannelName
    dispatch_number: int = Field(ge=1)
    endpoint_id: EndpointId
    destination: str
    """E.164 for phones, an address for mail; the contact's id on a channel Parley keeps no addresses for."""
    subject_id: SubjectId
    campaign_id: CampaignId | None = None
    agent_profile_id: str | None = None
    instructions: str = ""
    attempt_number: int = Field(default=1, ge=1)
    root_id: ActivityId | None = None
    """The first activity of the chain; null for the first itself. Who makes the next one passes it on."""
    chain_depth: int = Field(default=0, ge=0, le=1000)
    not_after: Time | None = None
    """The end of the contact's hours: what has not begun by then is returned. Null: no hours apply."""
    dispatched_at: Time


class ActivityRecalled(
    Message,
    type="parley.activity.recalled.v1",
    topic=ACTIVITY_DISPATCHED,
    key="contact_id",
    identity=("activity_id",),
    published_by=("activities",),
    read_by=("channel-sms",),
):
    """Cancelled after it was dispatched, or completed by a person: the channel is to do no more for it, and
    to report nothing."""

    activity_id: ActivityId
    contact_id: ContactId
    channel: ChannelName
    reason: str
    recalled_at: Time


class ActivityDecided(
    Message,
    type="parley.activity.decided.v1",
    topic=ACTIVITY_DECIDED,
    key="contact_id",
    identity=("activity_id", "activity_version"),
    published_by=("activities",),
    read_by=("stats",),
):
    """A verdict of the policy gate with everything it looked at."""

    activity_id: ActivityId
    activity_version: Version
    contact_id: ContactId
    campaign_id: CampaignId | None = None
    channel: ChannelName | None = None
    """Of the activity; null if it uses none."""
    verdict: Verdict
    reason: str = Field(description=f"`{ALLOWED}`; else the first objection: {one_of(Objection)}.")
    until: Time | None = None
    """Set for a deferral: not before this instant."""
    inputs: dict[str, Any] = Field(default_factory=dict)
    decided_at: Time


class ActivityCompleted(
    Message,
    type="parley.activity.completed.v1",
    topic=ACTIVITY_COMPLETED,
    key="contact_id",
    identity=("activity_id",),
    published_by=("activities",),
    read_by=("workflow", "stats"),
):
    """An activity ended with a disposition. Published once; a later correction is only `activity-changed`."""

    activity_id: ActivityId
    contact_id: ContactId
    kind: ActivityKind
    mode: Mode
    source: Source
    subject_id: SubjectId
    campaign_id: CampaignId | None = None
    channel: ChannelName | None = None
    endpoint_id: EndpointId | None = None
    destination: str | None = None
    """The address, where one was fixed in advance; another try goes to it too."""
    agent_profile_id: str | None = None
    disposition: DispositionFlags
    captured: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""
    preparation_notes: str = ""
    """Become the instructions of a follow-up."""
    follow_up_at: Time | None = None
    """A time the agent agreed with the contact; beats the delay of a flow."""
    instructions: str = ""
    urgency: Urgency = Urgency.NORMAL
    owner: str | None = None
    attempt_number: int = 1
    batch_id: BatchId | None = None
    parent_id: ActivityId | None = None
    root_id: ActivityId | None = None
    chain_depth: int = 0
    contact_time_zone: str | None = None
    created_at: Time
    scheduled_at: Time
    completed_at: Time
    completed_by: str


class ActivityChanged(
    Message,
    ActivitySpec,
    type="parley.activity.changed.v1",
    topic=ACTIVITY_CHANGED,
    key="contact_id",
    identity=("activity_id", "version"),
    published_by=("activities",),
    read_by=("batch-loader", "stats"),
):
    """The full state of an activity after a change.

    Keyed by contact, so not compacted by activity: kept for the retention like any event, and the
    version tells a reader which of two is newer.
    """

    version: Version
    state: ActivityState
    reason: str | None = Field(
        default=None,
        description="Why it was failed, cancelled, expired or deferred. By the gate `deferred: ...` or "
        "`denied: ...` with its objection; given back by a channel `returned: ...`; refused at once "
        f"`{Skipped.DUPLICATE}` or `{Objection.CONTACT_ERASED}`; else in the words of who did it.",
    )
    disposition: Code | None = None
    notes: str = ""
    captured: dict[str, Any] = Field(default_factory=dict)
    assigned_to: str | None = None
    dispatch_number: int = 0
    transcript_id: str | None = None
    created_at: Time
    created_by: str
    started_at: Time | None = None
    completed_at: Time | None = None
    completed_by: str | None = None
    changed_at: Time
