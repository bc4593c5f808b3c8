"""REST: the whole catalogue as one bundle, or item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from pydantic_core import from_json

from campaigns.adapters.mongo_catalog import MongoCatalog
from campaigns.domain.bundle import Fault, InvalidBundle
from campaigns.domain.campaign import IllegalMove, Move
from campaigns.domain.kinds import KINDS, Bundle, Kind
from campaigns.use_cases.apply_bundle import ApplyBundle
from campaigns.use_cases.move_campaign import MoveCampaign
from contracts.campaigns import CampaignChanged
from contracts.vocabulary import Code
from servicekit.pages import TAGGED, IdCursor, IfMatch, IfNoneMatch, Limit, Page, etag, page_by_id, version_of
from servicekit.problems import Problem, answered_by, errors_at
from servicekit.refusals import NotFound


class Applied(BaseModel):
    """Items by name, `<list>/<code>`."""

    created: list[str]
    changed: list[str]
    unchanged: list[str]
    dry_run: bool


def routes(stores: MongoCatalog, apply_bundle: ApplyBundle, move_campaign: MoveCampaign) -> list[APIRouter]:
    return [
        _bundle_routes(apply_bundle),
        _campaign_moves(move_campaign),
        *(_item_routes(kind, stores, apply_bundle) for kind in KINDS),
    ]


def _bundle_routes(apply_bundle: ApplyBundle) -> APIRouter:
    router = APIRouter(prefix="/v1/bundle", tags=["bundle"], route_class=answered_by(_problem_of))

    @router.put("", operation_id="apply_bundle", openapi_extra=_json_body(Bundle))
    async def put(request: Request, dry_run: bool = False) -> Applied:
        """Make the catalogue say this; what it does not name stays. Judged as a whole before anything is
        written, and written in one transaction. The same bundle again changes nothing."""
        plan = await apply_bundle(await _body(request), dry_run=dry_run)
        return Applied(created=plan.created, changed=plan.changed, unchanged=plan.unchanged, dry_run=dry_run)

    @router.get("/schema", operation_id="get_bundle_schema")
    async def schema() -> dict[str, Any]:
        """JSON Schema of a bundle."""
        return Bundle.model_json_schema()

    return router


def _campaign_moves(move_campaign: MoveCampaign) -> APIRouter:
    router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=answered_by(_problem_of))

    @router.post("/{code_or_id}/{move}", operation_id="move_campaign", responses=TAGGED)
    async def move(
        code_or_id: str, move: Move, response: Response, if_match: IfMatch = None
    ) -> CampaignChanged:
        """draft -> running <-> paused -> stopped. To where it is already is no change; else 409."""
        campaign = await move_campaign(code_or_id, move, version_of(if_match))
        response.headers["ETag"] = etag(campaign.version)
        return campaign

    return router


def _item_routes(kind: Kind, stores: MongoCatalog, apply_bundle: ApplyBundle) -> APIRouter:
    router = APIRouter(
        prefix=f"/v1/{kind.path}",
        tags=[kind.path],
        route_class=answered_by(lambda refusal: _problem_of(refusal, kind)),
    )
    word = kind.name.replace("-", "_")

    @router.get("", operation_id=f"list_{kind.plural}", response_model=Page[kind.state])  # type: ignore[name-defined]
    async def list_(limit: Limit = 100, cursor: IdCursor = None) -> Any:
        return page_by_id(await stores.page(kind, cursor, limit + 1), limit, lambda item: item.code)

    @router.get("/{code_or_id}", operation_id=f"get_{word}", response_model=kind.state, responses=TAGGED)
    async def get(code_or_id: str, response: Response) -> Any:
        item = await stores.get(kind, code_or_id)
        if item is None:
            raise NotFound(kind.name, code_or_id)
        response.headers["ETag"] = etag(item.version)
        return item

    @router.put(
        "/{code}",
        operation_id=f"put_{word}",
        response_model=kind.state,
        responses=TAGGED,
        openapi_extra=_json_body(kind.written, spared="code"),
    )
    async def put(
        code: Code,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> Any:
        """Create or replace one item, written as in a bundle; `code` may be left out of the body."""
        raw = await _body(request)
        if not isinstance(raw, dict) or raw.get("code", code) != code:
            raise InvalidBundle([Fault("code", f"must be {code!r}, as in the path")])
        version = version_of(if_match, if_none_match)
        plan = await apply_bundle({kind.plural: [raw | {"code": code}]}, version=version)
        (item,) = plan.items
        response.headers["ETag"] = etag(item.version)
        return item

    return router


async def _body(request: Request) -> object:
    try:
        return from_json(await request.body(), allow_inf_nan=False)
    except ValueError as error:
        raise Problem(422, "not-json", "The body is not JSON", str(error)[:300]) from error


def _problem_of(refusal: Exception, kind: Kind | None = None) -> Problem | None:
    """kind: of the single item that was written, for whose author there is no bundle."""
    match refusal:
        case IllegalMove():
            return Problem(
                409, "illegal-move", "The campaign cannot do that", f"{refusal}.", possible=refusal.possible
            )
        case InvalidBundle(faults=faults) if kind:
            alone = [_without_list(fault, kind) for fault in faults]
            return _invalid(f"The {kind.name} is not valid", alone)
        case InvalidBundle(faults=faults):
            return _invalid("The bundle is not valid", faults)
    return None


def _invalid(title: str, faults: Sequence[Fault]) -> Problem:
    return Problem(
        422,
        "invalid-bundle",
        title,
        "; ".join(map(str, faults[:10])),
        errors=errors_at((fault.place, fault.problem) for fault in faults),
    )


def _without_list(fault: Fault, kind: Kind) -> Fault:
    return Fault(fault.place.removeprefix(f"{kind.plural}[0]").removeprefix("."), fault.problem)


def _json_body(model: type[BaseModel], spared: str = "") -> dict[str, Any]:
    """spared: a field that the model needs and the body need not say."""
    schema = model.model_json_schema()
    inlined = _inlined(schema, schema.pop("$defs", {}))
    inlined["required"] = [name for name in inlined.get("required", ()) if name != spared]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined}}}}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """Without `#/$defs/...`, which in an OpenAPI document would lead elsewhere."""
    match node:
        case {"$ref": str(reference)}:
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        case dict():
            return {name: _inlined(part, definitions) for name, part in node.items()}
        case list():
            return [_inlined(part, definitions) for part in node]
        case _:
            return node
