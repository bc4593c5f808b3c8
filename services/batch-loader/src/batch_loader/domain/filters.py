"""Whom a batch finds."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from batch_loader.domain.copies import Copy
from contracts.vocabulary import Code, Flag, Identifier, Number, Time, Whole

_PUNCTUATION = re.compile(r"[\s().\-/]")
_NUMBER_OR_PART = re.compile(r"^\+?[0-9]{1,20}$")
_MOST_ALTERNATIVES = 1000


def _without_punctuation(text: str) -> str:
    number = _PUNCTUATION.sub("", text)
    if not _NUMBER_OR_PART.match(number):
        raise ValueError("write digits, with a leading + for an international number")
    return number


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA time zone; write for example America/New_York")
    return name


ZoneName = Annotated[str, AfterValidator(_known_zone)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
FieldValue = (
    Annotated[str, StringConstraints(max_length=10_000)]
    | Annotated[Whole, Field(ge=-(2**63), lt=2**63)]
    | Annotated[Number, Field(allow_inf_nan=False)]
    | Flag
    | None
)


class PhoneMatch(BaseModel):
    """Any number of the contact counts. With a leading + the value is compared with E.164, else with the
    national digits (with or without the trunk prefix)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: Literal["exact", "begins", "ends", "contains"]
    value: Annotated[str, StringConstraints(max_length=40), AfterValidator(_without_punctuation)]


class Filters(BaseModel):
    """All that are given must hold. `include_opted_out` and `limit` shape the load rather than the search."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    contact_type: Code | None = None
    created_from: Time | None = None
    """Inside the range."""
    created_before: Time | None = None
    """Outside the range."""
    published_only: Flag = True
    phone: PhoneMatch | None = None
    time_zones: tuple[ZoneName | None, ...] = Field(default=(), max_length=_MOST_ALTERNATIVES)
    """Any of these, under whichever of its names; null is a contact whose zone is unknown."""
    fields: dict[FieldName, FieldValue | tuple[FieldValue, ...]] = Field(default_factory=dict, max_length=50)
    """Custom field -> the value it equals, or a list of which it equals any. A field that holds a list
    matches with any of its elements."""
    last_subjects: tuple[Identifier, ...] = Field(default=(), max_length=_MOST_ALTERNATIVES)
    """The contact's last completed activity was of any of these subjects (codes or ids)."""
    last_dispositions: tuple[Code, ...] = Field(default=(), max_length=_MOST_ALTERNATIVES)
    """The contact's last completed activity ended with any of these dispositions."""
    never_contacted: Flag = False
    not_contacted_in_days: Whole | None = Field(default=None, ge=1, le=36_500)
    """No contact in either direction for that many times 24 hours; never contacted counts."""
    attempts_below: Whole | None = Field(default=None, ge=1, le=1_000_000)
    """Fewer outgoing contacts than this."""
    include_opted_out: Flag = False
    """Load also contacts that do not want the batch's channel; the policy gate still has its say."""
    limit: Whole | None = Field(default=None, ge=1, le=1_000_000_000)
    """At most this many contacts are selected, the first in id order."""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.created_from and self.created_before and self.created_from >= self.created_before:
            raise ValueError("created_from must be before created_before")
        return self

    @property
    def copies(self) -> frozenset[Copy]:
        """Those that decide whom these find."""
        found: set[Copy] = {"contacts"}
        if self.never_contacted or self.not_contacted_in_days is not None or self.attempts_below is not None:
            found.add("statistics")
        if self.last_subjects or self.last_dispositions:
            found.add("activities")
        return frozenset(found)

    def capped(self, found: int) -> int:
        return found if self.limit is None else min(found, self.limit)
