"""The copies that the topics feed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contracts.channels import ADDRESSES_OF_CHANNEL, EMAIL
from contracts.contacts import ContactChanged
from contracts.stats import AttemptCounters, ContactStatsChanged
from contracts.vocabulary import ActivityState, ContactId, PhoneType
from tests.batch_loader.builders import NOON
from tests.batch_loader.line import Line
from tests.kit import eventually, settled


def counted(
    contact: ContactId, version: int, out: int, incoming: int = 0, **told: Any
) -> ContactStatsChanged:
    total = AttemptCounters(
        contact_count=out + incoming,
        contact_count_in=incoming,
        contact_count_out=out,
        last_contact_at=NOON if out + incoming else None,
    )
    return ContactStatsChanged.model_validate(
        {"target_id": contact, "version": version, "total": total, "changed_at": NOON} | told
    )


async def count(here: Line, **filters: Any) -> int:
    answer = await here.api.post(
        "/v1/batches/preview", json={"filters": {"contact_type": here.crowd} | filters}
    )
    assert answer.status_code == 200, answer.text
    return int(answer.json()["count"])


async def test_statistics_and_contacts_may_come_in_any_order_and_again(here: Line) -> None:
    await here.wire.publish(
        counted(here.id(1), 1, out=1),
        counted(here.id(1), 2, out=2, incoming=1),
        counted(here.id(2), 1, out=0),
    )
    await settled(here.service)
    assert await count(here) == 0
    await here.knows([here.contact(1), here.contact(2), here.contact(3)])
    await here.wire.publish(
        counted(here.id(3), 3, out=3),
        counted(here.id(3), 1, out=0),
        counted(here.id(2), 9, out=7, target_type="account"),
    )
    await eventually(
        lambda: here.service.mongo["contacts"].count_documents({"attempts": 3}), "the statistics"
    )
    await settled(here.service)

    async def as_counted() -> None:
        assert await count(here) == 3
        assert await count(here, never_contacted=True) == 1
        assert await count(here, attempts_below=3) == 2
        assert await count(here, attempts_below=2) == 1
        assert await count(here, not_contacted_in_days=1) == 3

    await as_counted()
    await here.wire.publish(counted(here.id(1), 1, out=1), here.contact(1), counted(here.id(3), 2, out=0))
    await settled(here.service)
    await as_counted()


async def test_an_older_contact_never_overwrites_a_newer_and_an_erased_one_is_gone(here: Line) -> None:
    moved = here.contact(1, version=3, time_zone="Europe/Berlin", phones=())
    await here.knows([here.contact(1), moved, here.contact(2)][1:])
    await here.wire.publish(here.contact(1, version=2))
    await settled(here.service)
    assert await count(here, time_zones=["Europe/Berlin"]) == 1
    topic = ContactChanged.wire.topic.name
    await here.wire.publish_raw(topic, None, key=here.id(2).encode())
    await here.wire.publish(here.contact(2, version=9), counted(here.id(2), 1, out=1))

    async def gone() -> bool:
        return await count(here) == 1

    await eventually(gone, "the erasure")
    await settled(here.service)
    assert await count(here) == 1
    left = await here.service.mongo["contacts"].find_one({"_id": here.id(2)})
    assert not {"phones", "national", "attributes", "time_zone"} & left.keys()


async def test_the_last_completed_activity_is_the_latest_and_may_be_corrected(here: Line) -> None:
    def completed(activity: str, version: int, hour: int, disposition: str) -> Any:
        return here.changed(
            1,
            activity,
            version,
            ActivityState.COMPLETED,
            disposition=disposition,
            completed_at=NOON + timedelta(hours=hour),
        )

    late, early = completed("a-late", 5, 4, "sold"), completed("z-early", 9, 1, "no-answer")
    await here.wire.publish(late)
    await here.knows([here.contact(1)])
    await here.wire.publish(early)
    await eventually(
        lambda: here.service.mongo["open_activities"].count_documents({"_id": "z-early"}), "both"
    )
    await settled(here.service)
    assert await count(here, last_dispositions=["sold"]) == 1
    assert await count(here, last_subjects=["renewal"], last_dispositions=["no-answer"]) == 0
    await here.wire.publish(completed("a-late", 6, 4, "follow-up"), late, early)

    async def corrected() -> bool:
        return await count(here, last_subjects=["renewal"], last_dispositions=["follow-up"]) == 1

    await eventually(corrected, "the correction")
    await settled(here.service)
    assert await count(here, last_dispositions=["sold"]) == 0


async def test_what_is_told_again_of_an_activity_that_ended_takes_no_slot(here: Line) -> None:
    scheduled, ended = (
        here.changed(1, f"{here.crowd}-ended", version, state)
        for version, state in ((2, ActivityState.SCHEDULED), (3, ActivityState.COMPLETED))
    )
    await here.knows([here.contact(1)])
    await here.wire.publish(scheduled, ended)
    await settled(here.service)
    # Alone: of what comes in one batch only the newest is looked at.
    await here.wire.publish(scheduled)
    await settled(here.service)
    batch = await here.draft()
    await here.tell(batch, "load")
    shown = await here.becomes(batch, "loaded")
    assert (shown["loaded"], shown["skipped"]) == (1, {})


async def test_a_poisoned_message_does_not_stop_the_others(here: Line) -> None:
    topic = ContactChanged.wire.topic.name
    await here.wire.publish_raw(topic, b"{", key=here.id(1).encode())
    await here.knows([here.contact(1)])
    assert await count(here) == 1
    (letter,) = await here.wire.dead_letters(topic)
    assert letter["dlq_subscriber"] == "batch-loader.know-contacts"


async def test_a_contact_that_an_earlier_release_kept_is_judged_right_and_a_rewind_renews_it(
    here: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = ("a@parley.example",)
    people = [here.contact(1), here.contact(2, phones=(), emails=mail), here.contact(3, phones=())]
    await here.knows(people)
    copy = here.service.mongo["contacts"]
    for number, channels in enumerate((["sms", "voice"], ["email"], []), 1):
        await copy.update_one({"_id": here.id(number)}, {"$set": {"reachable_by": channels}})

    async def unreached(channel: str) -> int:
        told = {"filters": {"contact_type": here.crowd}, "channel": channel}
        seen = (await here.api.post("/v1/batches/preview", json=told)).json()
        return int(seen["skipped"].get("no_address", 0))

    assert [await unreached(channel) for channel in ("sms", "voice", "email")] == [2, 2, 2]
    batch = await here.draft(source="manual", agent_profile=None, channel="voice")
    await here.tell(batch, "load")
    assert (await here.becomes(batch, "loaded"))["skipped"] == {"no_address": 2}

    monkeypatch.setitem(ADDRESSES_OF_CHANNEL, "pigeon", (frozenset({PhoneType.CELL, EMAIL}),))
    assert await unreached("pigeon") == 2, "nobody said of which type the number is"
    await here.wire.publish(*people)

    async def renewed() -> bool:
        return await unreached("pigeon") == 1

    await eventually(renewed, "what is kept of the same contacts")
