"""An activity as the reports know it: its newest state, and what was picked when it was completed."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contracts.activities import ActivityChanged, ActivityCompleted
from contracts.vocabulary import FINAL_STATES, Mode

Row = dict[str, Any]
Told = ActivityChanged | ActivityCompleted


def told(known: Row, message: Told) -> Row | None:
    """The activity after a message; None if that is not news."""
    if isinstance(message, ActivityCompleted):
        return None if "picked" in known else {**known, "picked": _picked(message)}
    if message.version <= known["version"]:
        return None
    activity: Row = {
        "_id": known["_id"],
        "version": message.version,
        "state": str(message.state),
        "source": str(message.source),
        "attempt_number": message.attempt_number,
        "created_at": message.created_at,
        "scheduled_at": message.scheduled_at,
        "changed_at": message.changed_at,
        "started_at": message.started_at,
        "completed_at": message.completed_at,
        "campaign_id": message.campaign_id,
        "subject_id": message.subject_id,
        "channel": message.channel,
        "endpoint_id": message.endpoint_id,
        "disposition": message.disposition,
        "agent": _agent(message),
    }
    activity = {name: value for name, value in activity.items() if value is not None}
    if message.state not in FINAL_STATES:
        activity["open"] = True
    if "picked" in known:
        activity["picked"] = known["picked"]
    return activity


def _agent(message: ActivityChanged) -> str | None:
    """The person whose work it is; automated work is nobody's."""
    if message.mode is not Mode.MANUAL:
        return None
    return message.completed_by or message.assigned_to or message.owner


def _picked(message: ActivityCompleted) -> Row:
    at = message.completed_at
    try:
        local = at.astimezone(ZoneInfo(message.contact_time_zone or "UTC"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        local = at
    picked = {
        "at": at,
        "weekday": local.isoweekday(),
        "hour": local.hour,
        "human_contact": message.disposition.human_contact,
        "campaign_id": message.campaign_id,
        "subject_id": message.subject_id,
        "channel": message.channel,
        "endpoint_id": message.endpoint_id,
    }
    return {name: value for name, value in picked.items() if value is not None}
