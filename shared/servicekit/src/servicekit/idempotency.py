"""Idempotency-Key: the same key gives the same answer, however often and at whichever replica.

Same key and other request: 422. Same key while the first is still running: 409. Kept for 24 hours.
What ran in a process that is gone is run again: at once if that was an earlier life of this instance.
A 5xx answer is forgotten, so that the request may be tried again; a 412 and a 415 too: the header
that mends it is no part of what makes a request the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection as Names
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError, PyMongoError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.clock import real_now
from servicekit.mongo import Mongo
from servicekit.problems import Problem, answer, of_the_database

log = structlog.get_logger()

COLLECTION = "idempotency_keys"
INDEXES = (IndexModel("at", expireAfterSeconds=86_400),)
BODY_LIMIT = 256 * 1024
_RUNNING_FOR = timedelta(seconds=60)
_KEY_LIMIT = 255
_MENDED_BY_A_HEADER = (412, 415)
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key is answered like the first time, for 24 hours, but after 5xx, 412 and 415; "
    "with another request 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _KEY_LIMIT},
}
_REPLAYED_HEADER = {
    "description": "`true` if this is the answer of the first time",
    "schema": {"type": "string", "enum": ["true"]},
}
_MOST_UNSAVED = 10_000
Stored = dict[str, Any]
"""An answer: status, headers, body."""


class TooLarge(Exception):
    pass


def document(post: dict[str, Any]) -> None:
    """In the OpenAPI operation of a POST; no route declares what is kept and answered before it."""
    post.setdefault("parameters", []).append(KEY_PARAMETER)
    for status, response in post["responses"].items():
        if status[0] in "24":
            headers = response.get("headers", {}) | {"Idempotency-Replayed": _REPLAYED_HEADER}
            post["responses"][status] = response | {"headers": headers}


class RequestGuard:
    """ASGI middleware: bounds bodies, and answers a repeated POST with the first one's answer.

    streamed: paths whose bodies may be large and are read by their route as they come. Nobody here can tell
    whether such a body is the same again (only its length is known), so that nothing is kept of them but that
    one is running: their routes know a key that was used before.
    """

    def __init__(
        self,
        app: ASGIApp,
        mongo: Mongo,
        instance: str,
        streamed: Names[str] = (),
        limit: int = BODY_LIMIT,
    ) -> None:
        self._app = app
        self._mongo = mongo
        self._runner = {"instance": instance, "life": uuid4().hex}
        self._streamed = frozenset(streamed)
        self._limit = limit
        self._unsaved: dict[str, Stored | None] = {}
        """What could not be written when a request ended: its answer, or None if it is to run again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._guarded(scope, receive, send)
        except ClientDisconnect:
            # Before all of the body had come: nobody waits for an answer.
            log.info("a request broke off", path=scope["path"])

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        body = b""
        if scope["path"] not in self._streamed:
            try:
                body = await self._read(receive, headers)
            except TooLarge:
                problem = Problem(
                    413, "too-large", "The body is too large", f"At most {self._limit} bytes are taken."
                )
                await answer(problem)(scope, receive, send)
                return
            receive = _replayed(body, receive)
        keys = [value for name, value in scope["headers"] if name.lower() == b"idempotency-key"]
        if scope["method"] != "POST" or not keys:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(keys, headers.get(b"content-length", b""), body, scope, receive, send)
        except PyMongoError as error:
            # Nothing was sent yet: an answer is kept before it goes.
            await of_the_database(error)(scope, receive, send)

    async def _read(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            raise TooLarge
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise TooLarge
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def _once(
        self, keys: Sequence[bytes], length: bytes, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if len(keys) > 1 or not 1 <= len(keys[0]) <= _KEY_LIMIT:
            rule = f"It takes one, of 1 to {_KEY_LIMIT} characters."
            problem = Problem(400, "bad-idempotency-key", "Idempotency-Key cannot be used", rule)
            await answer(problem)(scope, receive, send)
            return
        id_ = keys[0].decode("latin-1")
        target = (scope["path"].encode(), scope["query_string"])
        said = _said(body) or (length if scope["path"] in self._streamed else b"", body)
        refusal = await self._claim(id_, _hash(*target, length, body), _hash(*target, *said))
        if isinstance(refusal, Problem):
            await answer(refusal)(scope, receive, send)
            return
        if refusal is not None:
            await _send_stored(refusal, send)
            return
        await self._run(id_, scope, receive, send)

    async def _claim(self, id_: str, written: str, said: str) -> Problem | Stored | None:
        """None when this request is the first; else what to answer instead of running it.

        It is known by what it says, and by how it was written: all that replicas of before know of it.
        """
        now = real_now()
        record = {
            "_id": id_,
            "fingerprint": written,
            "said": said,
            "state": "running",
            "at": now,
            "by": self._runner,
        }
        try:
            await self._mongo[COLLECTION].insert_one(record)
            return None
        except DuplicateKeyError:
            pass
        stored = await self._mongo[COLLECTION].find_one({"_id": id_})
        if stored is None:
            return await self._claim(id_, written, said)
        if stored["fingerprint"] not in (written, said) and stored.get("said") != said:
            return Problem(
                422,
                "idempotency-key-reused",
                "Idempotency-Key was used before",
                "Another request carried it.",
            )
        if stored["state"] == "done":
            answer_: Stored = stored["answer"]
            return answer_
        if stored["by"] == self._runner and id_ in self._unsaved:
            return await self._save_late(id_)
        earlier_life = {
            "by.instance": self._runner["instance"],
            "by.life": {"$ne": self._runner["life"]},
        }
        taken_over = await self._mongo[COLLECTION].update_one(
            {
                "_id": id_,
                "state": "running",
                "$or": [{"at": {"$lt": now - _RUNNING_FOR}}, earlier_life],
            },
            {"$set": {"at": now, "by": self._runner}},
        )
        if taken_over.modified_count:
            return None
        return Problem(
            409, "in-progress", "The first request with this key is still running", "Try again shortly."
        )

    async def _run(self, id_: str, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        chunks: list[bytes] = []

        async def keep(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                chunks.append(message.get("body", b""))

        try:
            await self._app(scope, receive, keep)
        except BaseException:
            await self._end(id_, None)
            raise
        body = b"".join(chunks)
        headers = [list(pair) for pair in start["headers"]]
        done: Stored = {"status": start["status"], "headers": headers, "body": body}
        status = start["status"]
        keeps = status < 500 and status not in _MENDED_BY_A_HEADER and scope["path"] not in self._streamed
        await self._end(id_, done if keeps else None)
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _end(self, id_: str, done: Stored | None) -> None:
        """Save the answer, or forget the request. If the database is away, this process remembers it."""
        try:
            await self._save(id_, done)
        except PyMongoError as error:
            log.warning("an answer is saved later", error=type(error).__name__)
            if len(self._unsaved) >= _MOST_UNSAVED:
                self._unsaved.pop(next(iter(self._unsaved)))
            self._unsaved[id_] = done

    async def _save_late(self, id_: str) -> Stored | None:
        done = self._unsaved[id_]
        if done is not None:
            await self._save(id_, done)
        self._unsaved.pop(id_, None)
        return done

    async def _save(self, id_: str, done: Stored | None) -> None:
        if done is None:
            await self._mongo[COLLECTION].delete_one({"_id": id_, "state": "running"})
        else:
            saved = {"$set": {"state": "done", "answer": done}}
            await self._mongo[COLLECTION].update_one({"_id": id_}, saved)


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _said(body: bytes) -> tuple[bytes] | None:
    """JSON whose members stand in another order, or further apart, says the same."""
    try:
        # Not orjson: it takes numbers of twenty digits for each other, and reads deeper than it writes.
        return (json.dumps(json.loads(body), sort_keys=True).encode(),)
    except (ValueError, RecursionError):
        return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _send_stored(stored: Stored, send: Send) -> None:
    headers = [*stored["headers"], (b"idempotency-replayed", b"true")]
    await send({"type": "http.response.start", "status": stored["status"], "headers": headers})
    await send({"type": "http.response.body", "body": stored["body"]})
