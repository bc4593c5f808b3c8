"""What the environment may say to this service."""

from pydantic import Field

from servicekit.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(default=8101, ge=0, le=65535)
    contacts_import_max_mb: int = Field(default=512, ge=1, le=10_240)
    """The largest file that is taken, in MiB."""
    contacts_import_batch: int = Field(default=500, ge=1, le=500)
    """Rows that are decided and written in one transaction."""
    contacts_rejects_days: int = Field(default=30, ge=1, le=3650)
    """How long the rejected rows of an import can be fetched."""
