"""A database rebuilt from the beginning of the topics has the same numbers; a rewind changes none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from servicekit.mongo import Mongo
from stats.rebuild import differences, rebuild
from stats.settings import Settings
from tests.stats.conftest import Line
from tests.stats.samples import changed, contact_changed, interaction, name


async def test_a_rebuild_from_the_topics_equals_the_live_numbers(line: Line) -> None:
    contact, other = name(), name()
    campaign = name("campaign")
    first = interaction(contact, campaign_id=campaign)
    second = interaction(other, direction="incoming")
    await line.tell(contact_changed(contact), first, second)
    await line.tell(changed(first, direction="incoming"), changed(second, deleted=True))
    settings = line.service.settings
    assert isinstance(settings, Settings)
    fresh = Mongo(settings.mongo_url, f"{settings.database('stats')}-fresh", settings.mongo_driver)
    try:
        assert await rebuild(settings, fresh) > 0
        # What other tests did with commands about their own targets depends on when they came.
        ours = (contact, other, first.interaction_id, second.interaction_id, campaign)
        assert not await differing(line, fresh, ours)
        await fresh["targets"].update_one({"_id": f"contact/{contact}"}, {"$set": {"channels.sms.in": 9}})
        await fresh["ledger"].update_one({"_id": f"sms/{second.interaction_id}"}, {"$set": {"agent": "ann"}})
        await fresh["report_cells"].update_many(
            {"campaign_id": campaign}, {"$inc": {"quarters.0.attempts_in": 1}}
        )
        found = await differing(line, fresh, ours)
        assert [each.split()[0] for each in found] == [f"contact/{contact}", "ledger", "report"]
    finally:
        await fresh.database.client.drop_database(fresh.database.name)
        await fresh.close()


async def differing(line: Line, fresh: Mongo, about: Sequence[str]) -> list[str]:
    """What differs and is about one of these."""
    found = [what async for what, _, _ in differences(line.service.mongo, fresh)]
    return [what for what in found if any(each in re.split(r"[/ ',\[\]]+", what) for each in about)]
