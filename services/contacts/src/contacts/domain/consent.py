"""Preferences, and the append-only ledger of every change that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from contacts.domain.contact import Contact
from contracts.contacts import OptOut
from contracts.vocabulary import PreferenceKind
from servicekit.verdict import Become, Write

LEDGER = "consent_ledger"
_CLOCKS_DIFFER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants to be left alone, or no longer; `entry_id` is the same for a repeat."""

    entry_id: str
    preference: PreferenceKind
    opted_out: bool
    source: str
    actor: str
    occurred_at: datetime


def with_preference(contact: Contact, request: Request, now: datetime) -> Become[Contact]:
    """The first opt-out stands until an opt-in that is not older; every request is a row of the ledger.

    One from the future counts as of now: nobody could come back before an opt-out of the year 2999.

    The version grows even when nothing else does: it is what orders the rows and keeps an erasure from
    missing one.
    """
    at = now if request.occurred_at > now + _CLOCKS_DIFFER else request.occurred_at
    applied = _applies(contact.preferences.get(request.preference), request.opted_out, at)
    preferences = dict(contact.preferences)
    if applied and request.opted_out:
        preferences[request.preference] = OptOut(at=at, source=request.source, actor=request.actor)
    elif applied:
        del preferences[request.preference]
    changed = contact.model_copy(
        update={"preferences": preferences, "version": contact.version + 1, "changed_at": now}
    )
    return Become(changed, (changed.announced(),), (row(changed, request, applied, now),))


def _applies(standing: OptOut | None, opted_out: bool, at: datetime) -> bool:
    if opted_out:
        return standing is None
    return standing is not None and at >= standing.at


def row(contact: Contact, request: Request, applied: bool, now: datetime) -> Write:
    """Inserts, or conflicts when the entry is there already."""
    return Write(
        LEDGER,
        {"_id": request.entry_id, "contact_id": {"$exists": False}},
        {
            "$setOnInsert": {
                "contact_id": contact.contact_id,
                "version": contact.version,
                "preference": request.preference,
                "opted_out": request.opted_out,
                "applied": applied,
                "source": request.source,
                "actor": request.actor,
                "occurred_at": request.occurred_at,
                "recorded_at": now,
            }
        },
        upsert=True,
    )


def without_actor(entry_id: str) -> Write:
    """What an erasure leaves of a row: that it happened, not who did it."""
    return Write(LEDGER, {"_id": entry_id}, {"$set": {"actor": "erased"}})
