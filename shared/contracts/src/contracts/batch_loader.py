"""Owned by services/batch-loader: how far a load is."""

from __future__ import annotations

from pydantic import Field

from contracts.message import Message, Topic
from contracts.reasons import Skipped, one_of
from contracts.vocabulary import BatchId, BatchState, CampaignId, SubjectId, Time, Version

BATCH_PROGRESSED = Topic("batch-progressed")


class BatchProgressed(
    Message,
    type="parley.batch.progressed.v1",
    topic=BATCH_PROGRESSED,
    key="batch_id",
    identity=("batch_id", "version"),
    published_by=("batch-loader",),
    read_by=(),
):
    """selected = loaded + the sum of skipped, at every moment."""

    batch_id: BatchId
    version: Version
    state: BatchState
    campaign_id: CampaignId
    subject_id: SubjectId
    expected: int = Field(ge=0)
    """What the filters counted when the load began."""
    selected: int = Field(default=0, ge=0)
    loaded: int = Field(default=0, ge=0)
    skipped: dict[str, int] = Field(
        default_factory=dict, description=f"Reason -> contacts; the reasons are {one_of(Skipped)}."
    )
    per_second: float = Field(default=0, ge=0)
    """Contacts selected per second in the last pages, each weighing less than the one after it. Not the pace
    of the whole load: what it waited for, or how long it was paused, is not in it."""
    estimated_end_at: Time | None = None
    error: str | None = None
    changed_at: Time
