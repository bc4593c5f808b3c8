"""A command over REST is carried out, and then told on the topic of commands like all others.

So the topics have everything that a rebuild needs, whether Kafka was there at that moment or not. The service
reads its own command back, and for the second time it changes nothing.
"""

from __future__ import annotations

from servicekit.outbox import Outbox
from servicekit.verdict import GiveUp
from stats.use_cases.obey_commands import Command, ObeyCommands


class Refusal(Exception):
    """The command cannot be carried out; the message says why. Nothing is told."""


class CommandOverRest:
    def __init__(self, obey: ObeyCommands, outbox: Outbox) -> None:
        self._obey = obey
        self._outbox = outbox

    async def __call__(self, command: Command) -> None:
        """Raises Refusal. Whoever gets no answer asks again: nothing is done twice."""
        outcome = await self._obey.obey(command)
        if isinstance(outcome, GiveUp):
            raise Refusal(str(outcome.detail or outcome.reason))
        await self._outbox.insert([self._outbox.row(command)])
        self._outbox.written.set()
