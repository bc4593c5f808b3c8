"""The id that a contact gets by itself: it stays when the key that it was derived from is corrected, and
whoever comes with that key next is somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from contacts.domain.contact import Contact, Details
from contracts.message import stable_id

MOST_IDS = 10
"""Of one key: all of them are looked at."""

Kind = Literal["external id", "phone", "e-mail"]


class NoNaturalKey(ValueError):
    """There is nothing to derive an id from."""


class KeyUsedUp(ValueError):
    def __init__(self, kind: Kind) -> None:
        mend = "make it over REST, with a contact_id" if kind == "external id" else "give it an external id"
        super().__init__(f"{MOST_IDS} contacts were made with this {kind} and have another by now; {mend}")


@dataclass(frozen=True, slots=True)
class NaturalKey:
    contact_type: str
    kind: Kind
    text: str

    def own_id(self) -> str:
        return stable_id("contact", self.contact_type, self.text)

    def ids(self) -> tuple[str, ...]:
        """All that may be derived from it, in the order in which they are taken."""
        further = (stable_id("contact", self.contact_type, self.text, n) for n in range(1, MOST_IDS))
        return (self.own_id(), *further)

    def may_have(self, contact: Contact | None) -> bool:
        """Whether an id that this contact, or nobody, has is the one for this key."""
        return contact is None or (contact.erased_at is None and self._is_of(contact))

    def place(self, ids: Sequence[str], standing: Mapping[str, Contact | None]) -> str:
        """The id of the contact that has the key, else the first where nobody is or somebody was erased: an
        erased contact is passed over only for one that has the key. Raises KeyUsedUp.
        """
        erased: str | None = None
        for id_ in ids:
            contact = standing.get(id_)
            if contact is None:
                return erased or id_
            if self.may_have(contact):
                return id_
            if contact.erased_at is not None:
                erased = erased or id_
        if erased is None:
            raise KeyUsedUp(self.kind)
        return erased

    def _is_of(self, contact: Contact) -> bool:
        match self.kind:
            case "external id":
                return contact.external_id == self.text
            case "phone":
                return any(phone.number == self.text for phone in contact.phones)
            case "e-mail":
                return self.text in contact.emails
            case _:
                assert_never(self.kind)


def natural_key(contact_type: str, details: Details) -> NaturalKey:
    """What the same contact is known by: its external id, else its first phone, else its first e-mail."""
    if details.external_id:
        return NaturalKey(contact_type, "external id", details.external_id)
    if details.phones:
        return NaturalKey(contact_type, "phone", details.phones[0].number)
    if details.emails:
        return NaturalKey(contact_type, "e-mail", details.emails[0])
    raise NoNaturalKey("an external id, a phone or an e-mail is needed, or an id of its own")
