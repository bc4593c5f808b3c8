from __future__ import annotations

from campaigns.domain.campaign import Move, moved
from campaigns.domain.kinds import CAMPAIGN
from campaigns.ports import CatalogStores
from contracts.campaigns import CampaignChanged
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Commands
from servicekit.verdict import Verdict


class MoveCampaign:
    def __init__(self, stores: CatalogStores, campaigns: Commands[CampaignChanged]) -> None:
        self._stores = stores
        self._campaigns = campaigns

    async def __call__(self, code_or_id: str, move: Move, version: int | None = None) -> CampaignChanged:
        """version: the one the caller saw. Raises NotFound, VersionMoved, IllegalMove."""
        known = await self._stores.get(CAMPAIGN, code_or_id)
        if known is None:
            raise NotFound("campaign", code_or_id)

        def decide(campaign: CampaignChanged | None) -> Verdict[CampaignChanged]:
            assert campaign is not None
            return moved(campaign, move)

        campaign, _ = await self._campaigns.change(known.campaign_id, decide, expected=version)
        assert campaign is not None
        return campaign
