"""The use cases on a real database, without topics: for tests that need thousands of steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from contracts import Message
from contracts.channel_sms import InteractionRecorded
from servicekit.clock import StoppedClock
from servicekit.delivery import Delivery
from servicekit.mongo import Mongo
from servicekit.verdict import Outcome
from stats.composition import Books
from stats.domain.counters import Recount, canonical
from stats.settings import Settings
from tests.engines import Engines
from tests.stats.memory import MemoryMongo
from tests.stats.samples import THEN


def delivered(message: Message) -> Delivery[Any]:
    return Delivery(message, {"ce_time": THEN.isoformat().encode()}, None)


def recount(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    counting = Recount()
    for row in rows:
        counting.add(row)
    return counting.channels()


@dataclass
class Parts:
    mongo: Mongo
    clock: StoppedClock
    books: Books

    async def tell(self, messages: Sequence[InteractionRecorded]) -> list[Outcome]:
        return await self.books.record_interactions[0]([delivered(message) for message in messages])

    async def channels(self) -> dict[str, Any]:
        """What the counters say, without what is never or nothing."""
        found = {row["_id"]: canonical(row.get("channels")) async for row in self.mongo["targets"].find()}
        return {target: channels for target, channels in found.items() if channels}

    async def recounted(self) -> dict[str, Any]:
        rows = [row async for row in self.mongo["ledger"].find()]
        return {target: canonical(channels) for target, channels in recount(rows).items()}

    async def clear(self) -> None:
        for collection in (
            "ledger",
            "targets",
            "report_cells",
            "agent_cells",
            "counting",
            "recalculations",
            "changed_targets",
        ):
            await self.mongo[collection].delete_many({})


async def parts(engines: Engines, namespace: str, **settings: Any) -> Parts:
    made = Settings(
        kafka_bootstrap_servers=engines.kafka,
        mongo_url=engines.mongo,
        namespace=namespace,
        instance="parts-0",
        **settings,
    )
    mongo = Mongo(made.mongo_url, made.database("stats"), made.mongo_driver)
    await mongo.ensure_indexes(Books.indexes)
    return _over(mongo, made)


def parts_in_memory() -> Parts:
    return _over(MemoryMongo(), Settings(namespace="memory", instance="parts-0"))


def _over(mongo: Mongo, settings: Settings) -> Parts:
    clock = StoppedClock(THEN)
    return Parts(mongo, clock, Books(settings, mongo, clock, fresh_for=0))
