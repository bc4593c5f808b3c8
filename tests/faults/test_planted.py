"""The planted bugs still fit the sources; `make planted` then sees each of them caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.planted.__main__ import planted
from tests.faults.planted.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_has_its_place_and_its_tests(bug: Bug) -> None:
    sound = (ROOT / bug.file).read_text()
    compile(planted(bug, sound), bug.file, "exec")
    for test in bug.caught_by:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), test


def test_the_table_in_the_documents_is_the_list() -> None:
    from tests.faults.planted.__main__ import table

    assert table(BUGS) in (ROOT / "docs/promises.md").read_text()
