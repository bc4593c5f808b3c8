"""What every service reads from its environment; a service adds its own fields in its settings.py."""

from __future__ import annotations

import json
import os
import re
import socket
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pymongo.errors import ConfigurationError
from pymongo.uri_parser import parse_uri

T = TypeVar("T")

_NOT_OURS = ("PARLEY_TEST_", "PARLEY_CLI_")
_WITHOUT_A_LOGIN = re.compile(r"[^@%:#$\s]*(:(//|\d{1,5}(?=[,/?]|$))[^@%:#$\s]*)*")
_PORT = r"0*(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
_BROKER = rf"[^\s,:/]+:{_PORT}"
_BROKERS = rf"^{_BROKER}(,{_BROKER})*$"
_BROKERS_RULE = "brokers as HOST:PORT, with commas between them, and no port beyond 65535"
_HOST = r"(?:\[[\da-fA-F:.]+\]|[^\s/@?,:\[\]%#!]+)(?::\d{1,5})?"
_RIGHTLY_WRITTEN = re.compile(
    rf"(mongodb(?:\+srv)?://)([^/@?]*@)?({_HOST}(?:,{_HOST})*(?:/[^?@%#:$\s]*)?(?:\?[^@%#]*)?)"
)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NAMES_RULE = (
    "names with commas between them, such as call,e-mail: each begins with a small letter, and has at most 64"
    " small letters, digits, hyphens and underscores"
)
_SECRET_OPTION = re.compile(r"(?i)((?:password|passphrase|authMechanismProperties)\s*=)[^&]*")
MONGO_URL_RULE = (
    "it is an address such as mongodb://USER:PASSWORD@HOST:27017/?replicaSet=rs0, and what is neither a"
    " letter nor a digit in a password is escaped, as %2F for a slash"
)


class BadSettings(ValueError):
    """The environment cannot be used; the message is one sentence a person can act on."""


def _parts(told: object) -> object:
    """What stands between commas. A list in JSON is read as well: deployments may have written one."""
    if not isinstance(told, str):
        return told
    if told.startswith("["):
        # What is nested too deep to be read is no list of ours either.
        with suppress(ValueError, RecursionError):
            parts = json.loads(told)
            if all(isinstance(part, str) for part in parts):
                return tuple(parts)
    return tuple(told.split(",")) if told else ()


def _words(told: object) -> object:
    """The same for what has no blanks at its ends: people write one behind a comma."""
    parts = _parts(told.strip() if isinstance(told, str) else told)
    return tuple(part.strip() for part in parts) if isinstance(parts, tuple) else parts


def _are_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_NAME.fullmatch(name) for name in names):
        raise PydanticCustomError("names", _NAMES_RULE)
    return names


Listed = Annotated[tuple[str, ...], BeforeValidator(_parts)]
"""How a variable has more than one value: with commas between them, in every service."""
Words = Annotated[tuple[T, ...], BeforeValidator(_words)]
"""The same of words that have a form of their own, which the `rule` of the field says."""
Names = Annotated[Words[str], AfterValidator(_are_names)]


class ServiceSettings(BaseSettings):
    """Environment variables are `PARLEY_<FIELD>`, but for the two addresses that everybody names the same."""

    model_config = SettingsConfigDict(
        env_prefix="PARLEY_",
        populate_by_name=True,
        use_attribute_docstrings=True,
        # Else what is more than one value has to be JSON, and what is none is told of by the library.
        enable_decoding=False,
    )

    kafka_bootstrap_servers: str = Field(
        default="127.0.0.1:9092",
        pattern=_BROKERS,
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        json_schema_extra={"rule": _BROKERS_RULE},
    )
    """Brokers to begin with, as HOST:PORT with commas between them."""
    mongo_url: str = Field(
        default="mongodb://127.0.0.1:27017/?replicaSet=rs0",
        pattern=r"^mongodb(\+srv)?://",
        validation_alias="MONGO_URL",
        json_schema_extra={"rule": MONGO_URL_RULE},
    )
    """A replica set; user and password belong into it, and are shown nowhere."""
    kafka_compression: Literal["none", "gzip"] = "none"
    """Of what is published. gzip, which every client reads, costs time and saves the broker memory."""
    kafka_isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    """Whether records of a transaction that its producer took back are passed over. Apache Kafka says which
    those are; a broker that cannot, such as the embedded one, has others passed over as well."""
    namespace: str = Field(
        default="",
        pattern=r"^[a-z0-9-]{0,40}$",
        json_schema_extra={"rule": "at most 40 small letters, digits and hyphens"},
    )
    """Prefix of every topic, group and database, so that several deployments can share a cluster."""
    instance: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,80}$",
        json_schema_extra={
            "rule": "1 to 80 letters, digits, dots, hyphens and underscores",
            "default": "the host's name",
        },
    )
    """Unique per replica, the same after a restart: names this process in consumer groups and leases."""
    host: str = "127.0.0.1"
    """The address to listen on; whoever reaches it may do everything."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; each service has one of its own. 0 picks a free one."""
    mongo_driver: Literal["motor", "pymongo"] = "motor"
    """The client library of MongoDB: Motor, or the one that PyMongo has since."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is for people on a terminal and JSON anywhere else."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    clock_file: Path | None = None
    """A file that drives the clock of all processes that name it; for tests and demonstrations."""
    failpoints: str = ""
    """For tests: places at which this process is killed, stopped or made to fail."""
    failpoint_journal: Path | None = None
    """For tests: where those that were reached are written down."""
    drain_seconds: float = Field(default=20, gt=0, le=300)
    """How long what is in hand may take to its end once the process is told to stop."""
    batch_size: int = Field(default=500, ge=1, le=5000)
    """Messages, at the most, that a subscriber takes at once."""
    unhurried_ms: int = Field(default=200, ge=0, le=5000)
    """How often, at the most, subscribers that nobody waits for begin a batch: counters, projections."""
    outbox_batch: int = Field(default=1000, ge=1, le=5000)
    """Rows, at the most, that the relay reads from the outbox and publishes at once."""
    lease_seconds: float = Field(default=10, ge=1, le=300)
    """How long the work of a replica that has died waits until another takes it."""

    @field_validator("mongo_url")
    @classmethod
    def _a_url(cls, url: str) -> str:
        # That of +srv is asked for by name when a client is made.
        if url.startswith("mongodb://"):
            try:
                with warnings.catch_warnings(action="ignore"):
                    parse_uri(url, warn=True)
            except OSError as wrong:  # a certificate that it names is not there
                raise PydanticCustomError("url", "{why}", {"why": str(wrong)}) from None
            except (ValueError, ConfigurationError):
                # Neither the fault nor the warnings, which may name a part of the password.
                raise PydanticCustomError("url", MONGO_URL_RULE) from None
        return url

    @classmethod
    def from_environment(cls) -> Self:
        """Raises BadSettings: a wrong value, or a PARLEY_ variable that this service does not know."""
        known = {f"PARLEY_{name.upper()}" for name in cls.model_fields}
        unknown = sorted(
            name
            for name in os.environ
            if name.startswith("PARLEY_") and name not in known and not name.startswith(_NOT_OURS)
        )
        if unknown:
            raise BadSettings(f"unknown setting {unknown[0]}; this service knows {', '.join(sorted(known))}")
        try:
            return cls()
        except ValidationError as wrong:
            first = wrong.errors(include_url=False)[0]
            name = str(first["loc"][0])
            variable = name if name.isupper() else f"PARLEY_{name.upper()}"
            field = cls.model_fields.get(name.lower())
            secret = field is not None and not field.repr
            told = str(first["input"])
            if len(first["loc"]) > 1:  # a word of a list, which is shown as it was written
                told = os.environ.get(variable, told)
            listed = field is not None and get_origin(field.annotation) is tuple
            listed = listed or variable == "KAFKA_BOOTSTRAP_SERVERS"
            shown = _list_shown(told) if listed else without_login(told)
            value = "" if secret else f"={shown!r}"
            said = str(first["msg"]).removeprefix("Value error, ")
            if first["type"] == "string_pattern_mismatch":
                said = _rule_of(field) or said
            # Without its cause, which would show the value.
            raise BadSettings(f"{variable}{value}: {said}") from None

    def database(self, service: str) -> str:
        return "-".join(filter(None, (self.namespace, "parley", service)))

    def prefixed(self, topic_or_group: str) -> str:
        return f"{self.namespace}.{topic_or_group}" if self.namespace else topic_or_group


def _rule_of(field: FieldInfo | None) -> str | None:
    """What a field's pattern says, in words."""
    extra = field.json_schema_extra if field is not None else None
    return str(extra["rule"]) if isinstance(extra, dict) and "rule" in extra else None


def brokers_named() -> str:
    """Those that the environment names, for who has no other settings; else nothing. Raises BadSettings."""
    told = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if told and not re.fullmatch(_BROKERS, told):
        raise BadSettings(f"KAFKA_BOOTSTRAP_SERVERS={_list_shown(told)!r}: {_BROKERS_RULE}")
    return told


def _list_shown(told: str) -> str:
    """A list of brokers or names has no login, and what is wrong with it would be hidden."""
    return without_login(told) if "@" in told else told


def without_login(address: str) -> str:
    """An address, however wrong, without what may be a user and a password in it."""
    address = _SECRET_OPTION.sub(r"\1***", address)
    if rightly := _RIGHTLY_WRITTEN.fullmatch(address):
        return f"{rightly[1]}***@{rightly[3]}" if rightly[2] else address
    if _WITHOUT_A_LOGIN.fullmatch(address):
        return address
    return f"***@{address.rpartition('@')[2]}" if "@" in address else "***"
