"""Our own copy of the catalogue, small enough to be held whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from activities.domain.catalog import Catalog, Item
from contracts.campaigns import (
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    PolicyChanged,
    SubjectChanged,
)
from servicekit.mongo import Document
from servicekit.projection import Projection
from servicekit.verdict import Outcome

KINDS: dict[str, type[Item]] = {
    "subject": SubjectChanged,
    "disposition": DispositionChanged,
    "campaign": CampaignChanged,
    "endpoint": EndpointChanged,
    "policy": PolicyChanged,
}
_KIND_OF = {message: kind for kind, message in KINDS.items()}
_FRESH_SECONDS = 0.5


def keep_item(message: Any) -> Document:
    return {"kind": _KIND_OF[type(message)], "body": message.to_json()}


class MongoCatalog:
    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._parsed: dict[str, tuple[int, Item]] = {}
        self._catalog = Catalog()
        self._good_until = 0.0
        self._reading = asyncio.Lock()

    async def __call__(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        """The batch handler of the topic: what this process has just learned it knows at once."""
        outcomes = await self._projection(batch)
        self._good_until = 0.0
        return outcomes

    async def read(self) -> Catalog:
        """At most half a second old: a paused campaign stops within that."""
        async with self._reading:
            if time.monotonic() >= self._good_until:
                self._good_until = time.monotonic() + _FRESH_SECONDS
                try:
                    await self._refresh()
                except BaseException:
                    self._good_until = 0.0
                    raise
        return self._catalog

    async def _refresh(self) -> None:
        known = {id_: version for id_, (version, _) in self._parsed.items()}
        versions: dict[str, int] = {
            row["_id"]: row["version"]
            async for row in self._projection.collection.find(
                {"erased": {"$exists": False}}, {"version": True}
            )
        }
        if versions == known:
            return
        newer = [id_ for id_, version in versions.items() if known.get(id_) != version]
        parsed = {id_: item for id_, item in self._parsed.items() if id_ in versions}
        async for row in self._projection.collection.find({"_id": {"$in": newer}, "kind": {"$exists": True}}):
            parsed[row["_id"]] = row["version"], KINDS[row["kind"]].from_json(row["body"])
        self._parsed = parsed
        self._catalog = Catalog.of(item for _, item in parsed.values())
