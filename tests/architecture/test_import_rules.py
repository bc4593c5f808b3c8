"""Each import rule is seen failing: a forbidden import is planted in a copy, and the rule names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("shared/*/src"), *ROOT.glob("services/*/src"), *ROOT.glob("simulators/*/src")]

PLANTED = {
    "The contracts import nothing else of ours": ("contracts/vocabulary.py", "servicekit.clock"),
    "The service kit knows no service": ("servicekit/clock.py", "stats.domain.ledger"),
    "Of the contracts the service kit knows only messages, their faults, and which times there are": (
        "servicekit/outbox.py",
        "contracts.vocabulary",
    ),
    "Services meet only on topics": ("workflow/http.py", "stats.domain.ledger"),
    "No service imports the command line": ("contacts/main.py", "cli.exits"),
    "The carrier is somebody else's system": ("carrier/messages.py", "servicekit.clock"),
    "A domain knows neither process nor technology": ("stats/domain/ledger.py", "pymongo"),
    "Only http knows that requests come over HTTP": (
        "campaigns/use_cases/move_campaign.py",
        "servicekit.problems",
    ),
    "Use cases say in ports.py what they need, and adapters give it": (
        "activities/use_cases/dispatch_due.py",
        "activities.adapters.mongo_contacts",
    ),
    "Only adapters know MongoDB": ("workflow/use_cases/preview_completion.py", "pymongo"),
    "Inside a service the way leads from the root to the domain": (
        "channel_sms/adapters/mongo_intents.py",
        "channel_sms.use_cases.send_due",
    ),
}


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says about a copy in which every rule is broken once."""
    copy = tmp_path_factory.mktemp("planted")
    for source in [*SOURCES, ROOT / "cli" / "src"]:
        shutil.copytree(source, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, forbidden in PLANTED.values():
        path = copy / file
        path.write_text(f"{path.read_text()}\nimport {forbidden} as planted  # noqa\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("rule", PLANTED)
def test_a_rule_names_the_import_that_breaks_it(verdict: str, rule: str) -> None:
    file, forbidden = PLANTED[rule]
    importer = file.removesuffix(".py").replace("/", ".")
    assert f"{rule} BROKEN" in verdict
    broken = verdict.partition("Broken contracts")[2].partition(f"\n{rule}\n")[2].split("\n---")[0]
    assert f"{importer} -> {forbidden.split('.')[0]}" in broken, broken


def test_every_rule_was_broken() -> None:
    written = (ROOT / "pyproject.toml").read_text()
    assert written.count("[[tool.importlinter.contracts]]") == len(PLANTED)
