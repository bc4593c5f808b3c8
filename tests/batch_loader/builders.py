"""Contacts, catalogue entries and batches for these tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from batch_loader.domain.batch import Batch
from batch_loader.domain.choices import Choices
from batch_loader.domain.filters import Filters
from contracts.activities import ActivityChanged, ActivityCreated
from contracts.campaigns import (
    AgentProfileChanged,
    CampaignChanged,
    EndpointChanged,
    SubjectChanged,
    catalog_id,
)
from contracts.contacts import ContactChanged, OptOut, Phone
from contracts.message import Message
from contracts.vocabulary import (
    ActivityId,
    ActivityKind,
    ActivityState,
    BatchId,
    CampaignId,
    ContactId,
    EndpointId,
    Mode,
    PreferenceKind,
    Source,
    SubjectId,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SUBJECT = SubjectId(catalog_id("subject", "renewal"))
CAMPAIGN = CampaignId(catalog_id("campaign", "spring"))
ENDPOINT = EndpointId(catalog_id("endpoint", "main-line"))
PROFILE = catalog_id("agent-profile", "scripted")

CATALOG: tuple[Message, ...] = (
    SubjectChanged(subject_id=SUBJECT, version=1, code="renewal", name="Renewal"),
    SubjectChanged(
        subject_id=SubjectId(catalog_id("subject", "survey")), version=1, code="survey", name="Survey"
    ),
    EndpointChanged(endpoint_id=ENDPOINT, version=1, code="main-line", channel="sms", address="+12125550100"),
    EndpointChanged(
        endpoint_id=EndpointId(catalog_id("endpoint", "mailbox")),
        version=1,
        code="mailbox",
        channel="email",
        address="hello@parley.example",
    ),
    AgentProfileChanged(agent_profile_id=PROFILE, version=1, code="scripted"),
    CampaignChanged(
        campaign_id=CAMPAIGN, version=1, code="spring", name="Spring", channel="sms", endpoint_id=ENDPOINT
    ),
)

AUTOMATIC = {
    "campaign": "spring",
    "subject": "renewal",
    "source": "automatic",
    "agent_profile": "scripted",
}


def contact_id(number: int, crowd: str = "customer") -> ContactId:
    return ContactId(f"{crowd}-{number:06}")


def contact(
    number: int, opted_out: tuple[PreferenceKind, ...] = (), crowd: str = "customer", **told: Any
) -> ContactChanged:
    """One of a crowd, which is also its contact type."""
    return ContactChanged.model_validate(
        {
            "contact_id": contact_id(number, crowd),
            "version": 1,
            "contact_type": crowd,
            "phones": (Phone(number=f"+1{200 + number // 100 % 700}5550{100 + number % 100}"),),
            "time_zone": "America/New_York",
            "preferences": {kind: OptOut(at=NOON, source="api", actor="test") for kind in opted_out},
            "created_at": NOON - timedelta(days=30),
            "changed_at": NOON,
        }
        | told
    )


def batch(filters: Filters | None = None, **chosen: Any) -> Batch:
    choices = {
        "campaign_id": CAMPAIGN,
        "subject_id": SUBJECT,
        "channel": "sms",
        "endpoint_id": ENDPOINT,
        "source": "automatic",
        "agent_profile_id": PROFILE,
    } | chosen
    return Batch(
        batch_id=BatchId("batch-1"),
        name="Spring renewals",
        filters=filters or Filters(),
        choices=Choices.model_validate(choices),
        created_at=NOON,
        changed_at=NOON,
    )


def changed(
    contact: ContactId, activity: str, version: int, state: ActivityState, **told: Any
) -> ActivityChanged:
    """Something became of an activity that we did not make."""
    return ActivityChanged.model_validate(
        {
            "activity_id": ActivityId(activity),
            "contact_id": contact,
            "kind": ActivityKind.SMS,
            "mode": Mode.AUTOMATED,
            "source": Source.WORKFLOW,
            "subject_id": SUBJECT,
            "scheduled_at": NOON,
            "version": version,
            "state": state,
            "created_at": NOON,
            "created_by": "test",
            "changed_at": NOON + timedelta(seconds=version),
        }
        | told
    )


def refused(activity: ActivityCreated) -> ActivityChanged:
    """The activities service's last word on a duplicate."""
    return ActivityChanged.model_validate(
        activity.model_dump()
        | {
            "version": 1,
            "state": ActivityState.CANCELLED,
            "reason": "duplicate_open_activity",
            "changed_at": NOON,
        }
    )
