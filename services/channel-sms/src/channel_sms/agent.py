"""The automated agent behind one interface. It is asked outside any transaction and may be asked again."""

from __future__ import annotations

from typing import Protocol

from channel_sms.domain.dialogue import Answer, Turn


class Agent(Protocol):
    async def answer(self, turn: Turn) -> Answer:
        """Never raises for what a contact wrote; hands over instead."""
        ...
