"""How many targets an interaction may have: what is changed of it is one transaction, which has to end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.channel_sms import InteractionRecorded
from contracts.stats import SetTargetLink
from servicekit.verdict import GiveUp, Unchanged
from stats.use_cases.record_interactions import MOST_LINKS, parts_of
from stats.use_cases.transactions import parts_of as heads_that_fit
from tests.engines import Engines
from tests.stats.parts import Parts, delivered, parts
from tests.stats.samples import THEN, interaction, name

MOST = 100


@pytest.fixture
async def made(engines: Engines) -> Parts:
    return await parts(engines, "statsbounds")


def about(how_many: int, times: int = 1) -> InteractionRecorded:
    accounts = [{"type": "account", "id": name("account")} for _ in range(how_many)]
    return interaction(name(), targets=accounts * times)


def link(of: InteractionRecorded, account: str, linked: bool = True, second: int = 0) -> SetTargetLink:
    return SetTargetLink(
        command_id=name("command"),
        interaction_type=of.interaction_type,
        interaction_id=of.interaction_id,
        target_type="account",
        target_id=account,
        linked=linked,
        occurred_at=THEN + timedelta(seconds=second),
    )


async def test_an_interaction_has_at_most_a_hundred_different_targets(made: Parts) -> None:
    most, same, more = about(MOST), about(1, times=MOST + 1), about(MOST + 1)
    assert await made.tell([most, same, more, about(28_000)]) == [
        None,
        None,
        *[GiveUp("impossible_interaction", "targets: at most 100 different ones")] * 2,
    ]
    assert await made.mongo["ledger"].count_documents({"id": most.interaction_id}) == MOST
    assert await made.mongo["ledger"].count_documents({"id": same.interaction_id}) == 1
    assert await made.mongo["ledger"].count_documents({"id": more.interaction_id}) == 0


async def test_commands_link_and_cut_at_most_a_hundred_targets_beside_them(made: Parts) -> None:
    told = about(MOST)
    await made.tell([told])
    accounts = [name("account") for _ in range(MOST)]
    for place, account in enumerate(accounts):
        assert await made.books.obey.obey(link(told, account, linked=place > 0)) is None
    refused = GiveUp("refused", "commands link or cut at most 100 targets of an interaction")
    assert await made.books.obey.obey(link(told, name("account"))) == refused
    assert await made.books.obey.obey(link(told, name("account"), linked=False)) == refused
    assert await made.mongo["ledger"].count_documents({"id": told.interaction_id}) == 2 * MOST - 1
    assert isinstance(await made.books.obey.obey(link(told, accounts[1])), Unchanged)
    assert await made.books.obey.obey(link(told, accounts[1], linked=False, second=1)) is None
    assert await made.mongo["ledger"].count_documents({"id": told.interaction_id}) == 2 * MOST - 2


def test_what_is_rewritten_is_as_many_transactions_as_its_rows_need() -> None:
    links = {"a": 1, "b": 600, "c": 400, "d": 2000, "e": 1}
    assert list(heads_that_fit(links)) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(heads_that_fit({})) == []


def test_a_batch_is_as_many_transactions_as_its_targets_need() -> None:
    batch = [delivered(each) for each in (*(about(MOST) for _ in range(MOST)), interaction(name()))]
    found = list(parts_of(batch))
    assert [each for part in found for each in part] == batch
    assert [len(part) for part in found] == [MOST_LINKS // MOST] * 2 + [MOST + 1 - 2 * MOST_LINKS // MOST]
    alone = [delivered(interaction(name())) for _ in range(2000)]
    assert list(parts_of(alone)) == [alone]
    assert list(parts_of([])) == [[]]
