"""What a decision may answer. Pure data: a domain may return these."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel

from contracts.message import Message, copied


class Versioned(Protocol):
    """The state of an aggregate: immutable, with a version that grows by one with every change."""

    @property
    def version(self) -> int: ...


M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", bound=Versioned)
S_co = TypeVar("S_co", bound=Versioned, covariant=True)


def following(state: M, /, **changes: Any) -> M:
    """The next version of a state, with these fields changed. Raises TypeError for one that it has not."""
    version: int = state.version  # type: ignore[attr-defined]
    return copied(state, {"version": version + 1} | changes)


@dataclass(frozen=True, slots=True)
class Write:
    """One more write that belongs to the same transaction, with its condition inside it.

    With `must_match`, a filter that matches nothing (and inserts nothing) undoes the whole decision,
    which is then made again from fresh state. A domain says what it means with one of the constructors;
    filters and updates are the database's words.
    """

    collection: str
    filter: Mapping[str, Any]
    update: Mapping[str, Any]
    upsert: bool = False
    must_match: bool = True

    @classmethod
    def new(cls, collection: str, id_: str, /, **fields: Any) -> Self:
        """A document with these fields, of which there is at least one; a conflict if its id is taken."""
        # Who is there has the first of them, is not matched, and collides with what is inserted instead.
        free = {"_id": id_, next(iter(fields)): {"$exists": False}}
        return cls(collection, free, {"$setOnInsert": fields}, upsert=True)

    @classmethod
    def once(cls, collection: str, id_: str, /, **fields: Any) -> Self:
        """A document with these fields; one that is there already stays as it is."""
        return cls(collection, {"_id": id_}, {"$setOnInsert": fields}, upsert=True)

    @classmethod
    def setting(cls, collection: str, id_: str, /, **fields: Any) -> Self:
        """These fields of a document that is there; a conflict if none is."""
        return cls(collection, {"_id": id_}, {"$set": fields})

    @classmethod
    def joining(cls, collection: str, id_: str, members: str, one: str) -> Self:
        """One more of the members of a document, which its first makes. Who joins twice is there once."""
        return cls(collection, {"_id": id_}, {"$addToSet": {members: one}}, upsert=True)

    @classmethod
    def joining_empty(cls, collection: str, id_: str, members: str, one: str) -> Self:
        """The same, if there are no members; else a conflict."""
        # One with members is not matched, and collides with what is inserted instead.
        empty = {"_id": id_, members: {"$size": 0}}
        return cls(collection, empty, {"$push": {members: one}}, upsert=True)

    @classmethod
    def leaving(cls, collection: str, id_: str, members: str, one: str) -> Self:
        """One less of the members, if it is one of them."""
        return cls(collection, {"_id": id_}, {"$pull": {members: one}}, must_match=False)


@dataclass(frozen=True, slots=True)
class Become(Generic[S_co]):
    """The aggregate changes, and these messages say so; both happen, or neither."""

    state: S_co
    messages: tuple[Message, ...] = ()
    also: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing to do: a repeat, an older version, or a fact that does not matter here."""

    reason: str = "repeat"
    also: tuple[Write, ...] = ()
    """What remembers it, such as the id of a command that changed nothing."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Not now: something this needs has not arrived. `after` is in seconds."""

    reason: str
    after: float = 0.2
    patient: bool = False
    """It does not count as a try: nothing is wrong with the message, and the wait surely ends."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Never: the message itself is at fault. It goes to the dead letters with this reason, and a sentence
    that says what is wrong and what would be right."""

    reason: str
    detail: str = ""

    @classmethod
    def of_bug(cls, error: BaseException) -> GiveUp:
        """A fault of ours: its name is the reason, and the detail its words and where it happened."""
        trace = "".join(traceback.format_exception(error, limit=20))
        return cls(f"bug: {type(error).__name__}", f"{str(error)[:500]}\n{trace}")


Verdict = Become[S] | Unchanged | TryAgain | GiveUp
Outcome = Unchanged | TryAgain | GiveUp | None
"""What became of one delivery; None means done."""
