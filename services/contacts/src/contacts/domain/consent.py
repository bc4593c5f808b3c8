"""Preferences, and the append-only ledger of every change that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from contacts.domain.contact import Contact
from contracts.channels import PREFERENCE_OF_CHANNEL
from contracts.contacts import OptOut
from contracts.vocabulary import NAMELESS, PreferenceKind
from servicekit.verdict import Become, Write, following

LEDGER = "consent_ledger"
_CLOCKS_DIFFER = timedelta(seconds=5)
"""More is told to an operator."""
_SOURCES = {"api", "import", "workflow", NAMELESS, *PREFERENCE_OF_CHANNEL}
"""Those that Parley says itself."""


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
    """The newest wish holds, in whatever order they arrive (by the clocks of those who took them), and a
    standing opt-out keeps the time of its first; every request is a row of the ledger. Of two of one moment
    the one that arrives later is newer.

    One from the future counts as of now, or nothing that anybody wishes until then would count.

    The version grows even when nothing else does: it is what orders the rows and keeps an erasure from
    missing one.
    """
    at = min(request.occurred_at, now)
    kind = request.preference
    standing = contact.preferences.get(kind)
    # A release that does not know of newest wishes may have opted somebody out since.
    known = (contact.newest_wishes.get(kind), standing.at if standing else None)
    is_newest = not any(
        noted is not None and _comes_too_late(at, request.opted_out, noted, now) for noted in known
    )
    applied = is_newest and request.opted_out is not bool(standing)
    preferences = dict(contact.preferences)
    if applied and request.opted_out:
        preferences[kind] = OptOut(at=at, source=request.source, actor=request.actor)
    elif applied:
        del preferences[kind]
    changed = following(
        contact,
        preferences=preferences,
        newest_wishes=contact.newest_wishes | ({kind: at} if is_newest else {}),
        changed_at=now,
    )
    return Become(changed, (changed.announced(),), (row(changed, request, applied, now),))


def _comes_too_late(at: datetime, opted_out: bool, noted: datetime, now: datetime) -> bool:
    """noted: when a wish was made that counted. Another clock may have put it ahead of ours; then it says
    little about the order. A no counts against it, and a yes unless clocks may just differ by that much."""
    if noted <= now:
        return at < noted
    return not opted_out and at < now and noted - now <= _CLOCKS_DIFFER


def row(contact: Contact, request: Request, applied: bool, now: datetime) -> Write:
    """Conflicts when the entry is there already."""
    return Write.new(
        LEDGER,
        request.entry_id,
        contact_id=contact.contact_id,
        version=contact.version,
        preference=request.preference,
        opted_out=request.opted_out,
        applied=applied,
        source=request.source,
        actor=request.actor,
        occurred_at=request.occurred_at,
        recorded_at=now,
    )


def without_actor(entry_id: str, source: str) -> Write:
    """What an erasure leaves of a row: that it happened, not who did it, nor where in somebody's own words,
    for names and numbers may stand in them."""
    kept = source if source in _SOURCES else "erased"
    return Write.setting(LEDGER, entry_id, actor="erased", source=kept)
