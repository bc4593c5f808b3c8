"""Delivers signed webhooks, some of them several times, each until somebody answers 2xx."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp
import structlog
from yarl import URL

from carrier.signature import signature

log = structlog.get_logger()

_MOST_SECONDS = 2.0
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Webhook:
    url: str
    form: dict[str, str]
    copies: int
    delivered: Callable[[], None]


class Webhooks:
    def __init__(self, token: str, connections: int) -> None:
        self._token = token
        self._connections = connections
        self._queue: asyncio.Queue[Webhook] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.counts: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

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
            for copy in range(webhook.copies):
                taken = await self._deliver(webhook, body, headers)
                if copy == 0 and taken:
                    webhook.delivered()

    async def _deliver(self, webhook: Webhook, body: bytes, headers: dict[str, str]) -> bool:
        """Whether it was taken. One that is refused is not sent again before the next start."""
        delay = 0.05
        while True:
            status = await self._post(webhook.url, body, headers)
            self.counts[str(status)] += 1
            if 200 <= status < 500:
                return status < 300
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MOST_SECONDS)

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
