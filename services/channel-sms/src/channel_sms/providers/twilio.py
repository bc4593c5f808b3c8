"""Twilio's Messages resource. The simulated carrier speaks it too, at another address.

It has no idempotency key, and a retry after a 5xx may send twice: so one request per call, and what
came of it is told apart by whether the body was written and by the status alone.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload
from yarl import URL

from channel_sms.provider import Accepted, Ambiguous, LookUpFailed, NotSent, Promise, Refused, Result, Text

_CREDENTIALS_RETRY = 30.0
_PAGES = 20


class TooLate(Exception):
    """The time in which this request may be written has passed."""


class _OneWrite(BytesPayload):
    """A body that knows whether it went to the socket, and refuses to when it is too late.

    The last look at the clock is here because a process may be stopped between any two lines, and
    somebody else has then long been asked what became of this message.
    """

    def __init__(self, body: bytes, before: float) -> None:
        super().__init__(body, content_type="application/x-www-form-urlencoded")
        self._before = before
        self.begun = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if time.monotonic() >= self._before:
            raise TooLate
        self.begun = True
        await super().write_with_length(writer, content_length)


class Twilio:
    """url: the API's base. callback(intent_id) -> where status callbacks for that intent are received."""

    promise = Promise.LOOK_UP

    def __init__(
        self,
        name: str,
        url: str,
        account_sid: str,
        auth_token: str,
        callback: Callable[[str], str],
        timeout: float,
        connections: int,
        absence_proves_after: float | None,
    ) -> None:
        self.name = name
        self.absence_proves_after = absence_proves_after
        base = url.rstrip("/")
        self._base = base
        self._messages = URL(f"{base}/2010-04-01/Accounts/{account_sid}/Messages.json", encoded=True)
        credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Accept": "application/json"}
        self._callback = callback
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 5.0))
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def send(self, text: Text, before: float) -> Result:
        form = (
            f"To={quote_plus(text.to)}&From={_quoted(text.sender)}&Body={quote_plus(text.body)}"
            f"&StatusCallback={quote_plus(self._callback(text.intent_id))}&ValidityPeriod={text.validity_seconds}"
        )
        body = _OneWrite(form.encode(), before)
        try:
            async with self._http().post(
                self._messages, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                return classify(response.status, response.headers.get("Retry-After"), await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, TooLate) as error:
            why = type(error).__name__
            return Ambiguous(why) if body.begun else NotSent(why, everybody=True)

    async def look_up(self, text: Text, earliest: datetime) -> Sequence[str]:
        query = {
            "To": text.to,
            "From": text.sender,
            "DateSent>": earliest.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "PageSize": "100",
        }
        url = URL(f"{self._messages}?{urlencode(query, quote_via=quote)}", encoded=True)
        found: list[tuple[datetime, str]] = []
        for _ in range(_PAGES):
            page = await self._page(url)
            for message in page["messages"]:
                created = parsedate_to_datetime(message["date_created"])
                # The API tells whole seconds.
                if message["body"] == text.body and created >= earliest.replace(microsecond=0):
                    found.append((created, message["sid"]))
            if not page.get("next_page_uri"):
                return [sid for _, sid in sorted(found)]
            url = URL(self._base + page["next_page_uri"], encoded=True)
        raise LookUpFailed("too many pages")

    async def _page(self, url: URL) -> Any:
        try:
            async with self._http().get(url, headers=self._headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise LookUpFailed(f"status {response.status}")
                return orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise LookUpFailed(type(error).__name__) from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=60),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)


_quoted = lru_cache(maxsize=1000)(quote_plus)


def classify(status: int, retry_after: str | None, body: bytes) -> Result:
    """What an answer proves."""
    if status in (200, 201):
        try:
            return Accepted(str(orjson.loads(body)["sid"]))
        except (ValueError, KeyError, TypeError):
            return Ambiguous("accepted without an id")
    if status == 429:
        return NotSent("429", retry_after=_seconds(retry_after), everybody=True)
    if status in (401, 403):
        return NotSent("credentials were not accepted", retry_after=_CREDENTIALS_RETRY, everybody=True)
    if 400 <= status < 500 and status != 408:
        return Refused(*_error(status, body))
    return Ambiguous(f"status {status}")


def _error(status: int, body: bytes) -> tuple[str, str]:
    try:
        error = orjson.loads(body)
        return str(error["code"]), str(error.get("message", ""))[:200]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"http-{status}", ""


def _seconds(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or 1), 0.0), 3600.0)
    except ValueError:
        return 1.0
