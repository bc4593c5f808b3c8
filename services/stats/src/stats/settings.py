"""Settings of the statistics service; environment variables are `PARLEY_<FIELD>`."""

from __future__ import annotations

from pydantic import Field, field_validator

from servicekit.settings import Names, ServiceSettings
from stats.direction_provider import choose, installed
from stats.direction_providers import SHIPPED


class Settings(ServiceSettings):
    port: int = Field(default=8107, ge=0, le=65535)
    stats_interaction_types: Names = ("call", "email", "sms", "meeting")
    """Types that must have a direction provider; without one the service does not start."""
    stats_target_types: Names = ("contact", "account", "lead")
    """Types of target that are counted unless somebody sets it otherwise."""
    stats_excluded_target_types: Names = ("user", "activity")
    """Types of target that are never counted: links to them are not kept."""
    stats_batch_size: int = Field(default=2000, ge=1, le=10_000)
    """Interactions in one transaction."""
    stats_consumers: int = Field(default=2, ge=1, le=12)
    """Consumers of interactions in this process: while one waits for the database the other one decides."""
    stats_announce_every: float = Field(default=0.1, gt=0, le=60)
    """Seconds: a target that changes all the time is announced at most this often."""

    stats_settle_every: float = Field(default=1.0, gt=0, le=3600)
    """Seconds between two walks over attempts that wait for a time, a contact or an enabling."""

    @field_validator("stats_excluded_target_types")
    @classmethod
    def _leaves_contacts(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if "contact" in types:
            raise ValueError("contacts are what is counted; they cannot be excluded")
        return types

    @field_validator("stats_interaction_types")
    @classmethod
    def _have_providers(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        missing = set(types) - choose([*SHIPPED, *installed()]).keys()
        if missing:
            raise ValueError(
                f"no installed package has a direction provider for {', '.join(sorted(missing))}"
            )
        return types
