"""From a row of a list to a counter, through everything; then all of it again."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from contracts import catalogue
from contracts.contacts import ContactChanged, Phone, UpsertContact
from contracts.message import stable_id
from contracts.vocabulary import ContactId
from tests.engines import Engines
from tests.kit import Wire, eventually
from tests.scenarios.conftest import (
    WholeLine,
    assert_balanced,
    assert_kept,
    assert_nowhere,
    places_with,
    whole_line,
)

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.timeout(900)]


async def test_the_line_reconciles_survives_a_full_rewind_and_isolates_poison(
    engines: Engines, wire: Wire, tmp_path: Path
) -> None:
    async with whole_line(engines, wire.namespace, tmp_path) as line:
        assert_balanced(await asyncio.to_thread(line.play, 100))
        await line.rest()
        assert_kept(await line.judged())

        before = await line.state()
        assert await line.rewind() > len(line.services)
        await line.rest()
        after = await line.state()
        assert [place for place in before if before[place] != after.get(place)] == []
        assert_kept(await line.judged())

        read = {
            name
            for message in catalogue.MESSAGES
            if message.wire.read_by
            for name in catalogue.names_of(message.wire.topic)
        }
        for topic in read:
            await wire.publish_raw(topic, b"not json at all", b"poison", [("ce_id", None)])
        contact_id = ContactId(stable_id("contact", "poison test"))
        await wire.publish(
            UpsertContact(
                command_id="after-the-poison",
                contact_id=contact_id,
                contact_type="customer",
                first_name="Good",
                phones=(Phone(number="+12025550199"),),
                time_zone="America/New_York",
                occurred_at=line.services["contacts"].clock.now(),
            )
        )

        async def everybody_knows() -> bool:
            known = [
                await line.services[name].mongo["contacts"].find_one({"_id": contact_id})
                for name in ("contacts", "batch-loader", "activities", "channel-sms")
            ]
            return all(known)

        await eventually(everybody_knows, "the good message to flow on")
        assert contact_id in {contact.contact_id for contact in await wire.messages(ContactChanged)}
        for topic in read:
            letters = await eventually(partial(wire.dead_letters, topic), f"{topic}'s dead letter")
            assert {letter["dlq_reason"] for letter in letters} == {"missing_header"}

        await nobody_knows_the_erased(line, wire)
        assert_kept(await line.judged())


async def nobody_knows_the_erased(line: WholeLine, wire: Wire) -> None:
    """Erase somebody who was talked to, then look for their numbers and ids in all databases and in what
    compaction leaves of the topics."""
    talked = (
        await line.services["channel-sms"]
        .mongo["conversations"]
        .find_one({"dialogue.captured": {"$ne": {}}, "their_address": {"$ne": ""}})
    )
    assert talked is not None, "nobody was talked to"
    contact_id = talked["contact_id"]
    contact = await line.services["contacts"].mongo["contacts"].find_one({"_id": contact_id})
    assert contact is not None
    traces = {phone["number"] for phone in contact["phones"]} | {*contact["emails"], contact["external_id"]}
    traces -= {None}
    assert await places_with(line, traces)
    async with aiohttp.ClientSession() as session:
        answer = await session.delete(f"{line.urls['contacts']}/v1/contacts/{contact_id}")
        assert answer.status == 204

    await assert_nowhere(line, wire, traces)
