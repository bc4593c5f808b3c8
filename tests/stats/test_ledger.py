"""The ledger's decisions by themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from contracts.channel_sms import InteractionRecorded, Target
from contracts.stats import SetTargetLink
from stats.domain.ledger import (
    ERASED,
    World,
    attempt_of,
    forgotten,
    is_attempt,
    record,
    relink,
    settled,
)
from tests.stats.samples import THEN, interaction

WORLD = World(THEN + timedelta(days=1), {}, lambda target_type, interaction_type: True)


def test_a_cut_by_command_outlives_the_erasure_of_whom_it_names() -> None:
    first = interaction("ann", direction="outgoing")
    rows = record(first, THEN, [], WORLD)
    assert rows is not None
    assert attempt_of(rows) is not None
    rows = relink(cut("ann", first), rows, WORLD)
    assert rows is not None
    assert attempt_of(rows) is None
    erased = replace(WORLD, gone={"contact/ann": ERASED})
    rows = forgotten(rows, erased)
    assert attempt_of(rows) is None
    rows = record(first.evolve(version=2, campaign_id="spring"), THEN, rows, erased)
    assert rows is not None
    assert attempt_of(rows) is None
    assert "contact/ann" not in repr(rows)


def cut(who: str, of: InteractionRecorded) -> SetTargetLink:
    return SetTargetLink(
        command_id=who,
        interaction_type=of.interaction_type,
        interaction_id=of.interaction_id,
        target_type="contact",
        target_id=who,
        linked=False,
        occurred_at=THEN,
    )


def test_an_attempt_stays_one_when_only_a_target_that_is_not_counted_is_left() -> None:
    contacts_only = replace(WORLD, counts=lambda target_type, _: target_type == "contact")
    about = interaction("ann", direction="outgoing", targets=(Target(id="ann"), Target(type="deal", id="x")))
    rows = record(about, THEN, [], contacts_only)
    assert rows is not None
    rows = forgotten(rows, replace(contacts_only, gone={"contact/ann": ERASED}))
    assert attempt_of(rows) is not None
    assert not any(map(is_attempt, rows))
    rows = settled(rows, replace(WORLD, gone={"contact/ann": ERASED}))
    assert [is_attempt(row) for row in rows] == [True]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("first", ["ann", "bob"])
def test_a_cut_that_names_one_of_the_erased_leaves_the_other_an_attempt(first: str, late: bool) -> None:
    both = interaction("ann", direction="outgoing", targets=(Target(id="ann"), Target(id="bob")))
    rows = record(both, THEN, [], WORLD)
    assert rows is not None
    command = cut("ann", both)
    everybody = replace(WORLD, gone={"contact/ann": ERASED, "contact/bob": ERASED})
    if not late:
        rows = relink(command, rows, WORLD) or []
    rows = forgotten(rows, replace(WORLD, gone={f"contact/{first}": ERASED}))
    rows = forgotten(rows, everybody)
    if late:
        rows = relink(command, rows, everybody) or []
    assert relink(command, rows, everybody) is None
    assert attempt_of(rows) is not None
    assert attempt_of(relink(cut("bob", both), rows, everybody) or rows) is None


def test_of_two_who_are_erased_together_the_one_that_counted_stays_an_attempt() -> None:
    both = interaction("ann", direction="outgoing", targets=(Target(id="ann"), Target(id="bob")))
    rows = record(both, THEN, [], WORLD)
    assert rows is not None
    rows[0]["direction"] = "unknown"  # as a provider may decide for one of them
    rows = forgotten(rows, replace(WORLD, gone={"contact/ann": ERASED, "contact/bob": ERASED}))
    assert attempt_of(rows) is not None
