"""What a domain and the contracts take from outside: a list each, for whatever is not on it is technology.
And the words that come with no import."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from tests.services import ROOT

_OWN = frozenset(path.parent.name for path in ROOT.glob("*/*/src/*/__init__.py"))
_OF_BOTH = frozenset(
    {"__future__", "collections", "dataclasses", "datetime", "enum", "json", "re", "typing"} | {"pydantic"}
)
_OF_DOMAINS = _OF_BOTH | {
    "codecs.BOM_UTF16_BE",
    "codecs.BOM_UTF16_LE",
    "codecs.BOM_UTF32_BE",
    "codecs.getincrementaldecoder",
    "copy.copy",
    "csv",
    "functools",
    "hashlib",
    "hmac.digest",
    "io.IncrementalNewlineDecoder",
    # How numbers are written in each country is knowledge, and not ours.
    "phonenumbers",
    "unicodedata",
    "zlib.crc32",
    "zoneinfo",
}
_OF_CONTRACTS = _OF_BOTH | {"pydantic_core", "uuid.UUID", "uuid.uuid5"}
"""Which of our own packages may know which is what the import rules say."""

_WHAT_TIME_IT_IS = frozenset({"now", "today", "utcnow"})
_READ_THE_WORLD = _WHAT_TIME_IT_IS | {"uuid1", "uuid4", "input", "open", "print"}
_READ_THE_WORLD |= {"read_bytes", "read_text", "write_bytes", "write_text"}

DOMAINS = sorted(ROOT.glob("services/*/src/*/domain/**/*.py"))
CONTRACTS = sorted((ROOT / "shared/contracts/src/contracts").rglob("*.py"))

_ALLOWED = {
    # The zones of each country are a file of the package tzdata, and read once.
    "batch_loader/domain/zones.py": {"importlib.resources.files", "read_text"},
    # `make docs` draws the documents, which stand beside the code.
    "contracts/documents.py": {"pathlib.Path", "read_text", "write_text"},
    "contracts/samples/__init__.py": {"importlib.resources.files", "read_bytes"},
}


def place(path: Path) -> str:
    return path.as_posix().rpartition("/src/")[2]


def allowed(path: Path) -> set[str]:
    return _ALLOWED.get(place(path), set())


def imported(source: str) -> Iterator[str]:
    """What a module imports, wherever in it, in full; of a module that is imported whole, what is used."""
    tree = ast.parse(source)
    whole: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            whole |= {name.asname or name.name: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)
    used = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for name, module in whole.items():
        uses = [use.removeprefix(name) for use in used if use.startswith(f"{name}.")]
        yield from (f"{module}{use}" for use in uses)
        if not uses:
            yield module


def foreign(source: str, known: Set[str]) -> set[str]:
    """What is on no list, nor a part of what is."""
    return {name for name in imported(source) if not any(of in known for of in _wholes(name))}


def _wholes(name: str) -> Iterator[str]:
    """It, what it is a part of, what that is a part of."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def world_read(source: str) -> list[str]:
    """Names with which the clock, chance, a file or a terminal is asked: called, or handed on to be."""
    tree = ast.parse(source)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name in _READ_THE_WORLD - _WHAT_TIME_IT_IS:
                found.append(name)
            case ast.Name(id=name) if name in _WHAT_TIME_IT_IS and id(node) in called:
                found.append(name)
            # `known.now` is a time that was told.
            case ast.Attribute(value=of, attr=name) if name in _READ_THE_WORLD:
                if id(node) in called or ast.unparse(of).rpartition(".")[2] in ("date", "datetime"):
                    found.append(name)
            # Without a zone it is the machine's.
            case ast.Call(func=ast.Attribute(attr="astimezone"), args=[], keywords=[]):
                found.append("astimezone")
    return found


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: f"{path.parts[-3]}.{path.stem}")
def test_a_domain_knows_no_technology(path: Path) -> None:
    assert foreign(path.read_text(), _OF_DOMAINS | _OWN | allowed(path)) == set()


@pytest.mark.parametrize("path", DOMAINS + CONTRACTS, ids=lambda path: f"{path.parts[-3]}.{path.stem}")
def test_nothing_pure_asks_the_world(path: Path) -> None:
    assert set(world_read(path.read_text())) - allowed(path) == set()


def test_what_is_allowed_is_needed() -> None:
    sources = {place(path): path.read_text() for path in (*DOMAINS, *CONTRACTS)}
    for file, names in _ALLOWED.items():
        assert names <= {*imported(sources[file]), *world_read(sources[file])}


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
    assert foreign(path.read_text(), _OF_CONTRACTS | {"contracts"} | allowed(path)) == set()


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("import httpx", "httpx"),
        ("import os.path", "os.path"),
        ("from structlog import get_logger", "structlog.get_logger"),
        ("if x:\n import smtplib", "smtplib"),
        ("import random", "random"),
        ("from secrets import token_hex", "secrets.token_hex"),
        ("from time import monotonic", "time.monotonic"),
        ("from uuid import uuid4", "uuid.uuid4"),
        ("import uuid as ids\nids.uuid4()", "uuid.uuid4"),
        ("import codecs\ncodecs.open('x')", "codecs.open"),
        ("from io import open", "io.open"),
        ("from pathlib import Path", "pathlib.Path"),
        ("from importlib import import_module", "importlib.import_module"),
        ("from importlib.resources import files", "importlib.resources.files"),
    ],
)
def test_what_is_not_on_the_list_is_found(planted: str, found: str) -> None:
    source = f"import re\nfrom contracts.message import Message\n{planted}\n"
    for known in (_OF_DOMAINS, _OF_CONTRACTS):
        assert foreign(source, known | {"contracts"}) == {found}


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("datetime.now(UTC)", "now"),
        ("field(default_factory=datetime.now)", "now"),
        ("clock.now()", "now"),
        ("datetime.datetime.utcnow()", "utcnow"),
        ("date.today()", "today"),
        ("uuid4()", "uuid4"),
        ("field(default_factory=uuid4)", "uuid4"),
        ("uuid.uuid1()", "uuid1"),
        ("open('/etc/hostname')", "open"),
        ("map(open, names)", "open"),
        ("path.open()", "open"),
        ("Path('/etc/hostname').read_text()", "read_text"),
        ("path.read_bytes()", "read_bytes"),
        ("print('x')", "print"),
        ("moment.astimezone()", "astimezone"),
    ],
)
def test_who_asks_the_world_is_found(planted: str, found: str) -> None:
    told = "known.now, moment.astimezone(UTC), batch.open, now, uuid5(PARLEY, 'x')"
    assert world_read(f"def decide(known, moment, batch, now):\n    return {told}, {planted}\n") == [found]
