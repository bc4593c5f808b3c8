"""The effects table, through the topic and the API."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import pytest

from contracts.channel_sms import Target
from contracts.stats import ContactStatsChanged
from tests.kit import eventually
from tests.stats.conftest import Line
from tests.stats.samples import changed, hours, interaction, name


async def test_an_attempt_counts_in_total_and_in_its_channel(line: Line) -> None:
    contact = name()
    await line.tell(
        interaction(contact, direction="outgoing", occurred_at=hours(1)),
        interaction(contact, direction="incoming", occurred_at=hours(3)),
        interaction(contact, direction="outgoing", occurred_at=hours(2), interaction_type="call"),
    )
    told = await line.statistics(contact)
    assert told["total"] == {
        "contact_count": 3,
        "contact_count_in": 1,
        "contact_count_out": 2,
        "last_contact_at": "2026-03-01T12:00:00Z",
        "last_contact_at_in": "2026-03-01T12:00:00Z",
        "last_contact_at_out": "2026-03-01T11:00:00Z",
        "days_since_last_contact": 9,
    }
    assert {channel: numbers["contact_count"] for channel, numbers in told["channels"].items()} == {
        "sms": 2,
        "call": 1,
    }
    announced = [m for m in await line.wire.messages(ContactStatsChanged) if m.target_id == contact]
    assert announced[-1].version == told["version"]
    assert announced[-1].total.contact_count == 3
    assert not await line.differences()


async def test_repeats_and_older_versions_change_nothing(line: Line) -> None:
    contact = name()
    first = interaction(contact, occurred_at=hours(1))
    second = changed(first, occurred_at=hours(2))
    await line.tell(first, first)
    await line.tell(second)
    before = await line.everything()
    await line.tell(first, second, second)
    assert await line.everything() == before
    assert await line.counts(contact) == (0, 1)
    assert (await line.statistics(contact))["total"]["last_contact_at"] == "2026-03-01T11:00:00Z"


async def last(line: Line, contact: str) -> tuple[str | None, str | None]:
    total = (await line.statistics(contact))["total"]
    return total["last_contact_at_in"], total["last_contact_at_out"]


async def test_a_change_of_direction_moves_one_count_and_both_dates(line: Line) -> None:
    contact = name()
    older = interaction(contact, direction="outgoing", occurred_at=hours(1))
    newer = interaction(contact, direction="outgoing", occurred_at=hours(2))
    await line.tell(older, newer)
    await line.tell(changed(newer, direction="incoming"))
    assert await line.counts(contact) == (1, 1)
    assert await last(line, contact) == ("2026-03-01T11:00:00Z", "2026-03-01T10:00:00Z")


async def test_dates_follow_a_change_either_way(line: Line) -> None:
    contact = name()
    older = interaction(contact, occurred_at=hours(1))
    newer = interaction(contact, occurred_at=hours(5))
    await line.tell(older, newer)
    back = changed(newer, occurred_at=hours(-3))
    await line.tell(back)
    assert await last(line, contact) == (None, "2026-03-01T10:00:00Z")
    await line.tell(changed(back, occurred_at=hours(9)))
    assert await last(line, contact) == (None, "2026-03-01T18:00:00Z")
    assert await line.counts(contact) == (0, 2)


async def test_deleting_falls_back_to_what_remains_and_then_to_never(line: Line) -> None:
    contact = name()
    older = interaction(contact, occurred_at=hours(1))
    newer = interaction(contact, occurred_at=hours(5), interaction_type="call")
    await line.tell(older, newer)
    await line.tell(changed(newer, deleted=True))
    assert (await line.statistics(contact))["total"]["last_contact_at"] == "2026-03-01T10:00:00Z"
    await line.tell(changed(older, deleted=True))
    told = await line.statistics(contact)
    assert told["total"]["contact_count"] == 0
    assert told["total"]["last_contact_at"] is None
    assert told["block"]["headline"] == "Not contacted yet"
    assert told["channels"] == {}


async def test_a_delete_may_arrive_before_its_create(line: Line) -> None:
    contact = name()
    created = interaction(contact)
    await line.tell(changed(created, deleted=True))
    await line.tell(created)
    assert await line.counts(contact) == (0, 0)


async def test_a_correction_may_arrive_before_its_create_and_name_somebody_else(line: Line) -> None:
    wrong, right = name(), name()
    created = interaction(wrong)
    await line.tell(changed(created, contact_id=right))
    await line.tell(created)
    assert await line.counts(wrong) == (0, 0)
    assert await line.counts(right) == (0, 1)


async def test_linking_and_unlinking_targets(line: Line) -> None:
    contact, other, account = name(), name(), name("account")
    first = interaction(contact)
    await line.tell(first)
    both = changed(
        first,
        targets=[{"id": contact}, {"id": other}, {"id": other}, {"type": "account", "id": account}],
    )
    await line.tell(both)
    assert await line.counts(other) == (0, 1), "linked twice counts once"
    told = (await line.http.get(f"/v1/targets/account/{account}/stats")).json()
    assert told["total"]["contact_count"] == 1
    await line.tell(changed(both, targets=[{"id": other}]))
    assert await line.counts(contact) == (0, 0)
    assert await line.counts(other) == (0, 1)
    told = (await line.http.get(f"/v1/targets/account/{account}/stats")).json()
    assert told["total"]["contact_count"] == 0
    assert not await line.differences()


async def test_an_unknown_direction_is_nothing_until_it_is_known(line: Line) -> None:
    contact = name()
    gone, known = interaction(contact, direction="unknown"), interaction(contact, direction="unknown")
    await line.tell(gone, known)
    assert await line.counts(contact) == (0, 0)
    await line.tell(changed(gone, deleted=True))
    assert await line.counts(contact) == (0, 0)
    await line.tell(changed(known, direction="incoming"))
    assert await line.counts(contact) == (1, 0)


async def test_a_type_nobody_registered_counts_only_if_it_states_its_direction(line: Line) -> None:
    contact = name()
    await line.tell(
        interaction(contact, interaction_type="fax", direction=None),
        interaction(contact, interaction_type="fax", direction="incoming"),
    )
    assert await line.counts(contact) == (1, 0)


@pytest.mark.parametrize("type_", ["house_visit", "v" * 64])
async def test_a_type_that_is_no_name_of_a_channel_is_announced_as_one(line: Line, type_: str) -> None:
    contact = name()
    await line.tell(interaction(contact), interaction(contact, interaction_type=type_))
    announced = [m for m in await line.wire.messages(ContactStatsChanged) if m.target_id == contact]
    assert announced[-1].total.contact_count == 2
    assert announced[-1].channels.keys() == {"sms", type_}


async def test_other_edits_change_nothing(line: Line) -> None:
    contact = name()
    first = interaction(contact)
    await line.tell(first)
    before = await line.statistics(contact)
    await line.tell(changed(first, disposition="no-answer", direction=None))
    assert await line.statistics(contact) == before


async def test_targets_of_an_excluded_type_get_no_row(line: Line) -> None:
    contact = name()
    await line.tell(interaction(contact, targets=[{"id": contact}, {"type": "user", "id": "boss"}]))
    rows = (await line.http.get("/v1/ledger", params={"target_id": contact})).json()["items"]
    assert [row["interaction_type"] for row in rows] == ["sms"]
    assert not await line.service.mongo["ledger"].count_documents({"target": "user/boss"})


async def test_a_future_attempt_counts_now_and_is_the_last_contact_when_it_has_passed(line: Line) -> None:
    contact = name()
    at = line.clock.now() + timedelta(hours=1)
    await line.tell(interaction(contact, occurred_at=at))
    told = await line.statistics(contact)
    assert told["total"]["contact_count"] == 1
    assert told["total"]["last_contact_at"] is None
    line.clock.set(at + timedelta(minutes=1), rate=0)

    async def passed() -> bool:
        return (await line.statistics(contact))["total"]["last_contact_at"] is not None

    await eventually(passed, "the time to pass")
    assert not await line.differences()
    await line.at_rest()


async def test_what_cannot_be_announced_stops_nobody(line: Line) -> None:
    contact = name()
    targets, marks = line.service.mongo["targets"], line.service.mongo["changed_targets"]
    await targets.insert_one({"_id": "contact/", "version": 1, "channels": {}})
    try:
        await marks.insert_one({"_id": name("mark"), "bucket": 0, "targets": ["contact/"]})
        await line.tell(interaction(contact))
        assert any(m.target_id == contact for m in await line.wire.messages(ContactStatsChanged))
    finally:
        await targets.delete_one({"_id": "contact/"})


CONTACT_ID = "contact_id: 1 to 200 letters, digits and . _ : ~ -, the first a letter or a digit"


async def test_what_can_be_no_row_is_a_dead_letter(line: Line) -> None:
    contact = name()
    impossible = [
        interaction("c" * 201),
        interaction("crm/77"),
        interaction(contact, version=2**63),
        interaction(contact, interaction_id=""),
        interaction(contact, targets=[Target(id=contact), Target(id="crm/77")]),
        interaction(contact, agent="x" * 201),
    ]
    await line.tell(*impossible, interaction(contact))
    letters = {
        letter["ce_id"]: letter["dlq_detail"]
        for letter in await line.wire.dead_letters("interaction-recorded")
        if letter["dlq_reason"] == "impossible_interaction"
    }
    assert letters == {
        impossible[0].event_id(): CONTACT_ID,
        impossible[1].event_id(): CONTACT_ID,
        impossible[2].event_id(): "version: must be at most 9223372036854775807",
        impossible[3].event_id(): (
            "interaction_id: must not be empty, or all that have none are one interaction"
        ),
        impossible[4].event_id(): CONTACT_ID.replace("contact_id:", "targets: of a contact"),
        impossible[5].event_id(): "ids and agent: at most 200 characters",
    }
    assert await line.counts(contact) == (0, 1)


async def test_a_target_is_found_and_erased_whatever_its_id(line: Line) -> None:
    slashes = (f"acc/{name()} y", f"{name()}/stats", f"a//{name()}?#%", f"%2F{name()}")
    for id_ in (*slashes, f"\uf8ff{name()}", f"\uf8ffs/\uf8ff{name()}"):
        await line.tell(interaction(name(), targets=[Target(type="account", id=id_)]))
        path = f"/v1/targets/account/{quote(id_, safe='')}"
        told = (await line.http.get(f"{path}/stats")).json()
        assert (told["target_id"], told["total"]["contact_count"]) == (id_, 1)
        assert (await line.http.delete(path)).status_code == 204
        told = (await line.http.get(f"{path}/stats")).json()
        assert told["total"]["contact_count"] == 0
