"""A database rebuilt from the beginning of the topics has the same numbers; a rewind changes none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from contracts.stats import MergeTargets, SetCounting
from servicekit.mongo import Mongo
from stats.domain.decisions import row_id
from stats.rebuild import differences, rebuild
from stats.settings import Settings
from tests.stats.conftest import NOW, Line
from tests.stats.samples import changed, contact_changed, decided, interaction, name


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


async def test_a_rebuild_obeys_commands_when_they_came(line: Line) -> None:
    ticket, loser, survivor = name("ticket"), name(), name()
    campaign = name("campaign")
    verdicts = [decided(loser, campaign_id=campaign) for _ in range(2)]
    about = [{"type": "ticket", "id": ticket}]
    counted, held_back = (interaction(name(), targets=about, campaign_id=campaign) for _ in range(2))
    cut = interaction(loser, targets=[{"id": loser}, {"id": survivor}])

    def counting(enabled: bool, second: int) -> SetCounting:
        return SetCounting(
            command_id=name(),
            target_type="ticket",
            enabled=enabled,
            occurred_at=NOW + timedelta(seconds=second),
        )

    await line.tell(counting(True, 1))
    await line.tell(counted, cut, verdicts[0])
    await line.tell(
        MergeTargets(command_id=name(), target_id=loser, survivor_id=survivor, occurred_at=NOW),
        counting(False, 2),
    )
    await line.tell(held_back, interaction(loser), verdicts[1])
    # What is commanded over REST is in the topics as well.
    other, gone = name(), name()
    await line.tell(interaction(other), interaction(gone, campaign_id=campaign))
    answer = await line.http.post(f"/v1/targets/contact/{other}/merge", json={"survivor_id": survivor})
    assert answer.status_code == 204, answer.text
    answer = await line.http.delete(f"/v1/targets/contact/{gone}")
    assert answer.status_code == 204, answer.text
    await line.at_rest()
    live = (await line.http.get(f"/v1/targets/ticket/{ticket}/stats")).json()
    assert live["total"]["contact_count"] == 1
    settings = line.service.settings
    assert isinstance(settings, Settings)
    fresh = Mongo(settings.mongo_url, f"{settings.database('stats')}-afresh", settings.mongo_driver)
    try:
        await rebuild(settings, fresh)
        interactions = [each.interaction_id for each in (counted, held_back, cut)]
        ours = (ticket, loser, survivor, other, gone, campaign, *interactions)
        assert not await differing(line, fresh, ours)
        assert (await fresh["targets"].find_one({"_id": f"ticket/{ticket}"}))["channels"]["sms"]["out"] == 1
        await fresh["decisions"].delete_many({"campaign_id": campaign})
        await fresh["decision_cells"].delete_many({"campaign_id": campaign})
        found = [what async for what, _, _ in differences(line.service.mongo, fresh)]
        assert {f"decision {row_id(verdict)}" for verdict in verdicts} <= set(found)
        assert [what.split()[:2] for what in found if campaign in what] == [["decision", "cell"]]
    finally:
        await fresh.database.client.drop_database(fresh.database.name)
        await fresh.close()


async def differing(line: Line, fresh: Mongo, about: Sequence[str]) -> list[str]:
    """What differs and is about one of these."""
    found = [what async for what, _, _ in differences(line.service.mongo, fresh)]
    return [what for what in found if any(each in re.split(r"[/ ',\[\]]+", what) for each in about)]
