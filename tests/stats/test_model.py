"""Whatever happens in whatever order, the counters are those of a ten-line reference.

The stories are told to the use cases of the service: many to a database in memory, some to the real one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contracts import stats as commands
from contracts.channel_sms import InteractionRecorded, Target
from servicekit.failpoints import FAILPOINTS, InjectedFault
from servicekit.mongo import Document
from servicekit.verdict import GiveUp, TryAgain
from stats.domain.ledger import attempt_of
from tests.engines import Engines
from tests.stats.parts import Parts, parts, parts_in_memory
from tests.stats.samples import THEN

Run = Callable[[Coroutine[Any, Any, Any]], Any]

IN_MEMORY = int(os.environ.get("PARLEY_TEST_STATS_STORIES", "100"))
ON_THE_ENGINE = max(6, IN_MEMORY // 15)
WRITING = (
    "stats.before_transaction",
    "stats.between_ledger_and_counters",
    "stats.before_commit",
    "stats.after_transaction",
)


def reference(
    newest: Sequence[InteractionRecorded],
    gone: dict[str, str],
    said: dict[tuple[str, str], tuple[datetime, bool]],
    counted: set[str],
    now: datetime,
) -> dict[str, Any]:
    """What the counters must be: each interaction once for each target it is about."""
    counters: dict[str, Any] = {}
    for m in newest:
        linked = {t: on for (id_, t), (_, on) in said.items() if id_ == m.interaction_id}
        told = {f"{t.type}/{t.id}" for t in named_in(m)} | linked.keys()
        stay = {t for t in told if linked.get(t, True) and linked.get(now_is(t, gone), True)}
        about = {t for t in (now_is(t, gone) for t in stay) if t.partition("/")[0] in counted}
        for t in about if m.direction in WAYS and not m.deleted else ():
            lane = counters.setdefault(t, {}).setdefault(m.channel or m.interaction_type, {})
            way, at = WAYS[m.direction], m.occurred_at or THEN
            lane[way] = lane.get(way, 0) + 1
            if at <= now:
                lane[f"last_{way}"] = max(lane.get(f"last_{way}", at), at)
    return counters


def attempts_of(
    newest: Sequence[InteractionRecorded],
    gone: dict[str, str],
    said: dict[tuple[str, str], tuple[datetime, bool]],
    counted: set[str],
) -> int:
    """What the reports must have: each interaction that counts for somebody once, even if erased since."""
    return sum(
        m.direction in WAYS
        and not m.deleted
        and any(
            on and said.get((m.interaction_id, last_of(t, gone)), (THEN, True))[1]
            for t, on in links_of(m, said).items()
            if t.partition("/")[0] in counted
        )
        for m in newest
    )


def links_of(
    message: InteractionRecorded, said: dict[tuple[str, str], tuple[datetime, bool]]
) -> dict[str, bool]:
    named = {f"{t.type}/{t.id}": True for t in named_in(message)}
    return named | {t: on for (id_, t), (_, on) in said.items() if id_ == message.interaction_id}


def last_of(target: str, gone: dict[str, str]) -> str:
    """Whom it was merged into in the end, erased or not."""
    now = gone.get(target, "nobody")
    return target if now == "nobody" else last_of(now, gone)


WAYS: dict[Any, str] = {"incoming": "in", "outgoing": "out"}


def named_in(message: InteractionRecorded) -> tuple[Target, ...]:
    return message.targets if message.targets is not None else (Target(id=message.contact_id),)


def now_is(target: str, gone: dict[str, str]) -> str:
    return now_is(gone[target], gone) if target in gone else target


contacts = st.sampled_from("abcd")
uncounted = st.sampled_from([Target(type=t, id="x") for t in ("deal", "user")])
targets = (
    st.sampled_from([*(Target(id=letter) for letter in "abcd"), Target(type="account", id="x")]) | uncounted
)
ways = st.sampled_from(["incoming", "outgoing", "outgoing", "unknown"])
times = st.integers(-5, 3).map(lambda hours: THEN + timedelta(hours=hours))
edits = st.fixed_dictionaries(
    {},
    optional={
        "direction": ways,
        "occurred_at": times,
        "contact_id": contacts,
        "channel": st.sampled_from([None, "sms", "voice"]),
        "campaign_id": st.sampled_from([None, "c1", "c2"]),
        "disposition": st.sampled_from([None, "sold"]),
        "targets": st.none() | st.lists(targets, min_size=1, max_size=3).map(tuple),
        "deleted": st.booleans(),
    },
)
arrives = st.sampled_from([True, True, False])
"""Or is held back, to come later, in another order."""


class AttemptStories(RuleBasedStateMachine):
    """What sources and people do, and what befalls the messages on their way and the process meanwhile."""

    interactions = Bundle("interactions")

    def __init__(self, made: Parts, run: Run) -> None:
        super().__init__()
        self.made = made
        self.run = run
        self.newest_made: dict[str, InteractionRecorded] = {}
        self.on_the_way: list[InteractionRecorded] = []
        self.arrived: list[InteractionRecorded] = []
        self.commands: list[Any] = []
        self.gone: dict[str, str] = {}
        self.said: dict[tuple[str, str], tuple[datetime, bool]] = {}
        self.counted = {"contact", "account", "lead"}
        self.run(made.clear())
        made.clock.at = THEN

    # What is told about interactions.

    @rule(
        target=interactions,
        contact=contacts,
        type_=st.sampled_from(["call", "call", "fax"]),
        way=ways | st.none(),
        at=times | st.none(),
        about=st.none()
        | st.lists(targets, min_size=1, max_size=3).map(tuple)
        | uncounted.map(lambda t: (t,)),
        arrives=arrives,
    )
    def create(
        self,
        contact: str,
        type_: str,
        way: str | None,
        at: datetime | None,
        about: tuple[Target, ...] | None,
        arrives: bool,
    ) -> str:
        id_ = f"m{len(self.newest_made) + 1}"
        message = InteractionRecorded.model_validate(
            {
                "interaction_id": id_,
                "interaction_type": type_,
                "version": 1,
                "contact_id": contact,
                "direction": way,
                "occurred_at": at,
                "targets": about,
            }
        )
        self.publish(message, arrives)
        return id_

    @rule(id_=interactions, said=edits, arrives=arrives)
    def change(self, id_: str, said: dict[str, Any], arrives: bool) -> None:
        self.next_version(id_, said, arrives)

    @rule(id_=interactions, whom=targets, arrives=arrives)
    def link(self, id_: str, whom: Target, arrives: bool) -> None:
        self.next_version(id_, {"targets": (*named_in(self.newest_made[id_]), whom)}, arrives)

    @rule(id_=interactions, position=st.integers(0, 3), arrives=arrives)
    def unlink(self, id_: str, position: int, arrives: bool) -> None:
        named = named_in(self.newest_made[id_])
        left = named[:position] + named[position + 1 :]
        self.next_version(id_, {"targets": left}, arrives)

    @rule(id_=interactions, arrives=arrives)
    def delete(self, id_: str, arrives: bool) -> None:
        self.next_version(id_, {"deleted": True}, arrives)

    def next_version(self, id_: str, said: dict[str, Any], arrives: bool) -> None:
        message = self.newest_made[id_]
        self.publish(
            InteractionRecorded.model_validate(
                message.model_dump() | said | {"version": message.version + 1}
            ),
            arrives,
        )

    # What is commanded.

    @rule(id_=interactions, whom=targets, linked=st.booleans(), at=st.integers(0, 1000))
    def link_by_command(self, id_: str, whom: Target, linked: bool, at: int) -> None:
        command = commands.SetTargetLink(
            command_id=str(len(self.commands)),
            interaction_type=self.newest_made[id_].interaction_type,
            interaction_id=self.newest_made[id_].interaction_id,
            target_type=whom.type,
            target_id=whom.id,
            linked=linked,
            occurred_at=THEN + timedelta(seconds=at),
        )
        self.obey(command)
        link = (id_, f"{whom.type}/{whom.id}")
        if link not in self.said or self.said[link][0] < command.occurred_at:
            self.said[link] = (command.occurred_at, linked)

    @rule(loser=contacts, survivor=contacts, killed=st.booleans())
    def merge(self, loser: str, survivor: str, killed: bool) -> None:
        command = commands.MergeTargets(
            command_id=str(len(self.commands)), target_id=loser, survivor_id=survivor, occurred_at=THEN
        )
        if self.obey(command, killed) and f"contact/{loser}" not in self.gone:
            self.gone[f"contact/{loser}"] = f"contact/{survivor}"

    @rule(whom=targets | uncounted, killed=st.booleans())
    def erase(self, whom: Target, killed: bool) -> None:
        command = commands.EraseTarget(
            command_id=str(len(self.commands)), target_type=whom.type, target_id=whom.id, occurred_at=THEN
        )
        self.obey(command, killed)
        self.gone.setdefault(f"{whom.type}/{whom.id}", "nobody")

    @rule()
    def count_deals(self) -> None:
        self.obey(
            commands.SetCounting(
                command_id=str(len(self.commands)), target_type="deal", enabled=True, occurred_at=THEN
            )
        )
        self.run(self.made.books.settle.settle())
        self.counted.add("deal")

    def obey(self, command: Any, killed: bool = False) -> bool:
        """Whether it was carried out. Killed: halfway, while others go on, and then it comes again."""
        self.commands.append(command)
        if killed:
            with dying_at("stats.between_mark_and_move"):
                self.run(self.made.books.obey.obey(command))
            self.let_arrive(self.on_the_way)
        return not isinstance(self.run(self.made.books.obey.obey(command)), GiveUp)

    # What befalls messages, and the process.

    @rule(hours=st.integers(1, 2))
    def time_passes(self, hours: int) -> None:
        self.made.clock.advance(hours=hours)
        self.run(self.made.books.settle.settle())

    @precondition(lambda self: self.on_the_way)
    @rule(order=st.randoms(use_true_random=False))
    def reorder(self, order: Random) -> None:
        waiting = list(self.on_the_way)
        order.shuffle(waiting)
        self.let_arrive(waiting[: order.randint(1, len(waiting))])

    @precondition(lambda self: self.arrived)
    @rule(which=st.lists(st.integers(0, 50), min_size=1, max_size=5))
    def duplicate(self, which: list[int]) -> None:
        before = self.run(self.kept())
        self.let_arrive([self.arrived[each % len(self.arrived)] for each in which])
        assert self.run(self.kept()) == before, "a repeat changed something"

    @precondition(lambda self: self.on_the_way)
    @rule(place=st.sampled_from(WRITING))
    def kill(self, place: str) -> None:
        """Before the write, within it, or between it and its acknowledgement; the batch comes again."""
        batch = [*self.on_the_way, *self.arrived[-2:]]
        with dying_at(place):
            self.run(self.made.tell(batch))
        self.let_arrive(batch)

    @precondition(lambda self: self.arrived)
    @rule(size=st.integers(1, 9))
    def rewind(self, size: int) -> None:
        before = self.run(self.kept())
        for start in range(0, len(self.arrived), size):
            self.run(self.made.tell(self.arrived[start : start + size]))
        for command in self.commands:
            self.run(self.made.books.obey.obey(command))
        assert self.run(self.kept()) == before, "a rewind changed something"

    def publish(self, message: InteractionRecorded, arrives: bool) -> None:
        self.newest_made[message.interaction_id] = message
        self.on_the_way.append(message)
        if arrives:
            self.let_arrive([message])

    def let_arrive(self, batch: Sequence[InteractionRecorded]) -> None:
        outcomes = self.run(self.made.tell(list(batch))) if batch else []
        # What waits for an erasure that was killed halfway comes again.
        taken = [each for each, out in zip(batch, outcomes, strict=True) if not isinstance(out, TryAgain)]
        self.on_the_way = [each for each in self.on_the_way if each not in taken]
        self.arrived += [each for each in taken if each not in self.arrived]

    @invariant()
    def the_counters_are_those_of_the_reference(self) -> None:
        newest = {m.interaction_id: m for m in sorted(self.arrived, key=lambda each: each.version)}
        expected = reference(list(newest.values()), self.gone, self.said, self.counted, self.made.clock.at)
        assert self.run(self.made.channels()) == expected
        assert self.run(self.made.recounted()) == expected

    @invariant()
    def ledger_and_reports_have_the_attempts_of_the_reference(self) -> None:
        newest = {m.interaction_id: m for m in sorted(self.arrived, key=lambda each: each.version)}
        expected = attempts_of(list(newest.values()), self.gone, self.said, self.counted)
        rows, cells = self.run(self.attempts())
        assert (len(rows), cells) == (expected, expected)

    async def attempts(self) -> tuple[list[Document], int]:
        heads = [row async for row in self.made.mongo["ledger"].find() if not row["_id"].startswith("+")]
        all_rows: dict[str, list[Document]] = {row["_id"]: [row] for row in heads}
        async for row in self.made.mongo["ledger"].find():
            if row["_id"].startswith("+"):
                all_rows[f"{row['type']}/{row['id']}"].append(row)
        standing = [row for rows in all_rows.values() if (row := attempt_of(rows)) is not None]
        cells = [row async for row in self.made.mongo["report_cells"].find()]
        return standing, sum(sum(cell["day_total"].values()) for cell in cells)

    async def kept(self) -> tuple[Any, ...]:
        """All there is; a target is met again without being changed."""
        mongo = self.made.mongo
        return (
            [row async for row in mongo["ledger"].find().sort("_id", 1)],
            [row | {"met": 0} async for row in mongo["targets"].find().sort("_id", 1)],
            [row["day_total"] async for row in mongo["report_cells"].find().sort("_id", 1)],
        )


@contextmanager
def dying_at(place: str) -> Iterator[None]:
    """As a process dies that is killed there: nothing after it happens."""
    FAILPOINTS.arm(f"{place}=error")
    try:
        yield
    except InjectedFault:
        pass
    finally:
        FAILPOINTS.disarm()


def tell_stories(made: Parts, run: Run, stories: int, steps: int) -> None:
    """The same ones on every run. A failing one is printed as it is: making it shorter takes minutes."""

    class Stories(AttemptStories):
        def __init__(self) -> None:
            super().__init__(made, run)

    run_state_machine_as_test(
        Stories,
        settings=settings(
            max_examples=stories,
            stateful_step_count=steps,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),
        ),
    )


def test_the_counters_are_those_of_the_reference() -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        tell_stories(parts_in_memory(), runner.run, IN_MEMORY, 30)


def test_the_counters_on_the_engine_are_those_of_the_reference(engines: Engines) -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        made = runner.run(parts(engines, "statsmodel"))
        try:
            tell_stories(made, runner.run, ON_THE_ENGINE, 20)
        finally:
            runner.run(made.mongo.close())
