"""A database rebuilt from the beginning of the topics has the same numbers; a rewind changes none."""

from __future__ import annotations

from servicekit.mongo import Mongo
from stats.rebuild import differences, rebuild
from stats.settings import Settings
from tests.stats.conftest import Line
from tests.stats.samples import changed, contact_changed, interaction, name


async def test_a_rebuild_from_the_topics_equals_the_live_numbers(line: Line) -> None:
    contact, other = name(), name()
    first, second = interaction(contact), interaction(other, direction="incoming")
    await line.tell(contact_changed(contact), first, second)
    await line.tell(changed(first, direction="incoming"), changed(second, deleted=True))
    settings = line.service.settings
    assert isinstance(settings, Settings)
    fresh = Mongo(settings.mongo_url, f"{settings.database('stats')}-fresh", settings.mongo_driver)
    try:
        assert await rebuild(settings, fresh) > 0
        # What other tests did with commands about their own targets depends on when they came.
        found = {target: both async for target, *both in differences(line.service.mongo, fresh)}
        assert not {target for target in found if target in (f"contact/{contact}", f"contact/{other}")}
        await fresh["targets"].update_one({"_id": f"contact/{contact}"}, {"$set": {"channels.sms.in": 9}})
        found = {target: both async for target, *both in differences(line.service.mongo, fresh)}
        assert f"contact/{contact}" in found
    finally:
        await fresh.database.client.drop_database(fresh.database.name)
        await fresh.close()
