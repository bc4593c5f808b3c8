"""What the environment may say to this service."""

from pydantic import Field

from servicekit.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(default=8102, ge=0, le=65535)
