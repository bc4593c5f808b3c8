"""Inbound messages."""

from __future__ import annotations

from collections.abc import Sequence

from batch_loader.use_cases.follow_activities import FollowActivities
from contracts.activities import ActivityChanged
from servicekit.delivery import Delivery
from servicekit.pipeline import BatchHandler
from servicekit.verdict import Outcome, Unchanged


def follow_when_activities_change(follow: FollowActivities) -> BatchHandler:
    async def handle(batch: Sequence[Delivery[ActivityChanged]]) -> list[Outcome]:
        news = await follow([delivery.message for delivery in batch])
        return [None if position < news else Unchanged() for position in range(len(batch))]

    return handle
