"""A command over REST is carried out, and then told on the topic of commands like all others.

So the topics have everything that a rebuild needs. The service reads its own command back, and for the second
time it changes nothing. Whoever is not told that it was done asks again, and it is told then.
"""

from __future__ import annotations

from contracts.message import wire_headers
from servicekit.clock import Clock
from servicekit.producer import Outgoing, Producer
from servicekit.settings import ServiceSettings
from servicekit.verdict import GiveUp
from stats.use_cases.obey_commands import Command, ObeyCommands


class Refusal(Exception):
    """The command cannot be carried out; the message says why. Nothing is told."""


class CommandOverRest:
    def __init__(
        self, obey: ObeyCommands, producer: Producer, clock: Clock, settings: ServiceSettings
    ) -> None:
        self._obey = obey
        self._producer = producer
        self._clock = clock
        self._settings = settings

    async def __call__(self, command: Command) -> None:
        """Raises Refusal; NotPublished if it was done and could not be told."""
        outcome = await self._obey.obey(command)
        if isinstance(outcome, GiveUp):
            raise Refusal(str(outcome.detail.get("error", outcome.reason)))
        topic = self._settings.prefixed(command.wire.topic.name)
        time = self._clock.now().isoformat().replace("+00:00", "Z")
        headers = wire_headers(command, "parley/stats", time)
        record = Outgoing(topic, command.key().encode(), command.to_json(), headers)
        await self._producer.publish_all([record])
