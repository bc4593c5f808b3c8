"""Merges at the same moment, and what stands in the way of a circle."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import stats as commands
from servicekit.failpoints import FAILPOINTS, InjectedFault
from servicekit.verdict import GiveUp, Outcome, TryAgain
from stats.domain.ledger import ERASED, World, survivor_of
from tests.engines import Engines
from tests.stats.parts import Parts, parts
from tests.stats.samples import THEN, interaction, name

ROUNDS = 5
CONTACTS = [f"contact/{letter}" for letter in "abcde"]


def merge(loser: str, survivor: str) -> commands.MergeTargets:
    return commands.MergeTargets(
        command_id=name("command"), target_id=loser, survivor_id=survivor, occurred_at=THEN
    )


def erase(contact: str) -> commands.EraseTarget:
    return commands.EraseTarget(command_id=name("command"), target_id=contact, occurred_at=THEN)


@pytest.fixture
async def made(engines: Engines) -> Parts:
    return await parts(engines, "statsmerges")


async def at_once(made: Parts, *told: Any) -> list[Outcome]:
    return await asyncio.gather(*map(made.books.obey.obey, told))


async def gone(made: Parts, *contacts: str) -> dict[str, str]:
    found = made.mongo["targets"].find({"_id": {"$in": [f"contact/{each}" for each in contacts]}})
    return {row["_id"]: row["gone"] async for row in found if "gone" in row}


@pytest.mark.parametrize("how_many", [2, 3, 4])
async def test_of_merges_that_would_close_a_circle_one_is_refused(made: Parts, how_many: int) -> None:
    for _ in range(ROUNDS):
        ring = [name() for _ in range(how_many)]
        await made.tell([interaction(each) for each in ring])
        outcomes = await at_once(made, *map(merge, ring, [*ring[1:], ring[0]]))
        refused = [outcome for outcome in outcomes if isinstance(outcome, GiveUp)]
        assert [outcome.detail for outcome in refused] == ["a target cannot be merged into itself"]
        became = await gone(made, *ring)
        (last,) = {survivor_of(f"contact/{each}", became) for each in ring}
        assert last not in became
        assert (await made.channels())[last]["sms"]["out"] == how_many


async def test_a_circle_through_earlier_merges_is_refused_as_well(made: Parts) -> None:
    for _ in range(ROUNDS):
        one, before_one, other, before_other = name(), name(), name(), name()
        await at_once(made, merge(before_one, one), merge(before_other, other))
        outcomes = await at_once(made, merge(one, before_other), merge(other, before_one))
        assert len([outcome for outcome in outcomes if isinstance(outcome, GiveUp)]) == 1
        assert len(await gone(made, one, before_one, other, before_other)) == 3


async def test_nothing_counts_for_a_survivor_that_is_erased_at_the_same_moment(made: Parts) -> None:
    for _ in range(ROUNDS):
        loser, survivor = name(), name()
        await made.tell([interaction(loser), interaction(survivor)])
        merged, erased = await at_once(made, merge(loser, survivor), erase(survivor))
        assert erased is None
        counted = await made.channels()
        assert f"contact/{survivor}" not in counted
        assert (f"contact/{loser}" in counted) == isinstance(merged, GiveUp)
        assert counted == await made.recounted()


async def test_what_does_not_count_is_not_kept_for_who_is_gone_either(made: Parts) -> None:
    erased, loser, survivor = name(), name(), name()
    assert await at_once(made, erase(erased), merge(loser, survivor)) == [None, None]
    for late in (erased, loser):
        # Each in a batch of its own: one that collides has all of its batch decided again.
        assert await made.tell([interaction(late, direction="unknown")]) == [None]
    kept = {
        each: await made.mongo["ledger"].count_documents({"target": f"contact/{each}"})
        for each in (erased, loser, survivor)
    }
    assert kept == {erased: 0, loser: 0, survivor: 1}
    assert f"contact/{survivor}" not in await made.channels()


async def test_a_survivor_that_nobody_heard_of_is_listed_as_never_contacted(made: Parts) -> None:
    loser, survivor = name(), name()
    assert await at_once(made, merge(loser, survivor)) == [None]
    row = await made.mongo["targets"].find_one({"_id": f"contact/{survivor}"})
    assert row["version"] == 0
    assert (row["listed"]["target_type"], row["listed"]["contact_count"]) == ("contact", 0)


async def test_a_circle_in_the_database_holds_back_only_its_own(made: Parts) -> None:
    one, other, free = name(), name(), name()
    await made.mongo["targets"].insert_many(
        [
            {"_id": f"contact/{a}", "gone": f"contact/{b}", "version": 1, "met": "nobody"}
            for a, b in ((one, other), (other, one))
        ]
    )
    outcomes = await made.tell([interaction(one), interaction(free)])
    assert isinstance(outcomes[0], TryAgain)
    assert outcomes[1] is None
    refused = await at_once(made, merge(one, other), merge(one, free), merge(free, one), merge(one, one))
    assert all(isinstance(outcome, GiveUp) for outcome in refused)
    assert await at_once(made, erase(one), erase(other)) == [None, None]
    assert await made.tell([interaction(one), interaction(other)]) == [None, None]
    assert await gone(made, one, other) == {f"contact/{each}": ERASED for each in (one, other)}
    assert await made.mongo["changed_targets"].count_documents({"targets": f"contact/{other}"})


@given(st.dictionaries(st.sampled_from(CONTACTS), st.sampled_from([*CONTACTS, ERASED])))
def test_every_way_through_merges_has_an_end(became: dict[str, str]) -> None:
    world = World(THEN, {}, lambda target_type, interaction_type: True, gone=became)
    for contact in CONTACTS:
        last = survivor_of(contact, became)
        assert last not in became or survivor_of(last, became) == last
        assert world.resolve(contact) == ("erased:/contact" if last == ERASED else last)


async def test_a_merge_goes_on_when_its_survivor_was_erased_meanwhile(made: Parts, tmp_path: Path) -> None:
    loser, survivor = name(), name()
    await made.tell([interaction(loser), interaction(survivor)])
    command = merge(loser, survivor)
    FAILPOINTS.arm("stats.between_mark_and_move=error", tmp_path / "passed")
    try:
        with pytest.raises(InjectedFault):
            await made.books.obey.obey(command)
    finally:
        FAILPOINTS.disarm()
    assert await at_once(made, erase(survivor)) == [None]
    assert await at_once(made, command, command) == [None, None]
    assert not await made.mongo["ledger"].count_documents({"target": f"contact/{loser}"})
    counted = await made.channels()
    assert not {f"contact/{loser}", f"contact/{survivor}"} & counted.keys()
    late = merge(name(), survivor)
    assert await at_once(made, late) == [GiveUp("refused", "the survivor was erased")]
