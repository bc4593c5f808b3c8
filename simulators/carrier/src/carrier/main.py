"""The carrier's process."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from carrier.api import Api
from carrier.clock import Clock
from carrier.control import Control
from carrier.journal import Journal
from carrier.network import Network
from carrier.settings import BadSettings, Settings
from carrier.webhooks import Webhooks

log = structlog.get_logger()


class Carrier:
    """A running carrier."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.journal = Journal(settings.journal)
        self.webhooks = Webhooks(settings.auth_token, settings.webhook_connections)
        self.network = Network(
            settings.behaviour(),
            settings.account_sid,
            settings.inbound_url,
            self.journal,
            self.webhooks,
            Clock(settings.clock_file),
        )
        self.api = Api(self.network, settings.account_sid, settings.auth_token)
        control = Control(self.network, self.api, self.journal, self._go_dark)
        self._app = web.Application(client_max_size=64 * 1024)
        self._app.add_routes([*self.api.routes(), *control.routes()])
        self._dark: asyncio.Task[None] | None = None
        self.port = settings.port

    @property
    def url(self) -> str:
        return f"http://{self._settings.host}:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Carrier]:
        """Serve until the block ends; what is still owed is in the journal."""
        self.webhooks.start()
        self.network.restore()
        working = asyncio.create_task(self.network.run(), name="network")
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await self._listen()
        try:
            yield self
        finally:
            if self._dark is not None:
                self._dark.cancel()
            await self._runner.cleanup()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await self.webhooks.close()
            await self.journal.close()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, self._settings.host, self.port, reuse_address=True)
        await self._site.start()
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    def _go_dark(self, seconds: float) -> None:
        self._dark = asyncio.create_task(self._stay_dark(seconds))

    async def _stay_dark(self, seconds: float) -> None:
        await self._site.stop()
        server = self._runner.server
        for connection in list(server.connections) if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(seconds)
        await self._listen()


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Carrier(settings).running() as carrier:
        log.info("carrier ready", port=carrier.port, accepted=len(carrier.network.messages.by_sid))
        await stopping.wait()
    log.info("carrier stopped")


def run() -> None:
    """The entry point: exit 0 after SIGTERM, 78 for what only a person can mend."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    try:
        settings = Settings.from_environment()
    except BadSettings as wrong:
        sys.stderr.write(f"parley-carrier: {wrong}\n")
        sys.exit(78)
    try:
        import uvloop

        uvloop.run(_serve(settings))
    except OSError as error:
        sys.stderr.write(
            f"parley-carrier: cannot listen on {settings.host}:{settings.port}: {error.strerror}\n"
        )
        sys.exit(78)
