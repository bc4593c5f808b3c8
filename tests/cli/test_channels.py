"""A channel of somebody else's: its topic is made, and activities dispatches to it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cli.line import LineState, environment
from cli.line.chosen_engines import make_topics
from cli.line.members import MEMBERS
from tests.engines import Engines


def told(name: str, channels: tuple[str, ...]) -> dict[str, str]:
    (member,) = [each for each in MEMBERS if each.name == name]
    return environment.of(member, 8100, LineState(clock_file=Path("clock.json")), Path(), channels)


def test_activities_alone_is_told_of_further_channels() -> None:
    assert json.loads(told("activities", ("postcard",))["PARLEY_CHANNELS"]) == ["sms", "postcard"]
    assert "PARLEY_CHANNELS" not in told("activities", ())
    assert "PARLEY_CHANNELS" not in told("workflow", ("postcard",))


async def test_a_further_channel_gets_its_topic(engines: Engines, namespace: str) -> None:
    made = await asyncio.to_thread(make_topics, engines.kafka, namespace, 1, ("postcard",))
    assert f"{namespace}.activity-dispatched.postcard" in made
    assert f"{namespace}.activity-dispatched.sms" in made
    assert await asyncio.to_thread(make_topics, engines.kafka, namespace, 1, ("postcard",)) == []
