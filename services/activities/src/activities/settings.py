"""What activities reads from its environment."""

from __future__ import annotations

from pydantic import Field, field_validator

from contracts.catalogue import CHANNELS
from contracts.vocabulary import CHANNEL_NAME_RULE, ChannelName
from servicekit.settings import ServiceSettings, Words


class Settings(ServiceSettings):
    port: int = Field(default=8104, ge=0, le=65535)
    channels: Words[ChannelName] = Field(
        default=CHANNELS,
        json_schema_extra={"rule": f"names with commas between them, each of {CHANNEL_NAME_RULE}"},
    )
    """Channels that automated activities may use: those with a dispatch topic. Empty is as unset."""
    scheduler_batch: int = Field(default=500, ge=1, le=500)
    """How many due activities one transaction takes on."""
    scheduler_poll_ms: int = Field(default=200, ge=5, le=5000)
    """How long the scheduler rests when nothing is due, in real time; what is made here wakes it at once."""

    @field_validator("channels")
    @classmethod
    def _some(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        # A line with nothing behind its = is how people un-set a variable in a file of them.
        return channels or CHANNELS
