"""Merging, erasing, linking, enabling: by topic and by REST."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from contracts import stats as commands
from contracts.channel_sms import Addresses, Target
from contracts.stats import ContactStatsChanged, SetCounting
from servicekit.failpoints import FAILPOINTS
from tests.kit import eventually
from tests.stats.conftest import NOW, Line
from tests.stats.samples import changed, contact_changed, hours, interaction, name


async def target(line: Line, type_: str, id_: str) -> dict[str, Any]:
    answer = await line.http.get(f"/v1/targets/{type_}/{id_}/stats")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_the_survivor_of_a_merge_has_the_union_and_gets_what_comes_late(line: Line) -> None:
    loser, survivor = name(), name()
    both = interaction(loser, targets=[{"id": loser}, {"id": survivor}], occurred_at=hours(1))
    await line.tell(
        both, interaction(loser, occurred_at=hours(4)), interaction(survivor, direction="incoming")
    )
    command = commands.MergeTargets(command_id=name(), target_id=loser, survivor_id=survivor, occurred_at=NOW)
    await line.tell(command)
    await line.tell(interaction(loser, occurred_at=hours(5)))
    assert await line.counts(loser) == (0, 0)
    assert await line.counts(survivor) == (1, 3)
    assert (await line.statistics(loser))["merged_into"] == survivor
    before = await line.everything()
    await line.tell(command, changed(both, disposition="sold"))
    assert (await line.everything())[1] == before[1]
    assert not await line.differences()


async def test_a_merge_in_a_circle_is_refused(line: Line) -> None:
    one, other = name(), name()
    await line.tell(interaction(one), interaction(other))
    answer = await line.http.post(f"/v1/targets/contact/{one}/merge", json={"survivor_id": other})
    assert answer.status_code == 204
    answer = await line.http.post(f"/v1/targets/contact/{other}/merge", json={"survivor_id": one})
    assert answer.status_code == 409
    assert answer.json()["detail"] == "A target cannot be merged into itself."
    letters = await line.wire.dead_letters("stats-commands")
    await line.tell(
        commands.MergeTargets(command_id=name(), target_id=other, survivor_id=one, occurred_at=NOW)
    )
    more = await line.wire.dead_letters("stats-commands")
    assert len(more) == len(letters) + 1
    assert "a target cannot be merged into itself" in {letter["dlq_detail"] for letter in more}


async def test_deleting_a_record_that_was_merged_away_does_not_erase_the_person(line: Line) -> None:
    loser, survivor = name(), name()
    told = interaction(loser)
    await line.tell(contact_changed(loser), told, interaction(survivor))
    await line.http.post(f"/v1/targets/contact/{loser}/merge", json={"survivor_id": survivor})
    await line.wire.publish_raw("contact-changed", None, key=loser.encode())

    async def tombstone() -> bool:
        records = [r for r in await line.wire.records("contact-stats-changed") if r.key == loser.encode()]
        return bool(records and records[-1].value is None)

    await eventually(tombstone, "the tombstone")
    await line.tell(changed(told, disposition="sold"), interaction(loser))
    assert await line.counts(survivor) == (0, 3)
    assert not await line.differences()


async def test_an_account_with_the_id_of_a_contact_keeps_its_counters_when_that_is_erased(line: Line) -> None:
    same = name()
    await line.tell(
        contact_changed(same), interaction(same, targets=[{"id": same}, {"type": "account", "id": same}])
    )
    await line.wire.publish_raw("contact-changed", None, key=same.encode())

    async def newest() -> dict[bytes, bytes | None]:
        records = await line.wire.records("contact-stats-changed")
        return {r.key: r.value for r in records if r.key in (same.encode(), f"account/{same}".encode())}

    async def tombstone() -> bool:
        return (await newest()).get(same.encode(), b"") is None

    await eventually(tombstone, "the tombstone")
    account = (await newest())[f"account/{same}".encode()]
    assert account is not None
    assert ContactStatsChanged.from_json(account).total.contact_count == 1


async def test_nothing_leads_to_an_erased_contact_and_reports_still_add_up(line: Line) -> None:
    contact, campaign = name(), name("campaign")
    told = interaction(contact, campaign_id=campaign, activity_id="zz", addresses=Addresses(sender="x"))
    await line.tell(contact_changed(contact, emails=["d@example.com"]), told)
    before = (await line.http.get("/v1/totals")).json()["erased_attempts"]
    await line.wire.publish_raw("contact-changed", None, key=contact.encode())

    async def erased() -> bool:
        return await line.counts(contact) == (0, 0)

    await eventually(erased, "the contact to be erased")
    await line.at_rest()
    after = (await line.http.get("/v1/totals")).json()["erased_attempts"]
    assert after["sms"]["outgoing"] == before.get("sms", {"outgoing": 0})["outgoing"] + 1
    await line.tell(told, changed(told, disposition="sold"), interaction(contact, campaign_id=campaign))
    assert await line.counts(contact) == (0, 0)
    mongo = line.service.mongo
    rows = [row async for row in mongo["ledger"].find({"campaign_id": campaign})]
    assert len(rows) == 2
    assert contact not in str(rows)
    assert "zz" not in str(rows)
    asked = {"first": "2026-03-01", "last": "2026-03-01", "campaign_id": campaign}
    (row,) = (await line.http.get("/v1/reports/activity", params=asked)).json()["rows"]
    assert row["attempts"] == 2
    records = [r for r in await line.wire.records("contact-stats-changed") if r.key == contact.encode()]
    assert records[-1].value is None, "the topic ends in a tombstone"
    listed = (await line.http.get("/v1/stats", params={"limit": 1000})).json()["items"]
    assert contact not in str(listed)


async def test_a_link_by_command_outlives_later_versions_and_may_come_first(line: Line) -> None:
    contact, account = name(), name("account")
    first = interaction(contact)
    link = commands.SetTargetLink(
        command_id=name(),
        interaction_type="sms",
        interaction_id=first.interaction_id,
        target_type="account",
        target_id=account,
        occurred_at=NOW,
    )
    await line.tell(link)
    await line.tell(first, changed(first, disposition="sold"))
    assert (await target(line, "account", account))["total"]["contact_count"] == 1
    cut = link.evolve(command_id=name(), linked=False, occurred_at=NOW + timedelta(seconds=1))
    await line.tell(cut, link)
    assert (await target(line, "account", account))["total"]["contact_count"] == 0
    assert await line.counts(contact) == (0, 1)


async def test_enabling_catches_up_and_disabling_keeps_what_is_there(line: Line) -> None:
    contact, deal = name(), name("deal")
    about = [{"id": contact}, {"type": "deal", "id": deal}]
    await line.tell(interaction(contact, targets=about))
    assert (await target(line, "deal", deal))["total"]["contact_count"] == 0

    async def set_counting(enabled: bool) -> None:
        answer = await line.http.put("/v1/counting", json={"target_type": "deal", "enabled": enabled})
        assert answer.status_code == 204
        line.clock.set(line.clock.now() + timedelta(seconds=1), rate=0)

    async def count_is(expected: int) -> None:
        async def reached() -> bool:
            return bool((await target(line, "deal", deal))["total"]["contact_count"] == expected)

        await eventually(reached, f"{expected} attempts")
        assert not await line.differences()

    await set_counting(True)
    await count_is(1)
    await set_counting(False)
    await line.tell(interaction(contact, targets=about))
    await count_is(1)
    settings = {each["target_type"]: each for each in (await line.http.get("/v1/counting")).json()}
    assert (settings["deal"]["enabled"], settings["deal"]["waiting"]) == (False, 1)
    await set_counting(True)
    await count_is(2)
    assert await line.counts(contact) == (0, 2)
    await set_counting(False)


async def test_a_mail_waits_for_the_addresses_of_its_contact(line: Line) -> None:
    contact = name()
    mail = interaction(
        contact,
        interaction_type="email",
        direction=None,
        addresses=Addresses(sender="Dana <DANA.W@example.com>", to=("us@example.net",)),
    )
    await line.tell(mail)
    assert await line.counts(contact) == (0, 0)
    await line.tell(contact_changed(contact, emails=["dana.w@example.com"]))

    async def counted() -> bool:
        return await line.counts(contact) == (1, 0)

    await eventually(counted, "the direction to be decided")
    await line.tell(contact_changed(contact, version=2, emails=["new@example.com"]), changed(mail))
    assert await line.counts(contact) == (1, 0), "a direction is decided once"
    assert not await line.service.mongo["ledger"].count_documents({"pending": {"$exists": True}})


async def test_numbers_roll_up_to_a_parent_as_separate_numbers(line: Line) -> None:
    one, other, account = name(), name(), name("account")
    await line.tell(interaction(one), interaction(other, direction="incoming", occurred_at=hours(2)))
    for child in (one, other):
        answer = await line.http.put(
            f"/v1/targets/contact/{child}/parent", json={"parent_type": "account", "parent_id": account}
        )
        assert answer.status_code == 204, answer.text
    half = await line.http.put(f"/v1/targets/contact/{one}/parent", json={"parent_type": "account"})
    assert half.status_code == 422
    rolled = (await line.http.get(f"/v1/targets/account/{account}/roll-up")).json()
    assert (rolled["children"], rolled["total"]["contact_count"]) == (2, 2)
    assert rolled["total"]["last_contact_at"] == "2026-03-01T11:00:00Z"
    assert (await target(line, "account", account))["total"]["contact_count"] == 0
    answer = await line.http.post(f"/v1/targets/contact/{one}/merge", json={"survivor_id": other})
    assert answer.status_code == 204, answer.text
    rolled = (await line.http.get(f"/v1/targets/account/{account}/roll-up")).json()
    assert (rolled["children"], rolled["total"]["contact_count"]) == (1, 2), "one of them is no more"


async def test_what_is_announced_last_is_what_stands(line: Line) -> None:
    contact = name()
    for hour in range(5):
        await line.wire.publish(interaction(contact, occurred_at=hours(hour)))
    await line.at_rest()
    announced = [m for m in await line.wire.messages(ContactStatsChanged) if m.target_id == contact]
    assert [m.version for m in announced] == sorted({m.version for m in announced})
    assert announced[-1].total.contact_count == 5


async def test_a_command_over_rest_is_told_when_kafka_takes_it(line: Line, tmp_path: Path) -> None:
    deal = name("kind")
    FAILPOINTS.arm("outbox.before_publish=error", tmp_path / "passed")
    try:
        answer = await line.http.put("/v1/counting", json={"target_type": deal, "enabled": True})
        assert answer.status_code == 204
        settings = (await line.http.get("/v1/counting")).json()
        assert [each["enabled"] for each in settings if each["target_type"] == deal] == [True]
        await line.at_rest()
    finally:
        FAILPOINTS.disarm()
    assert "outbox.before_publish error" in (tmp_path / "passed").read_text()
    (told,) = await _told(line, deal)
    assert told.enabled


async def _told(line: Line, target_type: str) -> list[SetCounting]:
    records = await line.wire.records(SetCounting.wire.topic.name)
    ours = [r for r in records if dict(r.headers).get("ce_type") == SetCounting.wire.type.encode()]
    found = [SetCounting.from_json(record.value) for record in ours]
    return [each for each in found if each.target_type == target_type]


async def test_an_id_that_is_too_long_is_told_as_that(line: Line) -> None:
    path = f"/v1/targets/account/{'x' * 201}"
    for method, what, body in (
        ("DELETE", path, None),
        ("POST", f"{path}/merge", {"survivor_id": "y"}),
        ("PUT", f"{path}/parent", {}),
    ):
        answer = await line.http.request(method, what, json=body)
        assert answer.status_code == 422, what
        assert answer.json()["detail"] == "path.target_id: String should have at most 200 characters"


async def test_nothing_is_linked_to_a_contact_that_nobody_could_ask_for(line: Line) -> None:
    contact = name()
    message = interaction(contact)
    link = commands.SetTargetLink(
        command_id=name(),
        interaction_type=message.interaction_type,
        interaction_id=message.interaction_id,
        target_id="crm/77",
        occurred_at=NOW,
    )
    await line.tell(message, link)
    letters = await line.wire.dead_letters("stats-commands")
    refused = {letter["ce_id"]: letter["dlq_detail"] for letter in letters}
    assert "the id of a contact is 1 to 200 letters" in refused[link.event_id()]


async def test_no_contact_takes_the_key_of_another_target(line: Line) -> None:
    contact, account = name(), name()
    await line.tell(interaction(contact, targets=[Target(id=contact), Target(type="account", id=account)]))
    key = f"account/{account}"
    as_contact = f"/v1/targets/contact/{quote(key, safe='')}"
    for method, path, body in (
        ("DELETE", as_contact, None),
        ("POST", f"/v1/targets/contact/{contact}/merge", {"survivor_id": key}),
        ("PUT", f"/v1/targets/contact/{contact}/parent", {"parent_type": "contact", "parent_id": key}),
        ("PUT", f"{as_contact}/parent", {}),
    ):
        answer = await line.http.request(method, path, json=body)
        assert answer.status_code == 409, path
        assert answer.json()["detail"].startswith("The id of a contact is 1 to 200 letters")
    await line.at_rest()
    told = [r for r in await line.wire.records("contact-stats-changed") if r.key == key.encode()]
    assert len(told) == 1
    assert told[0].value is not None


async def test_a_command_from_the_future_is_refused_and_silences_no_other(line: Line) -> None:
    deal = name("kind")
    far = SetCounting(command_id=deal, target_type=deal, enabled=True, occurred_at=NOW + timedelta(days=400))
    await line.tell(far)
    letters = [
        each for each in await line.wire.dead_letters("stats-commands") if each["ce_id"] == far.event_id()
    ]
    assert [letter["dlq_reason"] for letter in letters] == ["from_the_future"]
    await line.tell(far.evolve(command_id=name(), enabled=False, occurred_at=NOW))
    settings = (await line.http.get("/v1/counting")).json()
    assert [each["enabled"] for each in settings if each["target_type"] == deal] == [False]
