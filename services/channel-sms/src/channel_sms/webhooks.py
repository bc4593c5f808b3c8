"""The doors that a provider knocks at. Plain Starlette routes: they are the busiest of this service.

A forged or malformed request is answered 403, a genuine one 2xx as soon as it is stored; an opt-out when,
besides, nothing can be written to its number any more: who is told that it was taken is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from urllib.parse import unquote_to_bytes

import structlog
from fastapi import APIRouter
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response

from channel_sms.adapters.mongo_inbound import MongoIntake
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.domain.wording import Meaning, meaning_of
from channel_sms.signature import is_genuine
from servicekit.clock import Clock, real_now
from servicekit.leases import bucket_of
from servicekit.tracing import current_traceparent

log = structlog.get_logger()

INBOUND_PATH = "/v1/webhooks/sms/inbound"
STATUS_PATH = "/v1/webhooks/sms/status/"
_NOTHING_TO_SAY = b'<?xml version="1.0" encoding="UTF-8"?><Response></Response>'
_MOST_FIELDS = 100
_TEXT_LIMIT = 20_000


class Rejected(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Webhooks:
    def __init__(
        self,
        inbound: MongoIntake,
        receipts: MongoIntake,
        intents: MongoIntents,
        public_url: Callable[[], str],
        tokens: tuple[str, ...],
        clock: Clock,
        rejected: Counter,
        write_window: timedelta,
    ) -> None:
        """write_window: how long after its claim a text may still be written to a socket."""
        self._inbound = inbound
        self._receipts = receipts
        self._intents = intents
        self._write_window = write_window
        self._public_url = public_url
        self._tokens = tokens
        self._clock = clock
        self._rejected = rejected

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_route(INBOUND_PATH, self.receive_inbound, methods=["POST"], include_in_schema=False)
        router.add_route(
            STATUS_PATH + "{intent_id}", self.receive_status, methods=["POST"], include_in_schema=False
        )
        return router

    async def receive_inbound(self, request: Request) -> Response:
        try:
            form = await self._genuine(request)
            id_, sender, to = (_needed(form, name) for name in ("MessageSid", "From", "To"))
        except Rejected as rejected:
            return self._refuse(rejected.reason)
        text = form.get("Body", "")[:_TEXT_LIMIT]
        await self._inbound.store(
            {
                "_id": id_,
                "sender": sender,
                "to": to,
                "text": text,
                "received_at": self._clock.now(),
                "stored_real_at": real_now(),
                "state": "new",
                "trace": current_traceparent.get(),
                "b": bucket_of(sender.encode()),
            }
        )
        if meaning_of(text) is Meaning.OPT_OUT:
            # What is claimed from now on sees that something of theirs is unheard.
            await self._intents.none_is_being_sent_to({sender}, self._write_window)
        return Response(_NOTHING_TO_SAY, media_type="text/xml")

    async def receive_status(self, request: Request) -> Response:
        intent_id: str = request.path_params["intent_id"]
        try:
            form = await self._genuine(request)
            sid, status = _needed(form, "MessageSid"), _needed(form, "MessageStatus")
        except Rejected as rejected:
            return self._refuse(rejected.reason)
        await self._receipts.store(
            {
                "_id": f"{intent_id}:{sid}:{status}",
                "intent_id": intent_id,
                "sid": sid,
                "status": status,
                "error_code": form.get("ErrorCode"),
                "stored_real_at": real_now(),
                "b": bucket_of(intent_id.encode()),
            }
        )
        return Response(status_code=204)

    async def _genuine(self, request: Request) -> Mapping[str, str]:
        """The form, if it is signed for the address it was sent to. Raises Rejected."""
        scope = request.scope
        told = next((value for name, value in scope["headers"] if name == b"x-twilio-signature"), None)
        if told is None:
            raise Rejected("unsigned")
        try:
            form = parsed(await request.body())
            query = scope["query_string"].decode("ascii")
            url = f"{self._public_url()}{scope['path']}{'?' if query else ''}{query}"
            genuine = is_genuine(told, self._tokens, url, form)
        except ValueError as error:
            raise Rejected("malformed") from error
        if not genuine:
            raise Rejected("forged")
        return form

    def _refuse(self, reason: str) -> Response:
        self._rejected.labels(reason).inc()
        log.warning("a webhook was rejected", reason=reason)
        return Response(status_code=403)


def parsed(body: bytes) -> dict[str, str]:
    """A urlencoded form. Raises ValueError for what is none, or says one thing twice."""
    pairs = body.split(b"&") if body else []
    if len(pairs) > _MOST_FIELDS:
        raise ValueError("too many fields")
    form: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        key = _unquoted(name)
        if key in form:
            raise ValueError("a repeated field")
        form[key] = _unquoted(value)
    return form


def _unquoted(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return raw.decode("utf-8")


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value or len(value) > 200:
        raise Rejected("missing_field")
    return value
