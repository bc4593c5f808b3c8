"""Inbound REST."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from batch_loader.domain.batch import Batch, IllegalMove, Move
from batch_loader.domain.choices import Choices, StoppedCampaign, Wanted, WrongChoice
from batch_loader.domain.copies import WaitingFor
from batch_loader.domain.filters import Filters
from batch_loader.ports import Place, Shelf
from batch_loader.use_cases.draft_batch import AnotherBatch, DraftBatch
from batch_loader.use_cases.preview_batch import Preview, PreviewBatch
from batch_loader.use_cases.steer_batch import SteerBatch
from contracts.vocabulary import BatchId, BatchState, ChannelName, Identifier
from servicekit.pages import (
    TAGGED,
    Cursor,
    IfMatch,
    Limit,
    Page,
    UnusableCursor,
    cursor_of,
    etag,
    made_before,
    made_or_found,
    moment,
    page_of,
    parts_of,
    text,
    version_of,
)
from servicekit.problems import Problem, answered_by
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Store


class DraftRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
    filters: Filters = Filters()
    choices: Wanted


class PreviewRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    filters: Filters = Filters()
    channel: ChannelName | None = None
    """With a channel the preview also tells who would be skipped because of it."""
    subject: Identifier | None = None
    """Code or id. With a subject the preview also tells who has an open activity of it, whom a batch skips
    unless its duplicate rule is `none`."""


class BatchResource(BaseModel):
    """A batch as it stands; selected = loaded + the sum of skipped."""

    batch_id: str
    version: int
    name: str
    state: BatchState
    filters: Filters
    choices: Choices
    expected: int
    selected: int
    loaded: int
    skipped: dict[str, int]
    per_second: float = Field(
        description="Contacts selected per second in the last pages; not the pace of the whole load."
    )
    estimated_end_at: datetime | None
    waiting_for: WaitingFor | None = Field(
        default=None,
        description="Nothing is selected before what had been announced when the load began was read: which "
        "copy lacks some of it, or that Kafka does not say.",
    )
    error: str | None
    created_at: datetime
    loading_since: datetime | None
    changed_at: datetime


class ExampleContact(BaseModel):
    contact_id: str
    contact_type: str
    time_zone: str | None
    phone: str | None
    skipped: str | None = Field(default=None, description="Why a load would skip this one as of now.")


class PreviewResource(BaseModel):
    count: int
    selected: int = Field(description="At most the limit: those who would be loaded or skipped.")
    skipped: dict[str, int] = Field(
        default_factory=dict,
        description="Of `count`, by reason, as of now: the load judges anew, and the activities service has "
        "the last word on duplicates.",
    )
    looked_at: int | None = Field(
        default=None,
        description="How many of `count`, the first in id order, were looked at for an open activity of the "
        "subject: of a great many not all. Null where the duplicate rule is `none`, or no subject was given.",
    )
    sample: list[ExampleContact]
    as_of: datetime
    behind: int | None = Field(
        default=None,
        description="Messages that might change this and were still to be read; null if Kafka did not say.",
    )


Sort = Literal["created_at", "-created_at", "name", "-name"]


def routes(
    store: Store[Batch],
    shelf: Shelf,
    draft_batch: DraftBatch,
    preview_batch: PreviewBatch,
    steer_batch: SteerBatch,
) -> APIRouter:
    router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=answered_by(_problem_of))

    @router.post("", status_code=201, operation_id="draft_batch", responses=made_before(BatchResource))
    async def draft(
        request: DraftRequest,
        response: Response,
        idempotency_key: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> BatchResource:
        """Nothing is loaded until it is told to. The same request with its key is the same batch: 200.

        A request names things by code or id, as in `campaign`; the batch has their ids, as in `campaign_id`.
        """
        batch, made = await draft_batch(request.name, request.filters, request.choices, idempotency_key)
        made_or_found(response, made, f"/v1/batches/{batch.batch_id}")
        return _resource(batch, response)

    @router.get("", operation_id="list_batches")
    async def list_batches(
        state: BatchState | None = None,
        sort: Sort = "-created_at",
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[BatchResource]:
        field = sort.removeprefix("-")
        after = None if cursor is None else _place(cursor, field)
        listed = await shelf.list(state=state, sort=sort, limit=limit + 1, after=after)
        found = [_resource(batch) for batch in listed]
        return page_of(found, limit, lambda last: cursor_of(field, getattr(last, field), last.batch_id))

    @router.post("/preview", operation_id="preview_filters")
    async def preview_filters(request: PreviewRequest) -> PreviewResource:
        """Whom these filters find now: how many, and ten of them."""
        return _preview(await preview_batch(request.filters, request.channel, request.subject))

    @router.get("/{batch_id}", operation_id="get_batch", responses=TAGGED)
    async def get_batch(batch_id: str, response: Response) -> BatchResource:
        return _resource(await found(batch_id), response)

    @router.post("/{batch_id}/preview", operation_id="preview_batch")
    async def preview_stored(batch_id: str) -> PreviewResource:
        """Whom a load of this batch would find now, and skip."""
        batch = await found(batch_id)
        choices = batch.choices
        subject = choices.subject_id if choices.exclusive else None
        under_way = batch.state in (BatchState.LOADING, BatchState.PAUSED, BatchState.FAILED)
        loading = batch.batch_id if under_way else None
        return _preview(await preview_batch(batch.filters, choices.channel, subject, loading))

    @router.post("/{batch_id}/load", operation_id="load_batch", responses=TAGGED)
    async def load(batch_id: str, response: Response, if_match: IfMatch = None) -> BatchResource:
        """Start loading in the background. Again changes nothing."""
        return await steered(batch_id, "load", if_match, response)

    @router.post("/{batch_id}/pause", operation_id="pause_batch", responses=TAGGED)
    async def pause(batch_id: str, response: Response, if_match: IfMatch = None) -> BatchResource:
        """Stop making activities, at the next page. Those made so far are worked."""
        return await steered(batch_id, "pause", if_match, response)

    @router.post("/{batch_id}/resume", operation_id="resume_batch", responses=TAGGED)
    async def resume(batch_id: str, response: Response, if_match: IfMatch = None) -> BatchResource:
        """Go on after the last contact that is accounted for."""
        return await steered(batch_id, "resume", if_match, response)

    @router.post("/{batch_id}/cancel", operation_id="cancel_batch", responses=TAGGED)
    async def cancel(batch_id: str, response: Response, if_match: IfMatch = None) -> BatchResource:
        """Stop for good. Activities that were made stay: they are cancelled in the activities service."""
        return await steered(batch_id, "cancel", if_match, response)

    async def found(batch_id: str) -> Batch:
        batch = await store.get(batch_id)
        if batch is None:
            raise NotFound("batch", batch_id)
        return batch

    async def steered(batch_id: str, move: Move, if_match: str | None, response: Response) -> BatchResource:
        return _resource(await steer_batch(batch_id, move, version_of(if_match)), response)

    return router


def _problem_of(refusal: Exception) -> Problem | None:
    match refusal:
        case AnotherBatch():
            reused = "Another batch was drafted with it."
            return Problem(422, "idempotency-key-reused", "Idempotency-Key was used before", reused)
        case StoppedCampaign():
            return Problem(409, "campaign-stopped", "This campaign takes no batch", str(refusal))
        case WrongChoice():
            return Problem(422, "wrong-choice", "The batch cannot be made like this", str(refusal))
        case IllegalMove():
            return Problem(409, "illegal-move", "Not in this state", str(refusal), state=refusal.state.value)
    return None


def _place(cursor: str, field: str) -> Place:
    made_for, value, batch_id = parts_of(cursor, text, moment if field == "created_at" else text, text)
    if made_for != field:
        raise UnusableCursor
    return Place(value, BatchId(batch_id))


def _resource(batch: Batch, response: Response | None = None) -> BatchResource:
    if response is not None:
        response.headers["ETag"] = etag(batch.version)
    return BatchResource(
        batch_id=batch.batch_id,
        version=batch.version,
        name=batch.name,
        state=batch.state,
        filters=batch.filters,
        choices=batch.choices,
        expected=batch.expected,
        selected=batch.selected,
        loaded=batch.loaded,
        skipped=batch.skipped,
        per_second=batch.per_second,
        estimated_end_at=batch.estimated_end_at,
        waiting_for=batch.waiting_for,
        error=batch.error,
        created_at=batch.created_at,
        loading_since=batch.loading_since,
        changed_at=batch.changed_at,
    )


def _preview(preview: Preview) -> PreviewResource:
    return PreviewResource.model_validate(preview, from_attributes=True)
