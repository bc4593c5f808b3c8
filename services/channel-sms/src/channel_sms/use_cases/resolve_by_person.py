"""A person decides whether a message was sent that nobody else can tell about."""

from __future__ import annotations

from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.domain.intent import Intent, IntentState
from channel_sms.domain.settling import Sent, Unsent
from channel_sms.use_cases.settle_sends import SettleSends, Settling
from servicekit.refusals import NotFound


class NotInDoubt(Exception):
    def __init__(self, intent: Intent) -> None:
        super().__init__(
            f"The intent is {intent.state.value}; only one that is unknown can be decided by a person."
        )


class ResolveByPerson:
    def __init__(self, intents: MongoIntents, settle: SettleSends) -> None:
        self._intents = intents
        self._settle = settle

    async def __call__(self, intent_id: str, *, sent: bool, actor: str) -> Intent:
        """Raises NotFound, NotInDoubt."""
        intent = await self._load(intent_id)
        if intent.state is not IntentState.UNKNOWN:
            raise NotInDoubt(intent)
        settlement = Sent(None, by=actor) if sent else Unsent("a person decided", by=actor)
        if not await self._settle([Settling(intent, settlement)]):
            raise NotInDoubt(await self._load(intent_id))
        return await self._load(intent_id)

    async def _load(self, intent_id: str) -> Intent:
        found = (await self._intents.load([intent_id])).get(intent_id)
        if found is None:
            raise NotFound("intent", intent_id)
        return found
