"""Which interaction types count for which types of target."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from servicekit.mongo import Document, Mongo
from stats.adapters.mongo_ledger import LEDGER

COUNTING = "counting"
ANY = "*"


@dataclass(frozen=True, slots=True)
class Rules:
    """The setting of the pair wins over that of the target type, and that over the deployment's."""

    opted_in: frozenset[str]
    settings: Mapping[tuple[str, str], bool]

    def counts(self, target_type: str, interaction_type: str) -> bool:
        if not self.settings:
            return target_type in self.opted_in
        for key in ((target_type, interaction_type), (target_type, ANY)):
            if key in self.settings:
                return self.settings[key]
        return target_type in self.opted_in


class Counting:
    """The rules as every replica sees them, at most `fresh_for` seconds old.

    A row that was held back by an outdated rule is found by the background task that settles waiting rows.
    """

    def __init__(self, mongo: Mongo, opted_in: frozenset[str], fresh_for: float = 0.5) -> None:
        self._mongo = mongo
        self._opted_in = opted_in
        self._fresh_for = fresh_for
        self._rules = Rules(opted_in, {})
        self._read_at = float("-inf")

    async def rules(self) -> Rules:
        if time.monotonic() - self._read_at > self._fresh_for:
            settings = await self.settings()
            self._rules = Rules(
                self._opted_in,
                {(row["target_type"], row["interaction_type"]): row["enabled"] for row in settings},
            )
            self._read_at = time.monotonic()
        return self._rules

    async def settings(self) -> list[Document]:
        return [row async for row in self._mongo[COUNTING].find().sort("_id", 1)]

    async def waiting(self, target_type: str, interaction_type: str) -> int:
        """Rows that are held back, or that nobody has come round to yet."""
        of_the_type = {"target": {"$gt": f"{target_type}/", "$lt": f"{target_type}0"}}
        wanted: Document = {"waits": "enabling", "$or": [of_the_type, {"erased": target_type}]}
        if interaction_type != ANY:
            wanted["type"] = interaction_type
        return int(await self._mongo[LEDGER].count_documents(wanted))

    async def set(self, target_type: str, interaction_type: str | None, enabled: bool, at: datetime) -> bool:
        """False if a newer setting stands."""
        name = interaction_type or ANY
        try:
            result = await self._mongo[COUNTING].update_one(
                {"_id": f"{target_type}/{name}", "set_at": {"$lt": at}},
                {
                    "$set": {
                        "target_type": target_type,
                        "interaction_type": name,
                        "enabled": enabled,
                        "set_at": at,
                    }
                },
                upsert=True,
            )
        except DuplicateKeyError:
            return False
        self._read_at = float("-inf")
        return bool(result.matched_count or result.upserted_id)
