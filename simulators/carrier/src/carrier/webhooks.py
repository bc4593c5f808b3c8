"""Delivers signed webhooks, some of them several times, each until somebody answers 2xx.

What is refused with 4xx is not brought again before the next start. What nobody answers rests outside of the
workers, and is tried again at a rate that leaves room for what else is to be delivered.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import aiohttp
import structlog
from yarl import URL

from carrier.signature import signature

log = structlog.get_logger()

_LEAST_SECONDS, _MOST_SECONDS = 0.05, 2.0
_TRIED_AGAIN_A_SECOND = 100
_MOST_SECONDS_IN_TURN = 20.0
_LATER = frozenset({408, 429})
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Webhook:
    url: str
    form: dict[str, str]
    copies: int
    delivered: Callable[[], None]
    delay: float = _LEAST_SECONDS
    """How long it rests when nobody answers; doubles each time."""


def _nothing() -> None:
    """A further copy owes nothing."""


class Webhooks:
    def __init__(self, token: str, connections: int) -> None:
        self._token = token
        self._connections = connections
        self._queue: asyncio.Queue[Webhook] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._resting = 0
        self.counts: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        return self._queue.qsize() + self._resting

    def send(self, webhook: Webhook) -> None:
        self._queue.put_nowait(webhook)

    def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._connections)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def _work(self) -> None:
        while True:
            webhook = await self._queue.get()
            body = urlencode(webhook.form).encode()
            headers = {**_HEADERS, "X-Twilio-Signature": signature(self._token, webhook.url, webhook.form)}
            status = await self._post(webhook.url, body, headers)
            self.counts[str(status)] += 1
            if 200 <= status < 300:
                webhook.delivered()
                if webhook.copies > 1:
                    self.send(replace(webhook, copies=webhook.copies - 1, delivered=_nothing))
            elif not 400 <= status < 500 or status in _LATER:
                self._rest(webhook)

    def _rest(self, webhook: Webhook) -> None:
        again = replace(webhook, delay=min(webhook.delay * 2, _MOST_SECONDS))
        self._resting += 1
        # However many rest, no more of them a second are tried again; unless that would take too long.
        seconds = webhook.delay + min(self._resting / _TRIED_AGAIN_A_SECOND, _MOST_SECONDS_IN_TURN)

        def back() -> None:
            self._resting -= 1
            self.send(again)

        asyncio.get_running_loop().call_later(seconds, back)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """The status, or 0 when there was no answer."""
        try:
            async with self._session.post(
                URL(url), data=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0
