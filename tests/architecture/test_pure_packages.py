"""What a domain and the contracts take from outside: a list, because whatever is not on it is technology.
And the words that come with no import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import ROOT

_OWN = frozenset(path.parent.name for path in ROOT.glob("*/*/src/*/__init__.py"))
_PURE = frozenset(
    {"__future__", "codecs", "collections", "copy", "csv", "dataclasses", "datetime", "enum", "functools"}
    | {"hashlib", "hmac", "importlib", "io", "json", "pathlib", "re", "typing", "unicodedata"}
    | {"uuid", "zlib", "zoneinfo"}
)
"""Modules of Python itself that touch neither the machine nor the network nor the clock."""
_EVERYWHERE = _PURE | _OWN | {"pydantic", "pydantic_core"}
"""Which of our own packages may know which is what the import rules say."""

DOMAINS = sorted(ROOT.glob("services/*/src/*/domain/*.py"))
CONTRACTS = sorted((ROOT / "shared/contracts/src/contracts").glob("*.py"))


def imported(source: str) -> Iterator[str]:
    """The packages that a module names, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def foreign(source: str, *more: str) -> set[str]:
    return set(imported(source)) - _EVERYWHERE - set(more)


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: f"{path.parts[-3]}.{path.stem}")
def test_a_domain_knows_no_technology(path: Path) -> None:
    # How numbers are written in each country is knowledge, and not ours.
    assert foreign(path.read_text(), "phonenumbers") == set()


def operators(source: str) -> list[str]:
    """Words of MongoDB's: the pieces of text that begin with its sign."""
    return [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("$")
    ]


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: f"{path.parts[-3]}.{path.stem}")
def test_a_domain_says_what_it_writes_in_no_words_of_the_database(path: Path) -> None:
    assert operators(path.read_text()) == []


@pytest.mark.parametrize("planted", ['{"$set": {"a": 1}}', "f'$a.{name}'", 'd["a"]["$inc"]'])
def test_a_word_of_the_database_is_found(planted: str) -> None:
    assert len(operators(f"def decide(name, d):\n    return {planted}, 'costs $5'\n")) == 1


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_the_contracts_need_nothing_but_pydantic(path: Path) -> None:
    assert foreign(path.read_text()) == set()


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("import httpx", "httpx"),
        ("import os.path", "os"),
        ("from structlog import get_logger", "structlog"),
        ("if x:\n import smtplib", "smtplib"),
    ],
)
def test_what_is_not_on_the_list_is_found(planted: str, found: str) -> None:
    assert foreign(f"import re\nfrom contracts.message import Message\n{planted}\n") == {found}
