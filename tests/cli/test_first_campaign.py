"""What docs/first-campaign.md tells people to type works, and answers what it says."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from uuid import uuid4

from typer.testing import CliRunner

from cli.main import app
from cli.reading import read_yaml
from servicekit.service import Service
from tests.engines import Engines
from tests.kit import running, settled

PAGE = Path(__file__).parents[2] / "docs" / "first-campaign.md"
SERVICES = ("contacts", "campaigns", "workflow", "batch-loader", "activities", "stats")
NOT_HERE = ("up", "reconcile")
"""One never ends, the other asks the carrier as well."""


def blocks(kind: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in fenced if language == kind]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("parley ")]
    return [words for line in lines if (words := shlex.split(line)[1:])[0] not in NOT_HERE]


def test_what_the_batch_file_leaves_out_can_be_let_in(tmp_path: Path) -> None:
    file = tmp_path / "batch.yaml"
    file.write_text(blocks("yaml")[0].replace("# schedule:", "schedule:"), encoding="utf-8")
    schedule = read_yaml(file).content["choices"]["schedule"]
    assert schedule == {"kind": "local_time", "date": "2027-01-12", "time": "10:00"}


async def test_every_command_of_the_page_does_what_the_page_says(engines: Engines, tmp_path: Path) -> None:
    with as_file(files("cli.sample") / "bundle.yaml") as path:
        (tmp_path / "my-bundle.yaml").write_bytes(path.read_bytes())
    (tmp_path / "people.csv").write_text(blocks("csv")[0], encoding="utf-8")
    (tmp_path / "batch.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    async with AsyncExitStack() as stack:
        services = await _services(engines, stack)

        async def parley(*words: str) -> str:
            urls = ",".join(f"{name}=http://127.0.0.1:{each.port}" for name, each in services.items())
            done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--against", urls])
            assert done.exit_code == 0, (words, done.output)
            await settled(*services.values())
            return done.stdout

        assert "No campaigns; `parley apply" in await parley("campaign", "list")
        assert await parley("batch", "list") == "No batches.\n"
        assert await parley("batch", "list", "--state", "paused") == "No batches are paused.\n"
        answers = await _walk(parley, tmp_path)
    assert "would create flows/renewal" in answers["apply --dry-run"]
    assert "created flows/renewal" in answers["apply"]
    assert "rejected: bad_phone" in answers["contacts import"]
    assert "2 contacts match, 2 would be selected." in answers["batch preview"]
    assert "1 contact matches, 1 would be selected." in answers["batch preview"]
    assert "Second calls is loaded: 1 selected = 1 loaded" in answers["batch load"]
    assert "  2 would be skipped: duplicate_open_activity\n" in answers["batch preview"]
    assert "1 would be skipped: opted_out" in answers["batch preview"]
    assert "First calls is loaded: 2 selected = 2 loaded" in answers["batch load"]
    assert re.search(r"care-call +care", answers["activities next"])
    assert re.search(r"ada +[A-Z]\w+ \w+, \+1\d{10} ", answers["activities next"])
    assert re.search(r"renewal +renewals", answers["activities list"])
    assert "is completed with reached (ada)." in answers["activities complete"]
    assert re.search(
        r"What followed.*on reached: finish done +workflow", answers["activities show"], re.DOTALL
    )
    assert re.search(r"all channels +1 +0 +1 .* 0 *$", answers["stats show"], re.MULTILINE)


async def _services(engines: Engines, stack: AsyncExitStack) -> dict[str, Service]:
    namespace = f"first{uuid4().hex[:8]}-"
    services = {}
    for name in SERVICES:
        package = name.replace("-", "_")
        build = importlib.import_module(f"{package}.main").build
        settings = importlib.import_module(f"{package}.settings").Settings
        services[name] = await stack.enter_async_context(running(build, settings, engines, namespace))
    return services


async def _walk(parley: Callable[..., Awaitable[str]], folder: Path) -> dict[str, str]:
    """What each command answered. The ids that a person copies are looked up."""
    answers: dict[str, str] = {}
    for words in commands():
        known: dict[str, Any] = {}
        if "BATCH" in words:
            known["BATCH"] = json.loads(await parley("batch", "list", "--json"))[0]["batch_id"]
        if "ACTIVITY" in words:
            found = json.loads(await parley("activities", "list", "--contact", "C-1", "--json"))
            known["ACTIVITY"] = found[0]["activity_id"]
        typed = [known.get(word, str(folder / word) if (folder / word).is_file() else word) for word in words]
        name = " ".join(word for word in words[:2] if not word.endswith(".yaml"))
        if "--dry-run" in words:
            name += " --dry-run"
        answers[name] = answers.get(name, "") + await parley(*typed)
    return answers
