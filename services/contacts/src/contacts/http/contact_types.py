from __future__ import annotations

from fastapi import APIRouter, Response

from contacts.adapters.mongo_contacts import MongoContactTypes
from contacts.domain.contact_type import ContactType, Definition
from contacts.http.refusals import problem_of
from contacts.use_cases.define_contact_type import DefineContactType
from contracts.vocabulary import Code
from servicekit.pages import (
    TAGGED,
    IdCursor,
    IfMatch,
    IfNoneMatch,
    Limit,
    Page,
    etag,
    made_before,
    made_or_found,
    page_by_id,
    version_of,
)
from servicekit.problems import answered_by
from servicekit.refusals import NotFound


class NewContactType(Definition):
    code: Code

    def definition(self) -> Definition:
        return Definition(**{name: getattr(self, name) for name in Definition.model_fields})


def routes(types: MongoContactTypes, define: DefineContactType) -> APIRouter:
    router = APIRouter(
        prefix="/v1/contact-types", tags=["contact types"], route_class=answered_by(problem_of)
    )

    @router.post("", status_code=201, operation_id="create_contact_type", responses=made_before(ContactType))
    async def create(body: NewContactType, response: Response) -> ContactType:
        """The same definition again answers 200 and is no change; another for the same code is refused."""
        type_, made = await define(body.code, body.definition(), new=True)
        response.headers["ETag"] = etag(type_.version)
        made_or_found(response, made, f"/v1/contact-types/{type_.code}")
        return type_

    @router.put("/{code}", operation_id="put_contact_type", responses=TAGGED)
    async def put(
        code: Code,
        body: Definition,
        response: Response,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> ContactType:
        """Create or replace. Contacts that exist are checked again when they change."""
        type_, _ = await define(code, body, version=version_of(if_match, if_none_match))
        response.headers["ETag"] = etag(type_.version)
        return type_

    @router.get("", operation_id="list_contact_types")
    async def list_(limit: Limit = 100, cursor: IdCursor = None) -> Page[ContactType]:
        return page_by_id(await types.page(cursor, limit + 1), limit, lambda type_: type_.code)

    @router.get("/{code}", operation_id="get_contact_type", responses=TAGGED)
    async def get(code: str, response: Response) -> ContactType:
        type_ = await types.get(code)
        if type_ is None:
            raise NotFound("contact type", code)
        response.headers["ETag"] = etag(type_.version)
        return type_

    return router
