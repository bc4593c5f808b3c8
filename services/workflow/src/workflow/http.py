"""The workflow over REST."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from contracts.campaigns import catalog_id
from contracts.vocabulary import Code, Whole
from servicekit.pages import (
    Cursor,
    IdCursor,
    Limit,
    Page,
    cursor_of,
    page_by_id,
    page_of,
    parts_of,
    whole,
)
from servicekit.problems import Problem, answered_by, errors_at
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Store
from workflow.domain.actions import Frozen
from workflow.domain.decision import Decision
from workflow.domain.faults import sentences
from workflow.domain.flow import Flow, FlowSpec, NoSuchVersion, NothingToPublish, PublishedVersion
from workflow.use_cases.apply_flows import Applied, ApplyFlows, InvalidFlows
from workflow.use_cases.change_version import PublishDraft, RollBack
from workflow.use_cases.count_decisions import CountDecisions, Counts
from workflow.use_cases.preview_completion import Preview, PreviewCompletion, PreviewRequest


class Bundle(Frozen):
    """The `flows` of a configuration bundle."""

    flows: tuple[FlowSpec, ...] = Field(max_length=500)


class AppliedFlows(BaseModel):
    items: list[Applied]


class VersionChoice(Frozen):
    version: Whole = Field(ge=1)


def _problem_of(refusal: Exception) -> Problem | None:
    match refusal:
        case RequestValidationError():
            # What is wrong with rules in one sentence each, with its place in the bundle.
            return _invalid(sentences(refusal.errors()))
        case InvalidFlows():
            return _invalid(refusal.faults)
        case NoSuchVersion():
            return Problem(404, "no-such-version", "No such version", str(refusal))
        case NothingToPublish():
            return Problem(
                409, "nothing-to-publish", "There is no draft", "Save one first: PUT /v1/flows?publish=false."
            )
    return None


def _invalid(faults: list[str]) -> Problem:
    places = (fault.partition(": ") for fault in faults[:100])
    errors = errors_at((where, what) for where, _, what in places)
    return Problem(422, "invalid-request", "The request is not valid", "; ".join(faults[:5]), errors=errors)


def routes(
    flows: Store[Flow],
    decisions: Store[Decision],
    apply_flows: ApplyFlows,
    publish_draft: PublishDraft,
    roll_back: RollBack,
    preview_completion: PreviewCompletion,
    count_decisions: CountDecisions,
) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=answered_by(_problem_of))

    @router.put(
        "/flows", tags=["flows"], summary="Apply the flows of a bundle; the same again changes nothing"
    )
    async def put_flows(bundle: Bundle, publish: bool = True, dry_run: bool = False) -> AppliedFlows:
        """Drafts with `publish=false`; `dry_run` writes nothing. One fault, and nothing is changed."""
        return AppliedFlows(items=await apply_flows(bundle.flows, publish=publish, dry_run=dry_run))

    @router.get("/flows", tags=["flows"], summary="All flows, with their versions")
    async def list_flows(limit: Limit = 100, cursor: IdCursor = None) -> Page[Flow]:
        return page_by_id(await flows.page(cursor, limit + 1), limit, lambda flow: flow.flow_id)

    @router.get("/flows/{flow_id}", tags=["flows"], summary="One flow")
    async def get_flow(flow_id: str) -> Flow:
        return await _flow(flow_id)

    @router.get("/flows/{flow_id}/versions", tags=["flows"], summary="What was published, newest first")
    async def list_flow_versions(
        flow_id: str, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[PublishedVersion]:
        versions = (await _flow(flow_id)).published[::-1]
        if cursor is not None:
            (before,) = parts_of(cursor, whole)
            versions = tuple(version for version in versions if version.number < before)
        return page_of(versions, limit, lambda last: cursor_of(last.number))

    @router.post("/flows/{flow_id}/publish", tags=["flows"], summary="Put the draft in force")
    async def publish_flow(flow_id: str) -> Flow:
        return await publish_draft(flow_id)

    @router.post("/flows/{flow_id}/rollback", tags=["flows"], summary="Put an earlier version in force again")
    async def roll_back_flow(flow_id: str, choice: VersionChoice) -> Flow:
        """Published as a version of its own, so that the history stays true."""
        return await roll_back(flow_id, choice.version)

    @router.post("/preview", tags=["decisions"], summary="What a completion would lead to, with dates")
    async def preview(request: PreviewRequest) -> Preview:
        return await preview_completion(request)

    @router.get(
        "/decisions/counts", tags=["decisions"], summary="How often each action of each branch was taken"
    )
    async def count_all_decisions(subject: Code | None = None, campaign: Code | None = None) -> Counts:
        return await count_decisions(
            catalog_id("subject", subject) if subject else None,
            catalog_id("campaign", campaign) if campaign else None,
        )

    @router.get(
        "/decisions/{activity_id}", tags=["decisions"], summary="What followed one completed activity"
    )
    async def get_decision(activity_id: str) -> Decision:
        decision = await decisions.get(activity_id)
        if decision is None:
            raise NotFound("decision", activity_id)
        return decision

    async def _flow(flow_id: str) -> Flow:
        flow = await flows.get(flow_id)
        if flow is None:
            raise NotFound("flow", flow_id)
        return flow

    return router
