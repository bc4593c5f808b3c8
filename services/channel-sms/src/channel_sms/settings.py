"""The only reader of the environment."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from channel_sms.domain.fingerprints import Fingerprints
from servicekit.settings import Listed, ServiceSettings

_KEY = re.compile(r"[^\s,]{16,200}")
_NOBODY = "AC" + "0" * 32


class Settings(ServiceSettings):
    port: int = Field(default=8106, ge=0, le=65535)
    sms_provider: Literal["simulated", "twilio"] = "simulated"
    """Endpoints of another provider are refused: a simulation never writes to people, nor the reverse."""
    sms_provider_url: str = Field(
        default="http://127.0.0.1:8110",
        pattern=r"^https?://",
        validate_default=True,
        json_schema_extra={"rule": "an address such as https://api.twilio.com"},
    )
    """Where the provider's API is."""
    sms_account_sid: str = Field(
        default=_NOBODY,
        pattern=r"^AC[0-9a-f]{32}$",
        validate_default=True,
        json_schema_extra={"rule": "AC and 32 hexadecimal digits, as the provider's console shows it"},
    )
    """Our account at the provider, as its console shows it."""
    sms_auth_token: str = Field(default="simulated", min_length=1, repr=False)
    """Authenticates us at the provider, and verifies its webhooks."""
    sms_auth_token_other: str | None = Field(default=None, repr=False)
    """A second token that webhooks may be signed with, while tokens are rotated."""
    sms_public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]+(/.*[^/])?$",
        json_schema_extra={
            "rule": "an address such as https://parley.example.org, without a slash at its end"
        },
    )
    """Where the provider reaches this service, as it signs it; null means this process's own address."""
    sms_send_timeout_seconds: float = Field(default=10, gt=0, le=120)
    """How long the provider may take to answer; what it has not answered then is in doubt."""
    sms_concurrency: int = Field(default=200, ge=1, le=2000)
    """Texts, at the most, that a replica is sending at the same time."""
    sms_validity_seconds: int = Field(default=14_400, ge=60, le=36_000)
    """How long a text may be tried for, from when it was due."""
    sms_absence_proves_seconds: float | None = Field(default=None, gt=0)
    """How long after a claim look-ups that find nothing prove that nothing was sent, and never will be:
    longer than a send may take, and for `simulated` by at least ten, because it accepts a request within ten
    seconds or not at all. Null: by 12 for `simulated`, and never for `twilio`, which promises neither that
    nor a complete list."""
    sms_unknown_after_seconds: float = Field(default=300, gt=0)
    """When an unresolved send is reported as outcome unknown."""
    sms_redelivery_seconds: float = Field(default=30, ge=0, le=3600)
    """After a start, an outage of the database or a webhook that could not be stored: how long no
    conversation ends for want of a reply, so that the provider can bring again what nobody took."""
    sms_fingerprint_key: str = Field(default="", repr=False)
    """What numbers of erased people who opted out are hashed with; keep it as long as the database. Empty:
    they are hashed without a key, and who has the database can find them by trying all numbers."""
    sms_fingerprint_keys_other: Listed = Field(default=(), repr=False)
    """Further ones that something may be hashed with, with commas between them: those from before, because
    nobody knows the numbers any more, and one that other replicas use already."""
    sms_help_text: str = "Automated messages. Reply STOP to opt out, or HUMAN to talk to a person."
    """The answer to HELP and INFO."""
    sms_opt_out_text: str = "You are opted out and will get no more messages. Reply START to opt back in."
    """The one confirmation of an opt-out."""
    sms_opt_in_text: str = "You are opted back in. Reply STOP to opt out."
    """The answer to whoever opts in again."""

    @field_validator("sms_fingerprint_key")
    @classmethod
    def _a_key(cls, key: str) -> str:
        if key and not _KEY.fullmatch(key):
            raise PydanticCustomError("key", "a key has 16 to 200 characters, no space or comma among them")
        return key

    @field_validator("sms_fingerprint_keys_other")
    @classmethod
    def _keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            cls._a_key(key or " ")
        return keys

    @field_validator("sms_absence_proves_seconds")
    @classmethod
    def _longer_than_a_send(cls, seconds: float | None, given: ValidationInfo) -> float | None:
        timeout = given.data.get("sms_send_timeout_seconds")
        if seconds is not None and timeout is not None and seconds <= timeout:
            rule = f"must be more than PARLEY_SMS_SEND_TIMEOUT_SECONDS ({timeout:g}): a send may take as long"
            raise PydanticCustomError("absence", "{rule}", {"rule": rule})
        return seconds

    @field_validator("sms_provider_url")
    @classmethod
    def _no_simulation_in_its_place(cls, url: str, given: ValidationInfo) -> str:
        if given.data.get("sms_provider") == "twilio" and not url.startswith("https://"):
            raise PydanticCustomError("twilio", "twilio is at https://api.twilio.com")
        return url

    @field_validator("sms_account_sid")
    @classmethod
    def _an_account(cls, sid: str, given: ValidationInfo) -> str:
        if given.data.get("sms_provider") == "twilio" and sid == _NOBODY:
            raise PydanticCustomError("twilio", "twilio needs your account, and its PARLEY_SMS_AUTH_TOKEN")
        return sid

    @property
    def fingerprints(self) -> Fingerprints:
        return Fingerprints(self.sms_fingerprint_key, self.sms_fingerprint_keys_other)

    @property
    def absence_proves_after(self) -> float | None:
        if self.sms_absence_proves_seconds is None:
            return self.sms_send_timeout_seconds + 12 if self.sms_provider == "simulated" else None
        return self.sms_absence_proves_seconds

    @property
    def orphaned_after(self) -> float:
        """Seconds after which a claim without a result has lost its owner for sure."""
        return self.sms_send_timeout_seconds * 2 + self.lease_seconds
