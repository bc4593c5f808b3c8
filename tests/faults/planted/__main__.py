"""`make planted`: plant each bug in a copy of the tree and see the tests that must notice it notice it.

First the same tests run on the copy as it is: a test that fails anyway catches nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.faults.planted.bugs import BUGS, Bug

_ROOT = Path(__file__).resolve().parents[3]
_FAILED = 1
"""pytest's code for tests that failed; every other one but 0 means that they did not run."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.planted", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the quickest, as CI does")
    parser.add_argument("--only", metavar="WORD", help="only bugs with this in their name")
    parser.add_argument("--table", action="store_true", help="print the table for docs/promises.md and end")
    parser.add_argument("--report", type=Path, help="write what happened as JSON")
    chosen = parser.parse_args()
    bugs = [
        bug
        for bug in BUGS
        if (bug.quick or not chosen.quick) and (not chosen.only or chosen.only in bug.name)
    ]
    if chosen.table:
        sys.stdout.write(table(bugs))
        return
    with tempfile.TemporaryDirectory(prefix="parley-planted-") as where:
        ok = run(Path(where) / "copy", bugs, chosen.report)
    sys.exit(0 if ok else 1)


def run(copy: Path, bugs: Sequence[Bug], report: Path | None) -> bool:
    copy_tree(copy)
    tests = sorted({test for bug in bugs for test in bug.caught_by})
    code, seconds, words = pytest(copy, tests)
    if code == _FAILED:
        # A busy machine fails what waits for something; what fails twice is not fit to catch anything.
        code, seconds, words = pytest(copy, tests)
    if code != 0:
        sys.stdout.write(f"{words}\nThe tests do not pass without any bug: nothing can be learned.\n")
        return False
    sys.stdout.write(f"{len(tests)} tests pass as it is ({seconds:.0f} s)\n")
    told = []
    for bug in bugs:
        place = copy / bug.file
        sound = place.read_text()
        place.write_text(planted(bug, sound))
        code, seconds, words = pytest(copy, bug.caught_by, "-x")
        place.write_text(sound)
        caught = code == _FAILED
        told.append(asdict(bug) | {"caught": caught, "seconds": round(seconds, 1)})
        sys.stdout.write(f"{'caught' if caught else 'MISSED'}  {bug.breaks:4} {bug.name} ({seconds:.0f} s)\n")
        if code not in (0, _FAILED):
            sys.stdout.write(words)
        sys.stdout.flush()
    if report is not None:
        report.write_text(json.dumps(told, indent=1) + "\n")
    caught_all = all(each["caught"] for each in told)
    sys.stdout.write(f"{sum(bool(each['caught']) for each in told)} of {len(told)} bugs caught\n")
    return caught_all


class NotPlantable(ValueError):
    """The source has changed so that a bug no longer fits; write it anew."""


def planted(bug: Bug, sound: str) -> str:
    if sound.count(bug.right) != 1:
        raise NotPlantable(f"{bug.name}: {bug.file} has its place {sound.count(bug.right)} times, not once")
    return sound.replace(bug.right, bug.wrong)


def copy_tree(copy: Path) -> None:
    """What git knows of, and what it does not know yet; nothing that was built."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (_ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, copy / name)


def pytest(copy: Path, tests: Sequence[str], *options: str) -> tuple[int, float, str]:
    """The exit code, the seconds it took and what was said; the copy's own sources are imported."""
    sources = os.pathsep.join(str(path) for path in [*sorted(copy.glob("*/*/src")), copy / "cli/src", copy])
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, *tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": sources, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, time.monotonic() - began, done.stdout[-3000:] + done.stderr[-1000:]


def table(bugs: Sequence[Bug]) -> str:
    lines = ["| bug | breaks | where | caught by |", "|---|---|---|---|"]
    for bug in bugs:
        tests = ", ".join(f"`{test}`" for test in bug.caught_by)
        lines.append(f"| {bug.name} | {bug.breaks} | `{bug.file}` | {tests} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
