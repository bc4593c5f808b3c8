"""A channel of somebody else's: its topic is made, and activities dispatches to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cli.line import Line, LineState, environment
from cli.line.chosen_engines import make_topics
from cli.line.line import Wanted
from cli.line.members import MEMBERS
from contracts.catalogue import CHANNELS
from tests.engines import Engines


def told(name: str, channels: tuple[str, ...]) -> dict[str, str]:
    (member,) = [each for each in MEMBERS if each.name == name]
    state = LineState(clock_file=Path("clock.json"), channels=channels)
    return environment.of(member, 8100, state, Path())


def test_who_makes_and_who_loads_activities_is_told_of_further_channels() -> None:
    for service in ("activities", "batch-loader"):
        assert told(service, ("postcard",))["PARLEY_CHANNELS"] == ",".join((*CHANNELS, "postcard"))
    assert "PARLEY_CHANNELS" not in told("activities", ())
    assert "PARLEY_CHANNELS" not in told("workflow", ("postcard",))


def test_a_data_directory_keeps_the_channels_it_was_told(tmp_path: Path) -> None:
    first = Line(tmp_path, Wanted((), channels=("postcard",)), print)
    first.state.write(tmp_path)
    again = Line(tmp_path, Wanted((), channels=("fax", "postcard")), print)
    assert again.state.channels == ("postcard", "fax")


async def test_a_further_channel_gets_its_topic(engines: Engines, namespace: str) -> None:
    made = await asyncio.to_thread(make_topics, engines.kafka, namespace, 1, ("postcard",))
    assert f"{namespace}.activity-dispatched.postcard" in made.created
    assert f"{namespace}.activity-dispatched.sms" in made.created
    again = await asyncio.to_thread(make_topics, engines.kafka, namespace, 1, ("postcard",), -1)
    assert (again.created, again.keep_less, str(again)) == ([], [], "All topics are there.")


async def test_topics_with_less_room_than_asked_for_are_named(engines: Engines, namespace: str) -> None:
    small = await asyncio.to_thread(make_topics, engines.kafka, namespace, 1, (), 1024**2)
    assert small.keep_less == []
    again = await asyncio.to_thread(make_topics, engines.kafka, namespace, 1, (), -1)
    told = f"topic {namespace}.activity-created has retention.bytes={1024**2} instead of -1"
    assert told in again.keep_less
    assert "kafka-configs.sh" in str(again)
