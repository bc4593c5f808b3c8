"""What this service reads from its environment."""

from pydantic import Field

from contracts.catalogue import CHANNELS
from servicekit.settings import Names, ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(default=8103, ge=0, le=65535)
    channels: Names = CHANNELS
    """Channels that automatic batches may use: those with a dispatch topic, as activities is told."""
    batch_loader_page_size: int = Field(default=500, ge=1, le=1000)
    """Contacts that one transaction turns into activities."""
