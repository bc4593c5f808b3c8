"""What this service reads from its environment."""

from pydantic import Field, field_validator

from contracts.catalogue import CHANNELS
from contracts.vocabulary import CHANNEL_NAME_RULE, ChannelName
from servicekit.settings import ServiceSettings, Words


class Settings(ServiceSettings):
    port: int = Field(default=8103, ge=0, le=65535)
    channels: Words[ChannelName] = Field(
        default=CHANNELS,
        json_schema_extra={"rule": f"names with commas between them, each of {CHANNEL_NAME_RULE}"},
    )
    """Channels that automatic batches may use: those with a dispatch topic, as activities is told.
    Empty is as unset."""
    batch_loader_page_size: int = Field(default=500, ge=1, le=1000)
    """Contacts that one transaction turns into activities."""

    @field_validator("channels")
    @classmethod
    def _some(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        # A line with nothing behind its = is how people un-set a variable in a file of them.
        return channels or CHANNELS
