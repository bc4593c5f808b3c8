"""What the use cases refuse, as problem documents."""

from __future__ import annotations

from contacts.domain.contact import InvalidContact
from contacts.domain.contact_type import BadContactType
from contacts.domain.import_columns import UnusableFile
from contacts.domain.natural_key import KeyUsedUp, NoNaturalKey
from contacts.use_cases.change_contacts import (
    ContactErased,
    ContactExists,
    ExternalIdTaken,
    PreferenceDoesNotApply,
    UnknownContactType,
)
from contacts.use_cases.define_contact_type import ContactTypeExists
from contacts.use_cases.receive_import import AnotherFile, UnknownRegion
from servicekit.problems import Problem


def problem_of(refusal: Exception) -> Problem | None:
    told = str(refusal)
    match refusal:
        case InvalidContact(faults=faults):
            errors = [{"where": fault.where, "reason": fault.reason, "what": fault.what} for fault in faults]
            return Problem(422, "invalid-contact", "The contact is not valid", told, errors=errors)
        case NoNaturalKey():
            return Problem(422, "no-natural-key", "The contact has no key", told)
        case KeyUsedUp():
            return Problem(409, "key-used-up", "This key was passed on too often", told)
        case ContactExists(contact_id=id_):
            return Problem(409, "contact-exists", "This contact exists", told, contact_id=id_)
        case ContactErased():
            gone = "Nothing is kept of it, and it cannot come back."
            return Problem(410, "erased", "The contact was erased", gone)
        case ExternalIdTaken(owner=owner):
            title = "Another contact has this external id"
            return Problem(409, "external-id-taken", title, told, contact_id=owner)
        case PreferenceDoesNotApply():
            return Problem(422, "preference-does-not-apply", "This preference does not apply", told)
        case UnknownContactType():
            return Problem(422, "unknown-contact-type", "No such contact type", told)
        case ContactTypeExists():
            return Problem(409, "contact-type-exists", "This contact type exists", told)
        case BadContactType():
            return Problem(422, "bad-contact-type", "The contact type cannot be used", told)
        case AnotherFile():
            reused = "Another file was sent with it."
            return Problem(422, "idempotency-key-reused", "Idempotency-Key was used before", reused)
        case UnknownRegion():
            return Problem(422, "unknown-region", "No such region", told)
        case UnusableFile():
            return Problem(422, "unusable-file", "The file cannot be imported", told)
    return None
