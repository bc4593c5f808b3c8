"""A package of somebody else, installed as such, makes an interaction type count."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.channel_sms import Addresses
from servicekit.settings import BadSettings
from stats.direction_provider import BadProvider, installed
from stats.main import build
from stats.settings import Settings
from tests.engines import Engines
from tests.kit import Wire, eventually, running
from tests.stats.samples import contact_changed, interaction, name

PROJECT = """
[project]
name = "fax-for-parley"
version = "1.0"

[project.entry-points."parley.direction_providers"]
fax = "fax_for_parley:FaxDirection"

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
PROVIDER = """
from contracts.vocabulary import Direction


class FaxDirection:
    interaction_type = "fax"
    priority = 1
    reads_addresses = True

    def direction(self, interaction, target):
        between = interaction.addresses
        if between is None:
            return Direction.UNKNOWN
        if between.sender in target.addresses:
            return Direction.INCOMING
        return Direction.OUTGOING if set(between.to) & target.addresses else Direction.UNKNOWN

    def occurred_at(self, interaction):
        return interaction.occurred_at
"""
ITS_TESTS = """
from contracts.channel_sms import Addresses, InteractionRecorded
from fax_for_parley import FaxDirection
from stats.direction_provider import TargetView
from stats.direction_provider_contract import DirectionProviderContract


def fax(**between):
    return InteractionRecorded(
        interaction_id="f1", interaction_type="fax", version=1, contact_id="c1",
        addresses=Addresses(**between) if between else None,
    )


class TestFaxDirection(DirectionProviderContract):
    provider = FaxDirection()
    target = TargetView("contact", "c1", frozenset({"+12025550123"}))
    incoming = [fax(sender="+12025550123")]
    outgoing = [fax(sender="+12025550100", to=("+12025550123",))]
    unknown = [fax(), fax(sender="+12025550199")]


class TestSomebodyWhoMistookTheSides(TestFaxDirection):
    incoming, outgoing = TestFaxDirection.outgoing, TestFaxDirection.incoming
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package was installed to, by the tool that people install with."""
    source = tmp_path_factory.mktemp("fax-for-parley")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "fax_for_parley.py").write_text(PROVIDER)
    site = tmp_path_factory.mktemp("site")
    uv = Path(sys.executable).with_name("uv")
    options = ("--offline", "--no-deps", "--no-build-isolation", "--quiet", "--python", sys.executable)
    subprocess.run([uv, "pip", "install", *options, "--target", site, source], check=True)
    return site


async def test_it_decides_directions_in_the_running_service(
    package: Path, monkeypatch: pytest.MonkeyPatch, engines: Engines, namespace: str
) -> None:
    with pytest.raises(ValueError, match="no installed package has a direction provider for fax"):
        Settings(stats_interaction_types=("call", "fax"))
    monkeypatch.syspath_prepend(package)
    wire = Wire(engines, namespace)
    contact = name()
    async with running(
        build, Settings, engines, namespace, stats_interaction_types=("call", "fax"), stats_settle_every=0.1
    ) as service:
        await wire.publish(
            contact_changed(contact, phones=[{"number": "+12025550123", "type": "Fax"}]),
            *(
                interaction(contact, interaction_type="fax", direction=None, addresses=Addresses(**between))
                for between in (
                    {"sender": "+12025550123"},
                    {"sender": "+12025550100", "to": ("+12025550123",)},
                    {"sender": "+12025550199"},
                )
            ),
        )

        async def counted() -> bool:
            target = await service.mongo["targets"].find_one({"_id": f"contact/{contact}"})
            numbers = ((target or {}).get("channels") or {}).get("fax", {})
            return (numbers.get("in"), numbers.get("out")) == (1, 1)

        await eventually(counted, "the faxes to count")
        assert await service.mongo["ledger"].count_documents({"type": "fax", "direction": "unknown"}) == 1
    await wire.close()


def test_its_author_runs_the_contract_suite(package: Path, tmp_path: Path) -> None:
    (tmp_path / "test_fax.py").write_text(ITS_TESTS)
    suite = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env=os.environ | {"PYTHONPATH": str(package)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    failed = re.findall(r"^FAILED \S+?::(\w+::\w+)", suite.stdout, re.MULTILINE)
    assert sorted(failed) == [
        "TestSomebodyWhoMistookTheSides::test_incoming_is_what_the_contact_began",
        "TestSomebodyWhoMistookTheSides::test_outgoing_is_what_we_began",
    ], suite.stdout
    assert re.search(r"2 failed, 1\d passed", suite.stdout), suite.stdout


def test_one_that_cannot_be_loaded_stops_the_start(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for told in package.glob("*.dist-info"):
        broken = tmp_path / told.name.replace("fax_for_parley", "broken_for_parley")
        broken.mkdir()
        (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-for-parley\nVersion: 1.0\n")
        (broken / "entry_points.txt").write_text(
            "[parley.direction_providers]\npager = nothing_like_it:PagerDirection\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadProvider, match="direction provider 'pager'"):
        installed()
    with pytest.raises(BadSettings, match="direction provider 'pager'"):
        Settings.from_environment()
