"""The REST API that customers use, shaped like Twilio's, with its ways of failing."""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from carrier.network import Network

_E164 = re.compile(r"^\+[1-9]\d{6,14}$")
_BAD_NUMBER = 21211
ACCEPTED_WITHIN = 10.0
"""Seconds. What waited longer, or whose customer has gone, is not accepted any more: a promise that Twilio
does not make, and that lets a customer conclude from what the list does not show."""


class Api:
    def __init__(self, network: Network, account_sid: str, auth_token: str) -> None:
        self._network = network
        self._account_sid = account_sid
        credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._authorization = f"Basic {credentials}"
        self._requests = 0
        self.accepts_within = ACCEPTED_WITHIN
        self.answers: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        path = f"/2010-04-01/Accounts/{self._account_sid}/Messages"
        return [
            web.post(f"{path}.json", self.send),
            web.get(f"{path}.json", self.find),
            web.get(path + r"/{sid:SM[0-9a-f]+}.json", self.get),
        ]

    async def send(self, request: web.Request) -> web.StreamResponse:
        came = time.monotonic()
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True))
        self._requests += 1
        behaviour = self._network.behaviour
        if not self._knows(request):
            return self._problem(401, 20003, "Authenticate")
        if behaviour.latency_ms:
            await asyncio.sleep(behaviour.latency_ms / 1000)
        fate = behaviour.draw("fate", form.get("StatusCallback", ""), str(self._requests))
        for share, failure in (
            (behaviour.rate_limited, "429"),
            (behaviour.error_before, "error_before"),
            (behaviour.reset_before, "reset_before"),
        ):
            fate -= share
            if fate < 0:
                return self._fail(request, failure)
        to, sender, text = form.get("To", ""), form.get("From", ""), form.get("Body", "")
        if not _E164.match(to) or behaviour.is_bad_number(to):
            return self._problem(400, _BAD_NUMBER, "The 'To' number is not a valid phone number.")
        if not sender:
            return self._problem(400, 21603, "A 'From' phone number is required.")
        if not text or len(text) > 1600:
            return self._problem(400, 21602, "Message body is required, 1600 characters at most.")
        if time.monotonic() - came > self.accepts_within or _has_gone(request):
            return self._fail(request, "given_up")
        message = await self._network.accept(to, sender, text, form.get("StatusCallback", ""))
        for share, failure in (
            (behaviour.error_after, "error_after"),
            (behaviour.reset_after, "reset_after"),
            (behaviour.timeout_after, "timeout_after"),
        ):
            fate -= share
            if fate < 0:
                if failure == "timeout_after":
                    await asyncio.sleep(behaviour.timeout_seconds)
                return self._fail(request, failure)
        self.answers["accepted"] += 1
        return _json(message.resource(self._account_sid), 201)

    async def find(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return self._problem(401, 20003, "Authenticate")
        query = request.query
        since = query.get("DateSent>")
        page = int(query.get("Page", "0"))
        size = min(int(query.get("PageSize", "50")), 1000)
        found = self._network.messages.find(
            query.get("To"), query.get("From"), None if since is None else _seconds(since)
        )
        shown = found[page * size : (page + 1) * size]
        following = request.rel_url.update_query(Page=str(page + 1), PageSize=str(size))
        return _json(
            {
                "messages": [message.resource(self._account_sid) for message in shown],
                "page": page,
                "page_size": size,
                "next_page_uri": str(following) if len(found) > (page + 1) * size else None,
            }
        )

    async def get(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return self._problem(401, 20003, "Authenticate")
        message = self._network.messages.by_sid.get(request.match_info["sid"])
        if message is None:
            return self._problem(404, 20404, "The requested resource was not found")
        return _json(message.resource(self._account_sid))

    def _knows(self, request: web.Request) -> bool:
        return hmac.compare_digest(request.headers.get("Authorization", ""), self._authorization)

    def _fail(self, request: web.Request, failure: str) -> web.Response:
        self.answers[failure] += 1
        match failure:
            case "429":
                response = _json({"code": 20429, "message": "Too Many Requests", "status": 429}, 429)
                response.headers["Retry-After"] = f"{self._network.behaviour.retry_after_seconds:g}"
                return response
            case "error_before" | "error_after" | "given_up":
                return _json({"code": 20500, "message": "Internal Server Error", "status": 500}, 500)
            case _:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)

    def _problem(self, status: int, code: int, message: str) -> web.Response:
        self.answers[str(code)] += 1
        more = f"https://www.twilio.com/docs/errors/{code}"
        return _json({"code": code, "message": message, "more_info": more, "status": status}, status)


def _has_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _seconds(told: str) -> float:
    moment = datetime.fromisoformat(told)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
