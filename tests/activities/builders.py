"""Messages and states to start a test from: a running campaign, a contact in New York, work that is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from activities.adapters.mongo_contacts import contact_of, keep_contact
from activities.domain.activity import Activity, scheduled
from activities.domain.catalog import Catalog, Contact
from contracts.activities import ActivityCreated, ActivityOutcome, ActivityProgressed, ActivityReturned
from contracts.campaigns import (
    CampaignChanged,
    ContactWindow,
    DispositionChanged,
    EndpointChanged,
    PolicyChanged,
    SubjectChanged,
)
from contracts.contacts import ContactChanged, OptOut, Phone
from contracts.vocabulary import (
    ActivityKind,
    CampaignState,
    Mode,
    Picker,
    PreferenceKind,
    Source,
)

NOON = datetime(2026, 3, 4, 17, 0, tzinfo=UTC)
"""A Wednesday, noon in New York."""

SUBJECT = SubjectChanged.model_validate(
    {
        "subject_id": "subject-1",
        "version": 1,
        "code": "renewal",
        "name": "Renewal",
        "data_schema": {
            "type": "object",
            "properties": {"plan": {"enum": ["basic", "full"]}, "people": {"type": "integer"}},
            "required": ["plan"],
        },
    }
)
ENDPOINT = EndpointChanged.model_validate(
    {"endpoint_id": "endpoint-1", "version": 1, "code": "line", "channel": "sms", "address": "+12025550100"}
)
POLICY = PolicyChanged.model_validate(
    {"policy_id": "policy-1", "version": 1, "code": "daytime", "name": "Daytime", "window": ContactWindow()}
)
_FLAGS: dict[str, dict[str, Any]] = {
    "sold": {"terminal": True, "success": True, "human_contact": True},
    "no-answer": {},
    "note": {"counts_as_attempt": False},
    "people-only": {"pickable_by": (Picker.PERSON,)},
    "never": {},
}
DISPOSITIONS = tuple(
    DispositionChanged.model_validate(
        {"disposition_id": f"d-{code}", "version": 1, "code": code, "name": code, **flags}
    )
    for code, flags in _FLAGS.items()
)


def campaign(version: int = 1, state: str = "running", **changes: Any) -> CampaignChanged:
    return CampaignChanged.model_validate(
        {
            "campaign_id": "campaign-1",
            "version": version,
            "code": "spring",
            "name": "Spring",
            "state": CampaignState(state),
            "channel": "sms",
            "endpoint_id": "endpoint-1",
            "policy_id": "policy-1",
            "dispositions": ("sold", "no-answer", "note", "people-only"),
            **changes,
        }
    )


def catalog_messages() -> tuple[Any, ...]:
    return (SUBJECT, ENDPOINT, POLICY, campaign(), *DISPOSITIONS)


def catalog(**changes: Any) -> Catalog:
    replaced = {
        "subject": SUBJECT,
        "endpoint": ENDPOINT,
        "policy": POLICY,
        "campaign": campaign(),
    } | changes
    return Catalog.of([*(item for item in replaced.values() if item is not None), *DISPOSITIONS])


def contact_changed(contact_id: str = "contact-1", version: int = 1, **changes: Any) -> ContactChanged:
    return ContactChanged.model_validate(
        {
            "contact_id": contact_id,
            "version": version,
            "contact_type": "person",
            "phones": (Phone(number="+12125550123"),),
            "time_zone": "America/New_York",
            "created_at": NOON,
            "changed_at": NOON,
            **changes,
        }
    )


def opted_out(contact_id: str = "contact-1", version: int = 2) -> ContactChanged:
    opt_out = OptOut(at=NOON, source="sms", actor="contact")
    return contact_changed(contact_id, version, preferences={PreferenceKind.DO_NOT_SMS: opt_out})


def contact(**changes: Any) -> Contact:
    return known(contact_changed(**changes))


def known(message: ContactChanged) -> Contact:
    """As it is read from the copy in which it is kept."""
    return contact_of(keep_contact(message) | {"_id": message.contact_id, "version": message.version})


def created(activity_id: str = "activity-1", **changes: Any) -> ActivityCreated:
    return ActivityCreated.model_validate(
        {
            "activity_id": activity_id,
            "contact_id": "contact-1",
            "kind": ActivityKind.SMS,
            "mode": Mode.AUTOMATED,
            "source": Source.BATCH,
            "subject_id": "subject-1",
            "campaign_id": "campaign-1",
            "channel": "sms",
            "agent_profile_id": "agent-1",
            "scheduled_at": NOON,
            "created_at": NOON,
            "created_by": "batch-loader",
            **changes,
        }
    )


def manual(activity_id: str = "activity-1", **changes: Any) -> ActivityCreated:
    return created(
        activity_id, **{"mode": Mode.MANUAL, "kind": ActivityKind.CALL, "channel": None, **changes}
    )


def activity(**changes: Any) -> Activity:
    return scheduled(created(), NOON).model_copy(update=changes)


def manual_activity(**changes: Any) -> Activity:
    return scheduled(manual(), NOON).model_copy(update=changes)


def outcome(
    activity_id: str = "activity-1", outcome_id: str = "outcome-1", **changes: Any
) -> ActivityOutcome:
    return ActivityOutcome.model_validate(
        {
            "outcome_id": outcome_id,
            "activity_id": activity_id,
            "contact_id": "contact-1",
            "disposition": "sold",
            "captured": {"plan": "full"},
            "actor": "agent:scripted",
            "occurred_at": NOON + timedelta(minutes=1),
            **changes,
        }
    )


def returned(dispatch_number: int = 1, **changes: Any) -> ActivityReturned:
    return ActivityReturned.model_validate(
        {
            "activity_id": "activity-1",
            "contact_id": "contact-1",
            "dispatch_number": dispatch_number,
            "reason": "outside_window",
            "occurred_at": NOON,
            **changes,
        }
    )


def progressed(
    activity_id: str = "activity-1", state: str = "in_progress", **changes: Any
) -> ActivityProgressed:
    return ActivityProgressed.model_validate(
        {
            "activity_id": activity_id,
            "contact_id": "contact-1",
            "state": state,
            "occurred_at": NOON,
            **changes,
        }
    )
