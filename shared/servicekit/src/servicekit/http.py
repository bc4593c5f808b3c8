"""FastAPI for every service: one shape of errors, health, metrics and documents."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin
from urllib.parse import unquote

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit import idempotency, problems, unchanged
from servicekit.idempotency import RequestGuard
from servicekit.reference import serve_reference
from servicekit.tracing import child_of, current_traceparent, valid_traceparent
from servicekit.unchanged import Unchanged

if TYPE_CHECKING:
    from servicekit.service import Service


class TraceContext:
    """ASGI middleware: what a request causes carries the request's trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None
        )
        token = current_traceparent.set(child_of(valid_traceparent(told)))
        try:
            await self._app(scope, receive, send)
        finally:
            current_traceparent.reset(token)


_MARK = "\uf8ff"
"""A character for private use; one that was asked for is written as two."""
_SLASH = f"{_MARK}s"
_MEANT = {_SLASH: "/", 2 * _MARK: _MARK}
_WRITTEN = re.compile("|".join(_MEANT))


class SlashesInIds:
    """ASGI middleware: a slash that is written as %2F belongs to an id, and does not part the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if b"%2f" in raw.lower() or _MARK in scope.get("path", ""):
            parts = re.split("%2f", raw.decode("latin-1"), flags=re.IGNORECASE)
            scope = {**scope, "path": _SLASH.join(unquote(part).replace(_MARK, 2 * _MARK) for part in parts)}
        await self._app(scope, receive, send)


async def with_slashes(request: Request) -> None:
    """After the route was found: ids have their slashes again."""
    for name, value in request.path_params.items():
        if isinstance(value, str):
            request.path_params[name] = _WRITTEN.sub(lambda found: _MEANT[found[0]], value)


def create_app(
    service: Service, routers: tuple[APIRouter, ...], asyncapi: Mapping[str, Any], streamed: tuple[str, ...]
) -> FastAPI:
    app = FastAPI(
        title=f"Parley {service.name}",
        version="1",
        responses=problems.PROBLEM_RESPONSES,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    serve_reference(app)
    app.add_middleware(
        RequestGuard, mongo=service.mongo, instance=service.settings.instance, streamed=streamed
    )
    app.add_middleware(Unchanged)
    app.add_middleware(TraceContext)
    app.add_middleware(SlashesInIds)
    asked = [
        Depends(with_slashes),
        Depends(only_known_parameters),
        Depends(only_heard_conditions),
        Depends(only_bodies_called_json),
    ]
    for router in routers:
        app.include_router(router, dependencies=asked)
    app.include_router(_process_routes(service, asyncapi))
    _document_headers(app, routers)
    return app


def _document_headers(app: FastAPI, routers: tuple[APIRouter, ...]) -> None:
    """What is taken or refused outside all routes, so that no route declares it."""
    plain = app.openapi
    routes = [each for router in routers for each in router.routes if isinstance(each, APIRoute)]
    reading_json = [each for each in routes if each.include_in_schema and _reads_json(each)]

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in plain()["paths"].values():
                if "post" in path:
                    idempotency.document(path["post"])
                if "get" in path:
                    unchanged.document(path["get"])
            for route in reading_json:
                for method in route.methods or ():
                    answers = plain()["paths"][route.path_format][method.lower()]["responses"]
                    answers["415"] = problems.NOT_CALLED_JSON
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


async def only_known_parameters(request: Request) -> None:
    """A misspelt filter would otherwise be an answer about everything, and the first of two be forgotten."""
    if not request.query_params:
        return
    known = _parameters(request.scope["route"].dependant)
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        takes = f"this takes {', '.join(sorted(known))}" if known else "this takes none"
        raise RequestValidationError(
            [
                {"type": "unknown_parameter", "loc": ("query", name), "msg": f"unknown parameter; {takes}"}
                for name in dict.fromkeys(unknown)
            ]
        )
    given = Counter(name for name, _ in request.query_params.multi_items())
    twice = [name for name, times in given.items() if times > 1 and not known[name]]
    if twice:
        raise RequestValidationError(
            [
                {"type": "repeated_parameter", "loc": ("query", name), "msg": "takes one value"}
                for name in twice
            ]
        )


async def only_heard_conditions(request: Request) -> None:
    """A change that nobody holds against its condition would be somebody's lost update."""
    if request.method == "GET":
        return
    taken = {parameter.alias.lower() for parameter in request.scope["route"].dependant.header_params}
    for condition in ("If-Match", "If-None-Match"):
        name = condition.lower()
        if name in request.headers and name not in taken:
            title = f"{condition} is not taken here"
            raise problems.Problem(400, f"{name}-not-taken", title, "Nothing was changed; leave it out.")


_JSON = re.compile(r"application/([^/]*\+)?json")
"""The content types whose bodies FastAPI reads as JSON."""


async def only_bodies_called_json(request: Request) -> None:
    """FastAPI hands a body with another content type on as a text, which then is no object to anybody."""
    route = request.scope["route"]
    if not _reads_json(route) or not await request.body():
        return
    told = request.headers.get("content-type", "")
    given = told.partition(";")[0].strip().lower()
    if not _JSON.fullmatch(given):
        is_ = f"is {given[:80]}" if given else "is missing"
        raise problems.Problem(
            415,
            "not-called-json",
            "The body is not called JSON",
            f"The header Content-Type {is_}: send the JSON body with Content-Type: application/json.",
        )


def _reads_json(route: APIRoute) -> bool:
    """Whether FastAPI reads its body; a route that reads it alone minds its content type alone."""
    return route.body_field is not None and not isinstance(route.body_field.field_info, params.Form)


def _parameters(dependant: Dependant) -> dict[str, bool]:
    """Each by its name, and whether it may be given several times."""
    known = {
        parameter.alias: _takes_several(parameter.field_info.annotation)
        for parameter in dependant.query_params
    }
    for inner in dependant.dependencies:
        known |= _parameters(inner)
    return known


def _takes_several(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_takes_several(each) for each in get_args(annotation))


def _process_routes(service: Service, asyncapi: Mapping[str, Any]) -> APIRouter:
    routes = APIRouter(tags=["process"])

    @routes.get("/livez", summary="Whether this process still moves; asks no dependency")
    async def livez() -> JSONResponse:
        stalled, failing = service.bus.stalled(), service.failing()
        ill = bool(stalled or failing)
        return JSONResponse({"stalled": stalled, "failing": failing}, status_code=503 if ill else 200)

    @routes.get("/readyz", summary="Whether requests can be served: the database answers")
    async def readyz() -> JSONResponse:
        if service.stopping.is_set():
            return JSONResponse({"ready": False, "why": "stopping"}, status_code=503)
        try:
            await service.mongo.ping()
        except Exception as error:  # whatever it is, it is a no
            return JSONResponse({"ready": False, "why": f"database: {type(error).__name__}"}, status_code=503)
        if not service.ready.is_set():
            return JSONResponse({"ready": False, "why": "starting"}, status_code=503)
        waits = {} if service.bus.waits is None else {"waiting_for": service.bus.waits}
        return JSONResponse({"ready": True, "consuming": service.consuming.is_set(), **waits})

    @routes.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics(name: Annotated[list[str], Query(alias="name[]")] = []) -> Response:  # noqa: B006
        """All of them, or only those named: writing them all out takes milliseconds."""
        service.observe()
        every = service.metrics.registry
        chosen = every.restricted_registry(name) if name else every
        return Response(generate_latest(chosen), media_type="text/plain; version=0.0.4")

    @routes.get("/asyncapi.json", summary="The topics of this service, AsyncAPI 3")
    async def asyncapi_document() -> JSONResponse:
        return JSONResponse(dict(asyncapi))

    return routes


class HttpServer(uvicorn.Server):
    """uvicorn inside our own process life: signals are the service's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def bound_port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


class PortTaken(OSError):
    """Another program listens where this service was told to."""


def http_server(app: FastAPI, host: str, port: int) -> HttpServer:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,  # longer than clients keep an idle connection
    )
    return HttpServer(config)


async def serve(server: HttpServer) -> asyncio.Task[None]:
    """Start serving; returns when the port is open. Raises PortTaken."""

    async def run() -> None:
        try:
            await server.serve()
        except SystemExit as error:
            raise PortTaken(
                f"cannot listen on {server.config.host}:{server.config.port}: it is taken or not allowed"
            ) from error

    task = asyncio.create_task(run(), name="http")
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.005)
    return task
