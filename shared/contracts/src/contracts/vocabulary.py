"""The words of the field, as types. Closed sets are enums; a channel is open, since anybody can add one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, NewType

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, Strict, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_plain_validator_function

ContactId = NewType("ContactId", str)
ActivityId = NewType("ActivityId", str)
BatchId = NewType("BatchId", str)
CampaignId = NewType("CampaignId", str)
SubjectId = NewType("SubjectId", str)
EndpointId = NewType("EndpointId", str)
PolicyId = NewType("PolicyId", str)
InteractionId = NewType("InteractionId", str)

FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime(9000, 1, 1, tzinfo=UTC)
"""Far enough from the edges of the calendar to add delays and see every zone's clock."""


def as_kept(told: datetime) -> datetime:
    """What the database gives back later, from the beginning: UTC, to the millisecond."""
    at = told.astimezone(UTC) if told.utcoffset() else told
    return to_millisecond(at) if at.microsecond % 1000 else at


# A type and a sentence of pydantic's errors each.
_NO_TIME = "no_time", "not an instant such as 2026-03-01T12:00:00Z"
_NO_DAY = "no_day", "not a day such as 2026-03-01"
_OUT_OF_BOUNDS = "out_of_bounds", "must be of 1970 or later and before 9000"


class _Written:
    """What is written out, or was read before. A number is no time, in quotes or not: who sends seconds may
    well have meant milliseconds. Pydantic takes a quoted one, and in strict JSON nobody looks before it."""

    def __get_pydantic_core_schema__(self, _type: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_plain_validator_function(_time)


def _time(told: object) -> datetime:
    at = instant_of(told) if isinstance(told, str) else told
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise PydanticCustomError(*_NO_TIME)
    if at.tzinfo is not UTC:  # nearly all are, and for those the year says enough, in a fraction of the time
        if not FIRST_TIME <= at < END_OF_TIME:
            raise PydanticCustomError(*_OUT_OF_BOUNDS)
        return as_kept(at)
    if not FIRST_TIME.year <= at.year < END_OF_TIME.year:
        raise PydanticCustomError(*_OUT_OF_BOUNDS)
    return to_millisecond(at) if at.microsecond % 1000 else at


def instant_of(told: str) -> datetime | None:
    """A written time, perhaps without a zone. What else ISO 8601 calls one (as weeks) is none."""
    # What stands between year, month, day, hour and minute.
    if told[4:14:3] not in ("--T:", "-- :", "--t:"):
        return None
    try:
        return datetime.fromisoformat(told.upper())
    except ValueError:
        return None


Time = Annotated[datetime, _Written(), WithJsonSchema({"type": "string", "format": "date-time"})]
"""An instant with an offset (RFC 3339), kept and published in UTC to the millisecond."""

_UNESCAPED = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)$")


def _with_its_plus(told: object) -> object:
    """A plus sign in a query that nobody escaped is a space."""
    return _UNESCAPED.sub(r"\1+\2", told) if isinstance(told, str) else told


AskedTime = Annotated[Time, BeforeValidator(_with_its_plus)]
"""A time as a query gives it."""

_is_day = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII).fullmatch


def _as_a_day(told: object) -> object:
    if type(told) is date or (isinstance(told, str) and _is_day(told)):
        return told
    raise PydanticCustomError(*_NO_DAY)


Day = Annotated[date, Field(ge=FIRST_TIME.date(), lt=END_OF_TIME.date()), BeforeValidator(_as_a_day)]
"""A day of somebody's calendar, between the same bounds, and written like one."""

Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
"""As JSON writes them, where a body was JSON once: "off" is no false, and "3" no three."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_OWN_ID = r"^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$"
OwnId = Annotated[str, StringConstraints(pattern=_OWN_ID)]
"""An id that was chosen elsewhere, and can be asked for as it is: nothing in it means something in a path."""

OWN_ID_RULE = "1 to 200 letters, digits and . _ : ~ -, the first a letter or a digit"
"""The same in words, for whoever gave another."""


NAMELESS = "unknown"
"""Who did what is not refused for the empty name it came under."""

_matches_own_id = re.compile(_OWN_ID[1:-1]).fullmatch


def is_own_id(told: str) -> bool:
    return _matches_own_id(told) is not None


Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
"""A short, unique, immutable name that people and files use: `no-answer`, `spring-renewals`."""

ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
CHANNEL_NAME_RULE = "at most 31 small letters, digits and hyphens, the first a letter"
E164 = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
Version = Annotated[int, Field(ge=1)]
"""Grows by one with every change of an aggregate; an older one never overwrites a newer."""


class PhoneType(StrEnum):
    CELL = "Cell"
    HOME = "Home"
    WORK = "Work"
    OFFICE = "Office"
    FAX = "Fax"
    OTHER = "Other"


class Lifecycle(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"


class PreferenceKind(StrEnum):
    DO_NOT_CALL = "do-not-call"
    DO_NOT_SMS = "do-not-sms"
    DO_NOT_EMAIL = "do-not-email"
    DO_NOT_CHAT = "do-not-chat"


class SubjectDirection(StrEnum):
    OUTBOUND = "outbound"
    INBOUND = "inbound"


class Picker(StrEnum):
    """Who may pick a disposition."""

    PERSON = "person"
    AGENT = "automated-agent"
    SYSTEM = "system"


class CampaignState(StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class ActivityKind(StrEnum):
    TASK = "task"
    CALL = "call"
    SMS = "sms"
    EMAIL = "email"
    MEETING = "meeting"


class Mode(StrEnum):
    """Who works an activity: a person, or a channel service."""

    MANUAL = "manual"
    AUTOMATED = "automated"


class Source(StrEnum):
    MANUAL = "manual"
    AUTOMATIC = "automatic"
    BATCH = "batch"
    WORKFLOW = "workflow"
    INBOUND = "inbound"
    CALLBACK = "callback"
    API = "api"


class Urgency(StrEnum):
    VERY_LOW = "very_low"
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    VERY_HIGH = "very_high"


URGENCY_RANK: dict[Urgency, int] = {urgency: rank for rank, urgency in enumerate(Urgency)}
"""Urgency sorts by meaning, not by spelling: 0 is very low, 4 is very high."""


class ActivityState(StrEnum):
    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    ASSIGNED = "assigned"
    DISPATCHED = "dispatched"
    IN_PROGRESS = "in_progress"
    AWAITING_REPLY = "awaiting_reply"
    OUTCOME_UNKNOWN = "outcome_unknown"
    """A side effect whose result nobody knows: rests until a callback, a look-up or a person decides."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PURGED = "purged"


FINAL_STATES = frozenset(
    {
        ActivityState.COMPLETED,
        ActivityState.FAILED,
        ActivityState.CANCELLED,
        ActivityState.EXPIRED,
        ActivityState.PURGED,
    }
)


class Direction(StrEnum):
    """incoming: the contact wrote or called us. outgoing: we wrote or called."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    ALLOW = "allow"
    DEFER = "defer"
    DENY = "deny"


class BatchState(StrEnum):
    DRAFT = "draft"
    LOADING = "loading"
    PAUSED = "paused"
    LOADED = "loaded"
    CANCELLED = "cancelled"
    FAILED = "failed"


def to_millisecond(moment: datetime) -> datetime:
    """MongoDB keeps milliseconds; a time that is finer would not equal itself after a round trip."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
