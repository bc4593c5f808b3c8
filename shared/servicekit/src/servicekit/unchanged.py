"""If-None-Match: who has the version that stands is told so, and not sent it again."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PARAMETER = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what is known already; while it stands, the answer is 304 and empty.",
    "schema": {"type": "string"},
}
RESPONSE = {"description": "As If-None-Match knows it"}
_OF_A_BODY = (b"content-length", b"content-type")


class Unchanged:
    """ASGI middleware: 304 for a GET whose answer has an ETag that the request names (RFC 9110, 13.1.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = _named(scope) if scope["type"] == "http" and scope["method"] == "GET" else frozenset()
        if not known:
            await self._app(scope, receive, send)
            return
        unchanged = False

        async def tell(message: Message) -> None:
            nonlocal unchanged
            if message["type"] == "http.response.start":
                tag = next((value for name, value in message["headers"] if name == b"etag"), None)
                unchanged = message["status"] == 200 and tag is not None and not known.isdisjoint((tag, b"*"))
                if unchanged:
                    kept = [pair for pair in message["headers"] if pair[0] not in _OF_A_BODY]
                    message = {**message, "status": 304, "headers": kept}
            elif unchanged:
                message = {**message, "body": b""}
            await send(message)

        await self._app(scope, receive, tell)


def document(get: dict[str, Any]) -> None:
    """In the OpenAPI operation of a GET; routes do not declare what is answered before them."""
    if "ETag" in get["responses"].get("200", {}).get("headers", {}):
        get.setdefault("parameters", []).append(PARAMETER)
        get["responses"]["304"] = RESPONSE


def _named(scope: Scope) -> frozenset[bytes]:
    """The tags of the request. Versions are whole numbers, so a weak one says as much."""
    told = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    return frozenset(tag for each in told.split(b",") if (tag := each.strip().removeprefix(b"W/")))
