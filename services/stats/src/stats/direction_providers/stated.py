"""Types whose direction is a fact of their own: if the event does not state it, nobody knows it."""

from __future__ import annotations

from datetime import datetime

from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import Direction
from stats.direction_provider import TargetView


class Stated:
    interaction_type = ""
    priority = 0
    reads_addresses = False

    def direction(self, interaction: InteractionRecorded, target: TargetView) -> Direction:
        return interaction.direction or Direction.UNKNOWN

    def occurred_at(self, interaction: InteractionRecorded) -> datetime | None:
        return interaction.occurred_at


class CallDirection(Stated):
    interaction_type = "call"


class MeetingDirection(Stated):
    interaction_type = "meeting"
