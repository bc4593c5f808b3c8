"""What the workflow reads from its environment."""

from pydantic import Field

from servicekit.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(default=8105, ge=0, le=65535)
