"""Whatever happens in whatever order, the counters are those of a ten-line reference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts import stats as commands
from contracts.channel_sms import InteractionRecorded
from servicekit.failpoints import FAILPOINTS, InjectedFault
from servicekit.verdict import GiveUp
from tests.engines import Engines
from tests.stats.parts import Parts, parts
from tests.stats.samples import THEN

NAMES = [f"contact/{letter}" for letter in "abcd"]
EXAMPLES = int(os.environ.get("PARLEY_TEST_STATS_STORIES", "20"))
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a story of many transactions takes longer than reading one."""
FAULTS = ("stats.before_transaction", "stats.between_ledger_and_counters", "stats.before_commit")


def reference(
    newest: Sequence[InteractionRecorded],
    gone: dict[str, str],
    said: dict[tuple[str, str], bool],
    now: datetime,
) -> dict[str, Any]:
    """What the counters must be: each interaction once for each target it is about."""

    def now_is(target: str) -> str:
        return now_is(gone[target]) if target in gone else target

    counters: dict[str, Any] = {}
    for m in newest:
        told = (
            [f"{t.type}/{t.id}" for t in m.targets] if m.targets is not None else [f"contact/{m.contact_id}"]
        )
        told += [target for (id_, target), linked in said.items() if id_ == m.interaction_id and linked]
        cut = {target for (id_, target), linked in said.items() if id_ == m.interaction_id and not linked}
        about = {now_is(target) for target in told if target not in cut and now_is(target) not in cut}
        for target in about - {"erased"} if m.direction != "unknown" and not m.deleted else ():
            way, at = ("in" if m.direction == "incoming" else "out"), m.occurred_at
            lane = counters.setdefault(target, {}).setdefault(m.channel or m.interaction_type, {})
            lane[way] = lane.get(way, 0) + 1
            if at is not None and at <= now:
                lane[f"last_{way}"] = max(lane.get(f"last_{way}", at), at)
    return counters


interactions = st.builds(
    InteractionRecorded,
    interaction_id=st.sampled_from(["m1", "m2", "m3", "m4", "m5"]),
    interaction_type=st.just("call"),
    version=st.integers(1, 4),
    contact_id=st.sampled_from("abcd"),
    targets=st.none()
    | st.lists(st.builds(dict, id=st.sampled_from("abcd"), type=st.just("contact")), max_size=3).map(tuple),
    direction=st.sampled_from(["incoming", "outgoing", "unknown"]),
    channel=st.sampled_from([None, "sms"]),
    occurred_at=st.integers(-5, 2).map(lambda hours: THEN + timedelta(hours=hours)),
    deleted=st.sampled_from([False, False, False, True]),
    campaign_id=st.sampled_from([None, "c1"]),
)
targets = st.sampled_from("abcd")
steps = st.one_of(
    st.tuples(st.just("batch"), st.lists(interactions, min_size=1, max_size=8)),
    st.tuples(st.just("batch"), st.lists(interactions, min_size=1, max_size=8)),
    st.tuples(st.just("fault"), st.lists(interactions, min_size=1, max_size=8), st.sampled_from(FAULTS)),
    st.tuples(st.just("merge"), targets, targets),
    st.tuples(st.just("erase"), targets),
    st.tuples(st.just("link"), st.sampled_from(["m1", "m2"]), targets, st.booleans()),
    st.tuples(st.just("rewind")),
    st.tuples(st.just("later"), st.integers(1, 2)),
)


class Story:
    """Carries out steps on the real thing, and keeps what the reference needs."""

    def __init__(self, made: Parts) -> None:
        self.made = made
        self.history: list[InteractionRecorded] = []
        self.first: dict[tuple[str, int], InteractionRecorded] = {}
        self.commands: list[Any] = []
        self.gone: dict[str, str] = {}
        self.said: dict[tuple[str, str], bool] = {}

    async def step(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("batch", messages):
                await self.tell(messages)
            case ("fault", messages, place):
                FAILPOINTS.arm(f"{place}=error")
                try:
                    await self.made.tell(self.heard(messages))
                except InjectedFault:
                    pass
                finally:
                    FAILPOINTS.disarm()
                await self.tell(messages)
            case ("merge", loser, survivor):
                await self.obey(
                    commands.MergeTargets(
                        command_id=self.number(), target_id=loser, survivor_id=survivor, occurred_at=THEN
                    ),
                    {f"contact/{loser}": f"contact/{survivor}"},
                )
            case ("erase", target):
                await self.obey(
                    commands.EraseTarget(command_id=self.number(), target_id=target, occurred_at=THEN),
                    {f"contact/{target}": "erased"} if self.gone.get(f"contact/{target}") is None else {},
                )
            case ("link", id_, target, linked):
                await self.obey(
                    commands.SetTargetLink(
                        command_id=self.number(),
                        interaction_type="call",
                        interaction_id=id_,
                        target_id=target,
                        linked=linked,
                        occurred_at=THEN + timedelta(seconds=len(self.commands)),
                    ),
                    {},
                )
                self.said[id_, f"contact/{target}"] = linked
            case ("rewind",):
                before = await self.kept()
                await self.tell(self.history)
                for command in self.commands:
                    await self.made.books.obey.obey(command)
                assert await self.kept() == before, "a rewind changed something"
            case ("later", hours):
                self.made.clock.advance(hours=hours)
                await self.made.books.settle.settle()

    def number(self) -> str:
        return str(len(self.commands))

    def heard(self, messages: Sequence[InteractionRecorded]) -> list[InteractionRecorded]:
        """One version of an interaction is always the same message."""
        return [self.first.setdefault((m.interaction_id, m.version), m) for m in messages]

    async def tell(self, messages: Sequence[InteractionRecorded]) -> None:
        messages = self.heard(messages)
        await self.made.tell(messages)
        self.history = [*self.history, *(m for m in messages if m not in self.history)]

    async def obey(self, command: Any, becomes: dict[str, str]) -> None:
        outcome = await self.made.books.obey.obey(command)
        self.commands.append(command)
        if not isinstance(outcome, GiveUp):
            self.gone = becomes | self.gone

    async def kept(self) -> tuple[dict[str, Any], list[Any], int]:
        channels = await self.made.channels()
        cells = {row["_id"]: row["day_total"] async for row in self.made.mongo["report_cells"].find()}
        rows = [row async for row in self.made.mongo["ledger"].find().sort("_id", 1)]
        return channels, rows, sum(sum(numbers.values()) for numbers in cells.values())

    async def check(self) -> None:
        newest: dict[str, InteractionRecorded] = {}
        for m in self.history:
            if m.interaction_id not in newest or m.version > newest[m.interaction_id].version:
                newest[m.interaction_id] = m
        expected = reference(list(newest.values()), self.gone, self.said, self.made.clock.now())
        assert await self.made.channels() == expected
        assert await self.made.recounted() == expected


@pytest.fixture(scope="session")
async def made(engines: Engines) -> Parts:
    return await parts(engines, "statsmodel")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(st.lists(steps, max_size=15))
async def test_the_counters_are_those_of_the_reference(made: Parts, story: list[Any]) -> None:
    await made.clear()
    made.clock.at = THEN
    told = Story(made)
    for step in story:
        await told.step(step)
        await told.check()
