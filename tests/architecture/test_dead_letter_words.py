"""The words that other systems are told for why a message is a dead letter."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TOLD = re.compile(r"^\| (.+?) \|", re.MULTILINE)
_WHERE = {"GiveUp": 0, "Rejected": 1, "BadEnding": 0}
"""Calls that name the word, and which argument it is."""
_ON_REST_ALONE = {"actor_missing", "follow_up_passed"}


def words_in(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        position = _WHERE.get(node.func.id)
        if position is None or len(node.args) <= position:
            continue
        word = node.args[position]
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            yield word.value


def test_every_word_for_a_dead_letter_is_in_the_integrators_table() -> None:
    sources = [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("shared/servicekit/src/**/*.py")]
    used = {word for source in sources for word in words_in(source)}
    used = {"bug: ..." if word.startswith("bug: ") else word for word in used} - _ON_REST_ALONE
    table = (ROOT / "docs/integrating.md").read_text().partition("## Why a message is a dead letter")[2]
    told = {word for row in _TOLD.findall(table) for word in re.findall(r"`([^`]+)`", row)} - {"dlq_reason"}
    assert used == told
