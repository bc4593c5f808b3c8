"""What a page of contacts becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from batch_loader.domain.audience import Candidate
from batch_loader.domain.batch import Batch, progress
from batch_loader.domain.filters import Filters
from batch_loader.domain.schedule import due_at
from contracts.activities import ActivityCreated
from contracts.channels import NEED_AN_ADDRESS, PREFERENCE_OF_CHANNEL
from contracts.message import Message, copied, stable_id
from contracts.reasons import Skipped
from contracts.vocabulary import (
    ActivityId,
    BatchId,
    BatchState,
    Source,
)

_AUTHOR = "batch-loader"


class Reservation(BaseModel):
    """An activity that is about to exist, and the slot it takes: one contact, one subject.

    exclusive_slot is unique among all reservations, so of two batches only one gets it.
    """

    model_config = ConfigDict(frozen=True)

    activity_id: ActivityId
    version: int = 0
    batch_id: BatchId
    slot: str
    exclusive_slot: str | None
    open: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """The batch after a page, and what was made of it."""

    batch: Batch
    messages: tuple[Message, ...]
    reservations: tuple[Reservation, ...]


def slot_of(contact_id: str, subject_id: str) -> str:
    return f"{contact_id}:{subject_id}"


def load_page(
    batch: Batch,
    candidates: Sequence[Candidate],
    taken: Set[str],
    *,
    more: bool,
    per_second: float,
    now: datetime,
) -> Page:
    """candidates: the next in id order. taken: slots with an open activity. more: others may follow."""
    skipped = Counter(batch.passed_over)
    activities: list[ActivityCreated] = []
    for candidate in candidates:
        busy = batch.choices.exclusive and slot_of(candidate.contact_id, batch.choices.subject_id) in taken
        if reason := why_not(candidate, batch.filters, batch.choices.channel, busy):
            skipped[reason.value] += 1
        else:
            activities.append(_activity(batch, candidate, batch.created + len(activities), now))
    after = batch.after(
        now,
        created=batch.created + len(activities),
        passed_over=dict(skipped),
        checkpoint=candidates[-1].contact_id if candidates else batch.checkpoint,
        per_second=round(per_second, 1),
        waiting_for=None,
    )
    after = _going_on(after, now) if more and after.room != 0 else _finished(after)
    reservations = tuple(_reservation(batch, activity) for activity in activities)
    return Page(after, (*activities, progress(after)), reservations)


def why_not(candidate: Candidate, filters: Filters, channel: str | None, busy: bool) -> Skipped | None:
    """busy: it has an open activity that the duplicate rule minds."""
    preference = PREFERENCE_OF_CHANNEL.get(channel or "")
    if preference in candidate.opted_out and not filters.include_opted_out:
        return Skipped.OPTED_OUT
    if channel in NEED_AN_ADDRESS and not candidate.reached_over(channel):
        return Skipped.NO_ADDRESS
    return Skipped.DUPLICATE if busy else None


def _activity(batch: Batch, candidate: Candidate, position: int, now: datetime) -> ActivityCreated:
    choices = batch.choices
    activity_id = ActivityId(stable_id("activity", batch.batch_id, candidate.contact_id))
    return ActivityCreated(
        activity_id=activity_id,
        contact_id=candidate.contact_id,
        kind=choices.kind,
        mode=choices.mode,
        source=Source.BATCH,
        subject_id=choices.subject_id,
        campaign_id=choices.campaign_id,
        channel=choices.channel,
        endpoint_id=choices.endpoint_id,
        agent_profile_id=choices.agent_profile_id,
        scheduled_at=due_at(choices.schedule, candidate.time_zone, activity_id, batch.loading_since or now),
        urgency=choices.urgency,
        instructions=choices.instructions,
        owner=choices.owner(position),
        batch_id=batch.batch_id,
        exclusive=choices.exclusive,
        created_at=now,
        created_by=_AUTHOR,
    )


def _reservation(batch: Batch, activity: ActivityCreated) -> Reservation:
    slot = slot_of(activity.contact_id, activity.subject_id)
    return Reservation(
        activity_id=activity.activity_id,
        batch_id=batch.batch_id,
        slot=slot,
        exclusive_slot=slot if activity.exclusive else None,
    )


def _going_on(batch: Batch, now: datetime) -> Batch:
    left = max(batch.expected - batch.selected, 0)
    end = now + timedelta(seconds=left / batch.per_second) if batch.per_second else None
    return copied(batch, {"estimated_end_at": end})


def _finished(batch: Batch) -> Batch:
    return copied(batch, {"state": BatchState.LOADED, "estimated_end_at": None})
