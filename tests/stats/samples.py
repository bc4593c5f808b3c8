"""Messages for these tests: plausible, and different only in what a test says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from contracts.activities import ActivityDecided
from contracts.channel_sms import InteractionRecorded
from contracts.contacts import ContactChanged

THEN = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
_numbers = count(1)


def name(kind: str = "contact") -> str:
    """An id nobody else has."""
    return f"{kind}-{next(_numbers)}"


def hours(number: float) -> datetime:
    return THEN + timedelta(hours=number)


def interaction(contact: str, **said: Any) -> InteractionRecorded:
    defaults: dict[str, Any] = {
        "interaction_id": name("message"),
        "interaction_type": "sms",
        "version": 1,
        "contact_id": contact,
        "direction": "outgoing",
        "occurred_at": THEN,
    }
    return InteractionRecorded.model_validate(defaults | said)


def changed(message: InteractionRecorded, **said: Any) -> InteractionRecorded:
    """The next version of an interaction."""
    return InteractionRecorded.model_validate(message.model_dump() | {"version": message.version + 1} | said)


def decided(contact: str, **said: Any) -> ActivityDecided:
    defaults: dict[str, Any] = {
        "activity_id": name("activity"),
        "activity_version": 1,
        "contact_id": contact,
        "campaign_id": "spring",
        "channel": "sms",
        "verdict": "deny",
        "reason": "opted_out",
        "decided_at": THEN,
    }
    return ActivityDecided.model_validate(defaults | said)


def contact_changed(contact: str, **said: Any) -> ContactChanged:
    defaults: dict[str, Any] = {
        "contact_id": contact,
        "version": 1,
        "contact_type": "person",
        "created_at": THEN,
        "changed_at": THEN,
    }
    return ContactChanged.model_validate(defaults | said)
