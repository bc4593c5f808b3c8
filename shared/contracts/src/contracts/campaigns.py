"""Owned by services/campaigns: why people are talked to, and under which rules.

All of the catalogue travels on one compacted topic, keyed by the item's own id; ids are derived from
kind and code, so the same bundle applied twice, or in two deployments, gives the same ids.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from contracts.message import Message, Record, Topic, stable_id
from contracts.reasons import Objection
from contracts.vocabulary import (
    CampaignId,
    CampaignState,
    ChannelName,
    Code,
    EndpointId,
    Flag,
    Number,
    Picker,
    PolicyId,
    SubjectDirection,
    SubjectId,
    Time,
    Version,
    Whole,
)

CATALOG_CHANGED = Topic("catalog-changed", compacted=True)

CatalogKind = Literal["subject", "disposition", "campaign", "endpoint", "policy", "agent-profile"]


def catalog_id(kind: CatalogKind, code: str) -> str:
    return stable_id("catalog", kind, code)


class Question(Record):
    """One thing the scripted agent asks for, and the field of the subject's schema that it fills."""

    field: str
    text: str


class SubjectChanged(
    Message,
    type="parley.catalog.subject-changed.v1",
    topic=CATALOG_CHANGED,
    key="subject_id",
    identity=("subject_id", "version"),
    published_by=("campaigns",),
    read_by=("activities", "batch-loader", "channel-sms"),
):
    """What activities are about, and the data that they capture. The full state."""

    subject_id: SubjectId
    version: Version
    code: Code
    name: str
    data_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema (2020-12) of the data that an activity of this subject captures. What is captured has to
    fit it, but none of it has to be there, `required` or not: a conversation may end early."""
    direction: SubjectDirection = SubjectDirection.OUTBOUND
    disposition_required: Flag = True
    """Must be true: every activity ends with a disposition."""
    opening: str = ""
    """First words of an automated conversation. `{first_name}`, `{last_name}`, `{organisation}` and custom
    fields are filled in, and left out where they are not known; `{{` and `}}` are braces."""
    questions: tuple[Question, ...] = ()
    goal: str = ""
    """For people and for agents of your own; the scripted agent does not read it."""
    max_turns: Whole = Field(default=6, ge=1, le=50)
    opt_out_words: tuple[str, ...] = ()
    """Added to the words that every channel honours; never instead of them."""
    reply_delay_seconds: Number = Field(default=0, ge=0, le=86_400)
    no_response_seconds: Number = Field(default=86_400, ge=1)
    no_response_disposition: Code | None = None
    yes_disposition: Code | None = None
    """What the scripted agent picks when the contact agrees and every question is answered."""
    no_disposition: Code | None = None
    opt_out_disposition: Code | None = None
    undeliverable_disposition: Code | None = None


class DispositionChanged(
    Message,
    type="parley.catalog.disposition-changed.v1",
    topic=CATALOG_CHANGED,
    key="disposition_id",
    identity=("disposition_id", "version"),
    published_by=("campaigns",),
    read_by=("activities", "channel-sms", "stats"),
):
    """How an activity may end. The full state."""

    disposition_id: str
    version: Version
    code: Code
    name: str
    terminal: Flag = False
    """For readers of activity-completed; it ends nothing: what follows is what a flow says."""
    success: Flag = False
    """Counted in reports as a success."""
    human_contact: Flag = False
    """Counted in reports as reached."""
    opt_out: Flag = False
    """For readers of activity-completed; it opts nobody out: a flow's set_preference does."""
    bad_address: Flag = False
    """For readers of activity-completed; it blocks no address: correct the contact."""
    callback: Flag = False
    """For readers of activity-completed; it plans no call: a flow's try_again or new_activity does."""
    counts_as_attempt: Flag = True
    """Whether what a person logs by completing an activity counts as an attempt."""
    pickable_by: tuple[Picker, ...] = tuple(Picker)


class CampaignChanged(
    Message,
    type="parley.catalog.campaign-changed.v1",
    topic=CATALOG_CHANGED,
    key="campaign_id",
    identity=("campaign_id", "version"),
    published_by=("campaigns",),
    read_by=("activities", "batch-loader", "channel-sms", "stats"),
):
    """A campaign: whether it runs, and on which channel and terms. The full state."""

    campaign_id: CampaignId
    version: Version
    code: Code
    name: str
    state: CampaignState = CampaignState.DRAFT
    channel: ChannelName
    endpoint_id: EndpointId | None = None
    policy_id: PolicyId | None = None
    dispositions: tuple[Code, ...] = ()
    """Codes that an activity of this campaign may end with; empty means any."""
    group: str | None = None
    starts_at: Time | None = None
    ends_at: Time | None = None

    def objection(self, now: datetime) -> Objection | None:
        """Why nothing of it may be begun now. The policy gate asks it, and once more whoever acts later."""
        if self.state is CampaignState.STOPPED:
            return Objection.CAMPAIGN_STOPPED
        if self.ends_at is not None and self.ends_at <= now:
            return Objection.CAMPAIGN_ENDED
        if self.state is CampaignState.DRAFT:
            return Objection.CAMPAIGN_DRAFT
        if self.state is CampaignState.PAUSED:
            return Objection.CAMPAIGN_PAUSED
        if self.starts_at is not None and now < self.starts_at:
            return Objection.CAMPAIGN_NOT_STARTED
        return None


class EndpointChanged(
    Message,
    type="parley.catalog.endpoint-changed.v1",
    topic=CATALOG_CHANGED,
    key="endpoint_id",
    identity=("endpoint_id", "version"),
    published_by=("campaigns",),
    read_by=("activities", "batch-loader", "channel-sms"),
):
    """Our side of a channel; unique per (channel, address)."""

    endpoint_id: EndpointId
    version: Version
    code: Code
    channel: ChannelName
    address: str
    provider: str = "simulated"
    enabled: Flag = True
    segments_per_second: Number = Field(default=100, gt=0)


class ContactWindow(Record):
    """When somebody may be contacted, in their own local time. `start` is inside, `end` is not."""

    start: str = Field(default="08:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    end: str = Field(default="21:00", pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")
    weekdays: tuple[Whole, ...] = (1, 2, 3, 4, 5, 6, 7)
    """ISO weekdays: 1 is Monday, 7 is Sunday."""


class PolicyChanged(
    Message,
    type="parley.catalog.policy-changed.v1",
    topic=CATALOG_CHANGED,
    key="policy_id",
    identity=("policy_id", "version"),
    published_by=("campaigns",),
    read_by=("activities",),
):
    """At which hours and on which days contacts may be reached. The full state."""

    policy_id: PolicyId
    version: Version
    code: Code
    name: str
    window: ContactWindow = ContactWindow()
    unknown_zone_zones: tuple[str, ...] = ()
    """Zones that somebody of unknown zone might be in: a time is safe only if it is inside the window in
    all of them. Empty means every offset that exists."""
    source: str = ""


class AgentProfileChanged(
    Message,
    type="parley.catalog.agent-profile-changed.v1",
    topic=CATALOG_CHANGED,
    key="agent_profile_id",
    identity=("agent_profile_id", "version"),
    published_by=("campaigns",),
    read_by=("batch-loader", "channel-sms"),
):
    """How an automated agent behaves; `scripted` needs no network."""

    agent_profile_id: str
    version: Version
    code: Code
    kind: Literal["scripted"] = "scripted"
    max_turns: Whole = Field(default=6, ge=1, le=50)
