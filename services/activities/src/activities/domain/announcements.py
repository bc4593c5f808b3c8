"""What the world is told about an activity."""

from __future__ import annotations

from datetime import datetime

from activities.domain.activity import Activity
from activities.domain.gate import Allow, Defer, Deny, Ruling
from contracts.activities import (
    ActivityChanged,
    ActivityCompleted,
    ActivityDecided,
    ActivityDispatched,
    DispositionFlags,
)
from contracts.campaigns import DispositionChanged
from contracts.channel_sms import InteractionRecorded
from contracts.message import Record, stable_id
from contracts.reasons import ALLOWED
from contracts.vocabulary import ActivityKind, Direction, InteractionId, Mode, Verdict


def _shared(message: type[Record]) -> tuple[str, ...]:
    return tuple(message.model_fields.keys() & Activity.model_fields.keys())


_CHANGED = _shared(ActivityChanged)
_COMPLETED = tuple(name for name in _shared(ActivityCompleted) if name != "disposition")


def changed(activity: Activity) -> ActivityChanged:
    return ActivityChanged(**{name: getattr(activity, name) for name in _CHANGED})


def completed(
    activity: Activity, disposition: DispositionChanged, contact_time_zone: str | None
) -> ActivityCompleted:
    return ActivityCompleted(
        **{name: getattr(activity, name) for name in _COMPLETED},
        disposition=flags_of(disposition),
        contact_time_zone=contact_time_zone,
    )


def flags_of(disposition: DispositionChanged) -> DispositionFlags:
    return DispositionFlags.model_validate(disposition.model_dump())


def dispatched(activity: Activity, allowed: Allow, now: datetime) -> ActivityDispatched:
    assert activity.channel is not None
    return ActivityDispatched(
        activity_id=activity.activity_id,
        contact_id=activity.contact_id,
        channel=activity.channel,
        dispatch_number=activity.dispatch_number,
        endpoint_id=allowed.endpoint_id,
        destination=allowed.destination,
        subject_id=activity.subject_id,
        campaign_id=activity.campaign_id,
        agent_profile_id=activity.agent_profile_id,
        instructions=activity.instructions,
        attempt_number=activity.attempt_number,
        root_id=activity.root_id,
        chain_depth=activity.chain_depth,
        not_after=allowed.not_after,
        dispatched_at=now,
    )


def verdict_of(ruling: Ruling) -> tuple[Verdict, str]:
    match ruling:
        case Allow():
            return Verdict.ALLOW, ALLOWED
        case Defer(reason):
            return Verdict.DEFER, reason.value
        case Deny(reason):
            return Verdict.DENY, reason.value


def decided(activity: Activity, ruling: Ruling, now: datetime) -> ActivityDecided:
    verdict, reason = verdict_of(ruling)
    return ActivityDecided(
        activity_id=activity.activity_id,
        activity_version=activity.version,
        contact_id=activity.contact_id,
        campaign_id=activity.campaign_id,
        channel=activity.channel,
        verdict=verdict,
        reason=reason,
        until=ruling.until if isinstance(ruling, Defer) else None,
        inputs=ruling.inputs,
        decided_at=now,
    )


def interaction(activity: Activity, disposition: DispositionChanged) -> InteractionRecorded | None:
    """The call, text, mail or meeting that a person logs by completing; None for what is none.

    A later correction has a higher version, and takes the interaction back if it no longer counts.
    """
    if activity.mode is not Mode.MANUAL or activity.kind is ActivityKind.TASK:
        return None
    return InteractionRecorded(
        interaction_id=InteractionId(stable_id("interaction", activity.activity_id)),
        interaction_type=activity.kind.value,
        version=activity.version,
        contact_id=activity.contact_id,
        direction=Direction.INCOMING if activity.incoming else Direction.OUTGOING,
        channel=activity.channel,
        occurred_at=activity.completed_at,
        activity_id=activity.activity_id,
        campaign_id=activity.campaign_id,
        subject_id=activity.subject_id,
        endpoint_id=activity.endpoint_id,
        disposition=activity.disposition,
        # An outcome may name whom it likes; stats keeps no longer name.
        agent=activity.completed_by and activity.completed_by[:200],
        deleted=not disposition.counts_as_attempt,
    )
