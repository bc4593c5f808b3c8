"""What the carrier reads from its environment: `CARRIER_<FIELD>`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from carrier.behaviour import Behaviour


class BadSettings(ValueError):
    """One sentence a person can act on."""


class Settings(BaseSettings, Behaviour):
    model_config = SettingsConfigDict(env_prefix="CARRIER_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8110, ge=0, le=65535)
    """0 picks a free one."""
    journal: Path = Path("carrier.jsonl")
    account_sid: str = Field(default="AC" + "0" * 32, pattern=r"^AC[0-9a-f]{32}$")
    auth_token: str = Field(default="simulated", min_length=1, repr=False)
    inbound_url: str = "http://127.0.0.1:8106/v1/webhooks/sms/inbound"
    """Where a customer's number delivers what people write to it."""
    clock_file: Path | None = None
    webhook_connections: int = Field(default=32, ge=1, le=1000)

    @classmethod
    def from_environment(cls) -> Self:
        known = {f"CARRIER_{name.upper()}" for name in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith("CARRIER_") and name not in known)
        if unknown:
            raise BadSettings(f"unknown setting {unknown[0]}; the carrier knows {', '.join(sorted(known))}")
        try:
            return cls()
        except ValidationError as wrong:
            first = wrong.errors(include_url=False)[0]
            name = str(first["loc"][0])
            field = cls.model_fields.get(name)
            value = f"={first['input']!r}" if field is not None and field.repr else ""
            # Without its cause, which would show a secret.
            raise BadSettings(f"CARRIER_{name.upper()}{value}: {first['msg']}") from None

    def behaviour(self) -> Behaviour:
        return Behaviour.model_validate(self.model_dump(include=set(Behaviour.model_fields)))
