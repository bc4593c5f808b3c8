"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from contracts.faults import words_of
from servicekit.conflicts import Conflict
from servicekit.mongo import is_unavailable
from servicekit.refusals import NotFound, StandsAlready, TooLargeToAnnounce, VersionMoved

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class Problem(Exception):
    """An answer that says what was wrong and what would be right.

    code: the last part of the `type` URI, stable, for programs. Further members go to the document; what is
    wrong in several places is `errors`, see `errors_at`.
    """

    def __init__(self, status: int, code: str, title: str, detail: str = "", **members: Any) -> None:
        super().__init__(detail or title)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.members = members

    def document(self) -> dict[str, Any]:
        body = {"type": f"urn:parley:problem:{self.code}", "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        return body | self.members


def errors_at(faults: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The member `errors` of a problem: (place in the request, what would be right there)."""
    return [{"where": where, "what": what} for where, what in faults]


def answered_by(problem_of: Callable[[Exception], Problem | None]) -> type[APIRoute]:
    """For `APIRouter(route_class=...)`: what a use case refuses is answered with the problem it is here.

    problem_of: None for an error that it does not know; that one stays what it is.
    """

    class AnsweredRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answered(request: Request) -> Response:
                try:
                    return await handle(request)
                except Exception as refusal:
                    problem = problem_of(refusal)
                    if problem is None:
                        raise
                    raise problem from refusal

            return answered

    return AnsweredRoute


class _Answer(JSONResponse):
    def render(self, content: Any) -> bytes:
        """A problem may quote the request, and JSON can hold half a character that UTF-8 cannot."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def answer(problem: Problem) -> JSONResponse:
    return _Answer(problem.document(), status_code=problem.status, media_type=MEDIA_TYPE)


def of_the_database(error: PyMongoError) -> JSONResponse:
    if not is_unavailable(error):
        log.error("a request failed in the database", exc_info=error)
        return answer(Problem(500, "internal", "Something went wrong here"))
    response = answer(Problem(503, "unavailable", "The database does not answer", "Try again shortly."))
    response.headers["Retry-After"] = "2"
    return response


_DOCUMENT = {
    MEDIA_TYPE: {
        "schema": {
            "type": "object",
            "required": ["type", "title", "status"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "errors": {
                    "type": "array",
                    "description": "Where what is wrong in several places",
                    "items": {
                        "type": "object",
                        "required": ["where", "what"],
                        "properties": {
                            "where": {"type": "string"},
                            "what": {"type": "string"},
                            "reason": {"type": "string", "description": "A stable word, where there is one"},
                        },
                    },
                },
            },
        }
    }
}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem document (RFC 9457)", "content": _DOCUMENT},
    "503": {
        "description": "A dependency is away or the state is busy: nothing is wrong with the request",
        "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
        "content": _DOCUMENT,
    },
}
NOT_CALLED_JSON: dict[str, Any] = {
    "description": "Content-Type calls the body neither application/json nor anything that ends in +json",
    "content": _DOCUMENT,
}


_UNPARSED = "There was an error parsing the body"
"""FastAPI's words for what neither is JSON nor fails as such."""
_READABLE = "It must be what its content type says, such as JSON in UTF-8, with some hundred levels at most."


def _what(fault: Mapping[str, Any]) -> str:
    """In the words of somebody who does not know our libraries."""
    if fault["type"] == "extra_forbidden":
        return "there is no such field"
    if fault["type"] == "timezone_aware":
        return "a time needs its zone, as in 2026-03-01T12:00:00Z or 2026-03-01T13:00:00+01:00"
    return words_of(fault)


def _methods_at(app: FastAPI, request: Request) -> set[str]:
    """Of every route with this path; the router names those of the first."""
    asked = {method: dict(request.scope) | {"method": method} for method in _METHODS}
    return {m for m, scope in asked.items() if any(r.matches(scope)[0] is Match.FULL for r in app.routes)}


def install(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def _problem(_: Request, problem: Problem) -> JSONResponse:
        return answer(problem)

    @app.exception_handler(NotFound)
    async def _missing(_: Request, missing: NotFound) -> JSONResponse:
        return answer(Problem(404, "not-found", f"No such {missing.kind}", str(missing)))

    @app.exception_handler(VersionMoved)
    async def _moved(_: Request, moved: VersionMoved) -> JSONResponse:
        return answer(Problem(412, "version-moved", "It changed meanwhile", str(moved)))

    @app.exception_handler(StandsAlready)
    async def _stands(_: Request, stands: StandsAlready) -> JSONResponse:
        return answer(Problem(412, "stands-already", "It is there already", str(stands)))

    @app.exception_handler(TooLargeToAnnounce)
    async def _large(_: Request, large: TooLargeToAnnounce) -> JSONResponse:
        return answer(Problem(422, "too-large-to-announce", "It would become too large", str(large)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, wrong: RequestValidationError) -> JSONResponse:
        faults = [(".".join(map(str, fault["loc"])), _what(fault)) for fault in wrong.errors()]
        detail = "; ".join(f"{where}: {what}" for where, what in faults[:5])
        told = errors_at(faults)
        return answer(Problem(422, "invalid-request", "The request is not valid", detail, errors=told))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.detail == _UNPARSED:
            return answer(Problem(400, "unreadable-body", "The body cannot be read", _READABLE))
        response = answer(Problem(error.status_code, f"http-{error.status_code}", str(error.detail)))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(sorted(_methods_at(app, request)))
        return response

    @app.exception_handler(Conflict)
    async def _conflict(_: Request, __: Conflict) -> JSONResponse:
        busy = "Others change it all the time, or somebody who was killed still holds it. Try again shortly."
        response = answer(Problem(503, "busy", "The state is held by somebody else", busy))
        response.headers["Retry-After"] = "2"
        return response

    @app.exception_handler(PyMongoError)
    async def _database(_: Request, error: PyMongoError) -> JSONResponse:
        return of_the_database(error)

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return answer(Problem(500, "internal", "Something went wrong here"))
