"""The ledger's decisions by themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from contracts.stats import SetTargetLink
from stats.domain.ledger import ERASED, World, attempt_of, forgotten, record, relink
from tests.stats.samples import THEN, interaction

WORLD = World(THEN + timedelta(days=1), {}, lambda target_type, interaction_type: True)


def test_a_cut_by_command_outlives_the_erasure_of_whom_it_names() -> None:
    first = interaction("ann", direction="outgoing")
    rows = record(first, THEN, [], WORLD)
    assert rows is not None
    assert attempt_of(rows) is not None
    cut = SetTargetLink(
        command_id="1",
        interaction_type=first.interaction_type,
        interaction_id=first.interaction_id,
        target_type="contact",
        target_id="ann",
        linked=False,
        occurred_at=THEN,
    )
    rows = relink(cut, rows, WORLD)
    assert rows is not None
    assert attempt_of(rows) is None
    erased = replace(WORLD, gone={"contact/ann": ERASED})
    rows = forgotten(rows, erased)
    assert attempt_of(rows) is None
    rows = record(first.evolve(version=2, campaign_id="spring"), THEN, rows, erased)
    assert rows is not None
    assert attempt_of(rows) is None
    assert "contact/ann" not in repr(rows)
