"""One import: how far it is, and what one row of it does to a contact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contacts.domain import consent
from contacts.domain.contact import (
    Contact,
    Details,
    Fault,
    Reason,
    created,
    type_faults,
    written,
)
from contacts.domain.contact_type import ContactType
from contacts.domain.import_columns import Column, Row, read_row
from contacts.domain.natural_key import NaturalKey, NoNaturalKey, natural_key
from contracts.contacts import OptOut, Phone
from contracts.message import copied, stable_id
from contracts.vocabulary import Code, PreferenceKind, Time
from servicekit.verdict import Write, following

Result = Literal["created", "updated", "unchanged"]


class ImportState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class Import(BaseModel):
    """rows = created + updated + unchanged + the sum of rejected, at every moment."""

    model_config = ConfigDict(frozen=True)

    import_id: str
    version: int
    name: str
    contact_type: Code
    default_region: str | None = None
    state: ImportState = ImportState.WAITING
    bucket: int
    """Which lease it is under."""
    delimiter: str = ","
    header: tuple[str, ...] = ()
    digest: str | None = None
    """Of the file and of what it was said to be; None of one that was taken before there were digests."""
    upload_id: str | None = None
    """Which of the uploads under this id it was made of; None if it was taken before they were told apart."""
    bytes: int = 0
    lines: int = 0
    """Of the file, the header included."""
    line: int = 0
    """Where the last row that is done began."""
    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: dict[Reason, int] = {}
    error: str | None = None
    received_at: Time
    finished_at: Time | None = None
    swept: bool = False
    """Whether the file itself and the keys seen in it were removed."""

    @property
    def imported(self) -> int:
        return self.created + self.updated + self.unchanged

    def advanced(self, outcomes: Sequence[Outcome], line: int) -> Import:
        """After these rows, of which the last begins at `line`."""
        results = Counter(outcome.result for outcome in outcomes if isinstance(outcome, Imported))
        rejected = Counter(self.rejected)
        rejected.update(outcome.fault.reason for outcome in outcomes if isinstance(outcome, Rejected))
        return self.evolved(
            state=ImportState.RUNNING,
            line=line,
            rows=self.rows + len(outcomes),
            created=self.created + results["created"],
            updated=self.updated + results["updated"],
            unchanged=self.unchanged + results["unchanged"],
            rejected=dict(rejected),
        )

    def evolved(self, **changes: Any) -> Import:
        return following(self, **changes)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that can be read: what it says, in written form."""

    line: int
    cells: tuple[str, ...]
    row: Row
    details: Details
    """Of the row alone; what the contact becomes depends on what is there."""
    key: NaturalKey
    """Gives it an id when no contact has its external id yet."""


@dataclass(frozen=True, slots=True)
class Rejected:
    line: int
    cells: tuple[str, ...]
    fault: Fault
    details: Details = field(default_factory=Details)
    """What could be read of it."""
    key: NaturalKey | None = None
    contact_id: str | None = None
    """Whose it is, so that an erasure finds it whatever became of the contact; None if nobody can tell."""

    @property
    def identifiers(self) -> tuple[str, ...]:
        """By these an erasure finds what has no contact, or another one."""
        return identifiers(self.details)

    def of(self, contact_id: str, standing: Contact | None) -> Rejected:
        """Told whose it is; of somebody who was erased line and reason are kept, and not whose they are."""
        if standing is not None and standing.erased_at is not None:
            return Rejected(self.line, (), self.fault)
        return replace(self, contact_id=contact_id)


@dataclass(frozen=True, slots=True)
class Imported:
    contact: Contact
    result: Result
    ledger: tuple[Write, ...] = ()
    standing: Contact | None = None
    """As it was before the row; None if there was none."""


Outcome = Imported | Rejected


def read(
    line: int, cells: tuple[str, ...], columns: Sequence[Column], type_: ContactType, region: str | None
) -> Candidate | Rejected:
    row = read_row(columns, cells, type_)
    details, faults = written(row.raw, region)
    if faults := [*row.faults, *faults]:
        return Rejected(line, cells, _first(row, faults), details, _key_if_any(type_, details))
    return Candidate(line, cells, row, details, natural_key(type_.code, details))


def _key_if_any(type_: ContactType, details: Details) -> NaturalKey | None:
    try:
        return natural_key(type_.code, details)
    except NoNaturalKey:
        return None


def _first(row: Row, faults: Sequence[Fault]) -> Fault:
    """Everything of the first reason, as one: a row is rejected for one reason."""
    reason = faults[0].reason
    same = (row.in_column(fault) for fault in faults if fault.reason is reason)
    return Fault(reason, "", "; ".join(map(str, same)))


def identifiers(details: Details) -> tuple[str, ...]:
    numbers = (phone.number for phone in details.phones)
    return tuple(filter(None, (*numbers, *details.emails, details.external_id)))


def rejected(candidate: Candidate, fault: Fault) -> Rejected:
    return Rejected(candidate.line, candidate.cells, fault, candidate.details, candidate.key)


def take(
    candidate: Candidate,
    contact_id: str,
    standing: Contact | None,
    type_: ContactType,
    import_id: str,
    now: datetime,
) -> Outcome:
    """What a row does. It adds and replaces, never clears, and only ever opts out."""
    if standing is not None and standing.erased_at is not None:
        return rejected(candidate, Fault(Reason.ERASED, "", "this contact was erased and stays so"))
    details = candidate.details if standing is None else _merged(standing.details(), candidate)
    if faults := type_faults(details, type_):
        return rejected(candidate, _first(candidate.row, faults))
    preferences = {} if standing is None else standing.preferences
    fresh = [kind for kind in candidate.row.opt_outs if kind not in preferences]
    if standing is not None and not fresh and details == standing.details():
        return Imported(standing, "unchanged")
    contact = created(contact_id, type_.code, details, now)
    if standing is not None:
        contact = copied(contact, {"version": standing.version + 1, "created_at": standing.created_at})
    requests = [_request(import_id, contact_id, kind, now) for kind in fresh]
    opted_out = {r.preference: OptOut(at=now, source=r.source, actor=r.actor) for r in requests}
    wishes = {} if standing is None else standing.newest_wishes
    contact = copied(
        contact,
        {
            "preferences": {**preferences, **opted_out},
            "newest_wishes": wishes | dict.fromkeys(opted_out, now),
        },
    )
    ledger = tuple(consent.row(contact, request, True, now) for request in requests)
    return Imported(contact, "created" if standing is None else "updated", ledger, standing)


def _merged(standing: Details, candidate: Candidate) -> Details:
    told = candidate.details
    texts = ("external_id", "first_name", "last_name", "organisation", "time_zone")
    return copied(
        standing,
        {
            **{name: getattr(told, name) or getattr(standing, name) for name in texts},
            "phones": _phones(standing.phones, told.phones),
            "emails": (*(e for e in told.emails if e not in standing.emails), *standing.emails),
            "fields": {**standing.fields, **told.fields},
        },
    )


def _phones(standing: tuple[Phone, ...], told: tuple[Phone, ...]) -> tuple[Phone, ...]:
    """A number that is new comes first; one that is there stays where it is and takes the type told."""
    types = {phone.number: phone for phone in told}
    known = {phone.number for phone in standing}
    new = [phone for phone in told if phone.number not in known]
    return (*new, *(types.get(phone.number, phone) for phone in standing))


def _request(import_id: str, contact_id: str, kind: PreferenceKind, now: datetime) -> consent.Request:
    return consent.Request(
        entry_id=stable_id("import-opt-out", import_id, contact_id, kind),
        preference=kind,
        opted_out=True,
        source="import",
        actor=f"import {import_id}",
        occurred_at=now,
    )
