"""Completions and flows as tests want them."""

from datetime import UTC, datetime
from typing import Any

from contracts.activities import ActivityCompleted, DispositionFlags
from contracts.campaigns import catalog_id
from contracts.message import stable_id
from workflow.domain.flow import Flow, FlowSpec, save

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RENEWAL = catalog_id("subject", "renewal")
SPRING = catalog_id("campaign", "spring")


def completed(disposition: str = "no-answer", **changes: Any) -> ActivityCompleted:
    told = {
        "activity_id": "activity-1",
        "contact_id": "contact-1",
        "kind": "sms",
        "mode": "automated",
        "source": "batch",
        "subject_id": RENEWAL,
        "campaign_id": SPRING,
        "channel": "sms",
        "endpoint_id": "endpoint-1",
        "agent_profile_id": "profile-1",
        "disposition": DispositionFlags(code=disposition),
        "instructions": "Be kind.",
        "urgency": "high",
        "owner": "maria",
        "batch_id": "batch-1",
        "created_at": NOON,
        "scheduled_at": NOON,
        "completed_at": NOON,
        "completed_by": "channel-sms",
    }
    return ActivityCompleted.model_validate(told | changes)


def spec(when: dict[str, Any], **changes: Any) -> FlowSpec:
    return FlowSpec.model_validate({"subject": "renewal", "when": when} | changes)


def flow(when: dict[str, Any], published_at: datetime = NOON, **changes: Any) -> Flow:
    become = save(None, spec(when, **changes), True, published_at)
    return become.state  # type: ignore[union-attr]


def published(flow: Flow, when: dict[str, Any], at: datetime, **changes: Any) -> Flow:
    """The same flow, one version on."""
    become = save(flow, spec(when, campaign=flow.campaign, **changes), True, at)
    return become.state  # type: ignore[union-attr]


def by_id(*flows: Flow) -> dict[str, Flow]:
    return {flow.flow_id: flow for flow in flows}


def follow_up_id(path: str, activity_id: str = "activity-1") -> str:
    return stable_id("activity", activity_id, path)
