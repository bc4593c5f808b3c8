"""The part of the catalogue that a batch may name, from the service's own copy."""

from __future__ import annotations

from batch_loader.domain.choices import Catalog, Item
from contracts.vocabulary import CampaignState
from servicekit.projection import Projection


class MongoCatalog:
    def __init__(
        self,
        campaigns: Projection,
        subjects: Projection,
        endpoints: Projection,
        agent_profiles: Projection,
        channels: frozenset[str],
    ) -> None:
        self._channels = channels
        self._campaigns = campaigns
        self._subjects = subjects
        self._endpoints = endpoints
        self._agent_profiles = agent_profiles

    async def __call__(self) -> Catalog:
        return Catalog(
            campaigns=await _items(self._campaigns),
            subjects=await _items(self._subjects),
            endpoints=await _items(self._endpoints),
            agent_profiles=await _items(self._agent_profiles),
            channels=self._channels,
        )


async def _items(projection: Projection) -> tuple[Item, ...]:
    found = projection.collection.find(
        {"erased": {"$exists": False}}, {"code": 1, "channel": 1, "endpoint_id": 1, "state": 1}
    )
    return tuple(
        [
            Item(
                row["_id"],
                row["code"],
                row.get("channel"),
                row.get("endpoint_id"),
                row.get("state") == CampaignState.STOPPED,
            )
            async for row in found
        ]
    )
