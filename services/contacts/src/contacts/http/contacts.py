from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from contacts.adapters.mongo_contacts import MongoContacts, MongoLedger
from contacts.domain.consent import Request
from contacts.domain.phone import BadPhone, to_e164
from contacts.http.refusals import problem_of
from contacts.use_cases.change_contacts import (
    CreateContact,
    EraseContact,
    ReviseContact,
    SetContactPreference,
    standing,
)
from contracts.contacts import ContactChanged
from contracts.vocabulary import (
    Code,
    Flag,
    Identifier,
    Lifecycle,
    OwnId,
    PhoneType,
    PreferenceKind,
    Time,
    to_millisecond,
)
from servicekit.pages import (
    MADE,
    TAGGED,
    Cursor,
    IdCursor,
    IfMatch,
    Limit,
    Page,
    cursor_of,
    etag,
    page_by_id,
    page_of,
    parts_of,
    text,
    version_of,
    whole,
)
from servicekit.problems import Problem, answered_by
from servicekit.refusals import NotFound

Name = Annotated[str, StringConstraints(max_length=200)]
Told = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class WrittenPhone(Body):
    number: Annotated[str, StringConstraints(max_length=40)]
    """With + and country code; spaces and punctuation are taken out."""
    type: PhoneType = PhoneType.CELL


class ContactPatch(Body):
    """What is left out stays; null clears; custom fields merge one by one."""

    lifecycle: Lifecycle = Lifecycle.PUBLISHED
    external_id: Name | None = None
    first_name: Name | None = None
    last_name: Name | None = None
    organisation: Name | None = None
    phones: list[WrittenPhone] | None = None
    emails: list[Name] | None = None
    time_zone: Name | None = None
    """IANA name."""
    fields: dict[str, Any] | None = None

    def raw(self) -> dict[str, Any]:
        told = {
            name: getattr(self, name) for name in self.model_fields_set & ContactPatch.model_fields.keys()
        }
        if self.phones is not None:
            told["phones"] = [(phone.number, phone.type) for phone in self.phones]
        return told


class NewContact(ContactPatch):
    contact_id: OwnId | None = None
    """Its own id; else one is derived from the external id, the first phone or the first e-mail."""
    contact_type: Code


class Preference(Body):
    opted_out: Flag
    source: Told = "api"
    actor: Told
    occurred_at: Time | None = None
    command_id: Identifier | None = None
    """The same one again is no change."""

    def request(self, kind: PreferenceKind, now: datetime) -> Request:
        return Request(
            entry_id=self.command_id or str(uuid4()),
            preference=kind,
            opted_out=self.opted_out,
            source=self.source,
            actor=self.actor,
            occurred_at=to_millisecond(self.occurred_at or now),
        )


class ConsentEntry(BaseModel):
    entry_id: str
    preference: PreferenceKind
    opted_out: bool
    applied: bool
    """False when it changed nothing: it stood so already, or a newer wish was known."""
    source: str
    actor: str
    occurred_at: Time
    recorded_at: Time
    version: int
    """Of the contact, after it."""


def routes(
    contacts: MongoContacts,
    ledger: MongoLedger,
    create_contact: CreateContact,
    revise_contact: ReviseContact,
    set_preference: SetContactPreference,
    erase_contact: EraseContact,
) -> APIRouter:
    router = APIRouter(prefix="/v1/contacts", tags=["contacts"], route_class=answered_by(problem_of))

    @router.post("", status_code=201, operation_id="create_contact", responses=MADE)
    async def create(body: NewContact, response: Response) -> ContactChanged:
        contact = await create_contact(body.contact_type, body.raw(), body.contact_id)
        response.headers["ETag"] = etag(contact.version)
        response.headers["Location"] = f"/v1/contacts/{contact.contact_id}"
        return contact.announced()

    @router.get("", operation_id="list_contacts")
    async def list_(
        limit: Limit = 100,
        cursor: IdCursor = None,
        contact_type: str | None = None,
        phone: Annotated[str | None, Query(description="With + and country code")] = None,
        external_id: str | None = None,
        opted_out: PreferenceKind | None = None,
    ) -> Page[ContactChanged]:
        found = await contacts.page(
            contact_type=contact_type,
            phone=_number(phone),
            external_id=external_id,
            opted_out=opted_out,
            after=cursor,
            limit=limit + 1,
        )
        return page_by_id([contact.announced() for contact in found], limit, lambda item: item.contact_id)

    @router.get("/{contact_id}", operation_id="get_contact", responses=TAGGED)
    async def get(contact_id: str, response: Response) -> ContactChanged:
        contact = standing(contact_id, await contacts.get(contact_id))
        response.headers["ETag"] = etag(contact.version)
        return contact.announced()

    @router.patch("/{contact_id}", operation_id="patch_contact", responses=TAGGED)
    async def patch(
        contact_id: str, body: ContactPatch, response: Response, if_match: IfMatch = None
    ) -> ContactChanged:
        contact = await revise_contact(contact_id, body.raw(), version_of(if_match))
        response.headers["ETag"] = etag(contact.version)
        return contact.announced()

    @router.delete("/{contact_id}", status_code=204, operation_id="erase_contact")
    async def erase(contact_id: str, if_match: IfMatch = None) -> None:
        """Remove everything personal for ever. The id stays blocked; consent rows stay, without actors.

        Again: nothing changes here, and all services are told once more.
        """
        await erase_contact(contact_id, version_of(if_match))

    @router.put("/{contact_id}/preferences/{kind}", operation_id="set_preference", responses=TAGGED)
    async def prefer(
        contact_id: str, kind: PreferenceKind, body: Preference, response: Response, if_match: IfMatch = None
    ) -> ContactChanged:
        contact = await set_preference(contact_id, lambda now: body.request(kind, now), version_of(if_match))
        response.headers["ETag"] = etag(contact.version)
        return contact.announced()

    @router.get("/{contact_id}/consent", operation_id="list_consent")
    async def consent(contact_id: str, limit: Limit = 100, cursor: Cursor = None) -> Page[ConsentEntry]:
        """Every opt-out and opt-in that was asked for, oldest first; also of an erased contact."""
        if await contacts.get(contact_id) is None:
            raise NotFound("contact", contact_id)
        after = None if cursor is None else parts_of(cursor, whole, text)
        entries = [_entry(row) for row in await ledger.page(contact_id, after, limit + 1)]
        return page_of(entries, limit, lambda last: cursor_of(last.version, last.entry_id))

    return router


def _number(phone: str | None) -> str | None:
    if phone is None:
        return None
    try:
        # A + in a query string is a space unless the client escapes it.
        return to_e164("+" + phone.strip() if phone.startswith(" ") else phone)
    except BadPhone as bad:
        raise Problem(422, "bad-phone", "The phone number cannot be used", f"phone: {bad}.") from bad


def _entry(row: dict[str, Any]) -> ConsentEntry:
    return ConsentEntry(entry_id=row.pop("_id"), **row)
