"""What a test or a demonstration may ask of the carrier; a real one has no such door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrier.api import Api
from carrier.journal import Journal
from carrier.network import Network


class Text(BaseModel):
    """A text that a person sends: from their number, to one of ours."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    sender: str = Field(alias="from")
    to: str
    body: str


class Outage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(gt=0, le=600)


class Control:
    def __init__(
        self, network: Network, api: Api, journal: Journal, go_dark: Callable[[float], None]
    ) -> None:
        self._network = network
        self._api = api
        self._journal = journal
        self._go_dark = go_dark

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/stats", self.stats),
            web.get("/control/behaviour", self.behaviour),
            web.post("/control/behaviour", self.change_behaviour),
            web.post("/control/inbound", self.inbound),
            web.post("/control/outage", self.outage),
        ]

    async def stats(self, _: web.Request) -> web.Response:
        return _json(
            {
                **self._network.stats(),
                "answers": dict(self._api.answers),
                "journal": str(self._journal.path.resolve()),
            }
        )

    async def behaviour(self, _: web.Request) -> web.Response:
        return _json(self._network.behaviour.model_dump())

    async def change_behaviour(self, request: web.Request) -> web.Response:
        """Change some of the behaviour; what is not named stays."""
        try:
            behaviour = await self._network.behave(orjson.loads(await request.read()))
        except (ValidationError, TypeError, ValueError) as wrong:
            return _json({"message": str(wrong)}, 422)
        return _json(behaviour.model_dump())

    async def inbound(self, request: web.Request) -> web.Response:
        try:
            text = Text.model_validate_json(await request.read())
        except ValidationError as wrong:
            return _json({"message": str(wrong)}, 422)
        return _json({"sid": await self._network.say(text.sender, text.to, text.body)}, 201)

    async def outage(self, request: web.Request) -> web.Response:
        """Refuse every connection for a while, this door's included."""
        try:
            outage = Outage.model_validate_json(await request.read())
        except ValidationError as wrong:
            return _json({"message": str(wrong)}, 422)
        asyncio.get_running_loop().call_later(0.05, self._go_dark, outage.seconds)
        return _json({"seconds": outage.seconds}, 202)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
