from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from contacts.adapters.mongo_imports import MongoImports
from contacts.domain.contact import Reason
from contacts.domain.import_columns import REJECT_COLUMNS
from contacts.domain.importing import Import, ImportState
from contacts.http.refusals import problem_of
from contacts.use_cases.receive_import import ReceiveImport
from contacts.use_cases.run_imports import RunImports
from contracts.message import stable_id
from contracts.vocabulary import Code, Time
from servicekit.pages import IdCursor, Limit, Page, page_by_id
from servicekit.problems import Problem, answered_by
from servicekit.refusals import NotFound

PATH = "/v1/imports"
_PLAIN = (
    "",
    "text/csv",
    "text/plain",
    "text/tab-separated-values",
    "application/csv",
    "application/octet-stream",
)
_CSV_CONTENT = {"text/csv": {"schema": {"type": "string"}}}
_CSV_BODY = {
    "requestBody": {
        "required": True,
        "description": "The file itself: UTF-8, one row per contact, the first line names the columns.",
        "content": _CSV_CONTENT,
    }
}


class Accepted(BaseModel):
    import_id: str


class Progress(BaseModel):
    """rows = imported + the sum of rejected; imported = created + updated + unchanged."""

    import_id: str
    name: str
    contact_type: str
    default_region: str | None
    state: ImportState
    rows: int
    imported: int
    created: int
    updated: int
    unchanged: int
    rejected: dict[str, int]
    """Reason -> rows."""
    line: int
    lines: int
    """How far it is: `line` of `lines`."""
    bytes: int
    error: str | None
    received_at: Time
    finished_at: Time | None


def _id_for(key: str | None) -> str:
    """The same for a request that is made again after the process that took it was killed."""
    return stable_id("import", key) if key else str(uuid4())


def routes(imports: MongoImports, receive: ReceiveImport, worker: RunImports) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["imports"], route_class=answered_by(problem_of))

    @router.post("", status_code=202, operation_id="import_contacts", openapi_extra=_CSV_BODY)
    async def import_contacts(
        request: Request,
        contact_type: Code,
        default_region: Annotated[
            str | None, Query(description="ISO 3166 code of the country of numbers without +, such as US")
        ] = None,
        name: Annotated[str, Query(max_length=200)] = "",
    ) -> Accepted:
        """Take a CSV file of contacts; its rows are worked off afterwards."""
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given not in _PLAIN:
            raise Problem(
                415,
                "not-a-csv",
                "The file must be the body itself",
                f"Send it with Content-Type: text/csv, not {given[:80]}.",
            )
        accepted = await receive(
            _id_for(request.headers.get("idempotency-key")),
            request.stream(),
            contact_type=contact_type,
            default_region=default_region,
            name=name,
        )
        worker.accepted.set()
        return Accepted(import_id=accepted.import_id)

    @router.get("", operation_id="list_imports")
    async def list_(limit: Limit = 100, cursor: IdCursor = None) -> Page[Progress]:
        found = await imports.page(cursor, limit + 1)
        return page_by_id([_progress(import_) for import_ in found], limit, lambda item: item.import_id)

    @router.get("/{import_id}", operation_id="get_import")
    async def get(import_id: str) -> Progress:
        return _progress(_found(import_id, await imports.get(import_id)))

    @router.get(
        "/{import_id}/rejects",
        operation_id="get_import_rejects",
        response_class=StreamingResponse,
        responses={200: {"content": _CSV_CONTENT}},
    )
    async def rejects(import_id: str) -> StreamingResponse:
        """The rejected rows as CSV: line, reason, what would be right, then the row as it was, which is left
        out if its contact was erased. Mended, the file can be imported as it is."""
        import_ = _found(import_id, await imports.get(import_id))
        return StreamingResponse(
            _rejects(imports, import_),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="rejects-{import_.import_id}.csv"'},
        )

    return router


async def _rejects(imports: MongoImports, import_: Import) -> AsyncIterator[str]:
    # A rejects file that was imported has these columns already, and what they said of the row is over.
    told = len(REJECT_COLUMNS) if tuple(import_.header[: len(REJECT_COLUMNS)]) == REJECT_COLUMNS else 0
    yield _line([*REJECT_COLUMNS, *import_.header[told:]], import_.delimiter)
    async for row in imports.rejects(import_.import_id):
        whole = row["reason"] == Reason.BROKEN_ROW and len(row["cells"]) == 1
        cells = row["cells"] if whole else row["cells"][told:]
        yield _line([row["line"], row["reason"], row["what"], *cells], import_.delimiter)


def _line(cells: list[object], delimiter: str) -> str:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return written.getvalue()


def _found(import_id: str, import_: Import | None) -> Import:
    if import_ is None:
        raise NotFound("import", import_id)
    return import_


def _progress(import_: Import) -> Progress:
    told = import_.model_dump(include=Progress.model_fields.keys() - {"imported"})
    return Progress(**told, imported=import_.imported)
