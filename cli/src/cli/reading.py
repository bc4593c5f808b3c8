"""Files that people write, and where exactly they are wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from cli.exits import WrongUsage

_TIME_OF_DAY = re.compile(r"^[-+]?\d+(:\d+)+(\.\d*)?$")
_STEP = re.compile(r"([A-Za-z0-9_-]+)|\[(\d+)\]")
_TAG = "tag:yaml.org,2002:"
_NOT_IN_JSON = ("binary", "set", "omap", "pairs")


class _Strict(yaml.SafeLoader):
    """What JSON can say, for that is how it goes on; a key that is there twice is a mistake, not the winner.

    A day or a time is the text that was written: JSON has none, who reads it knows what it is for, and 10:00
    would be 600, to YAML of old.
    """

    yaml_implicit_resolvers = {
        first: [(f"{_TAG}str", _TIME_OF_DAY), *(rule for rule in rules if rule[0] != f"{_TAG}timestamp")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in _NOT_IN_JSON:
            raise _wrong(node, f"JSON has no value of the kind !!{kind}; write a text, a list or a mapping")
        try:
            value = super().construct_object(node, deep)
        except (LookupError, ValueError):
            raise _wrong(node, f"{node.value[:40]!r} cannot be read as !!{kind}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _wrong(node, f"{node.value} is not a number that JSON has")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(node, "names with values are needed here")
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _wrong(key_node, "a key must be a word")
            if key in seen:
                raise _wrong(key_node, f"the key {key!r} is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _as_written(loader: _Strict, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


_Strict.add_constructor(f"{_TAG}timestamp", _as_written)


def _wrong(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


@dataclass(frozen=True)
class Written:
    """What a file says, and where it says it."""

    file: Path
    content: dict[str, Any]
    root: yaml.Node

    def locate(self, place: str) -> str:
        """`subjects[0].opening` as file, line and column: of that place, or of the nearest around it."""
        node = self.root
        for name, index in _STEP.findall(place):
            inner = _inside(node, name, index)
            if inner is None:
                break
            node = inner
        return _where(self.file, node.start_mark)

    def locate_key(self, key: object) -> str:
        """Where a key of the outermost mapping stands."""
        places = self.root.value if isinstance(self.root, yaml.MappingNode) else ()
        found = next((name for name, _ in places if name.value == str(key)), self.root)
        return _where(self.file, found.start_mark)


def opened(file: Path) -> BinaryIO:
    """Of whatever command: a file that cannot be read is told in the same sentence."""
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise WrongUsage(f"There is no file {file}.") from None
    except IsADirectoryError:
        raise WrongUsage(f"{file} is a folder.") from None
    except OSError as error:
        raise WrongUsage(f"{file} cannot be read: {error.strerror}.") from error


def read_yaml(file: Path, such_as: str = "subjects") -> Written:
    """A mapping; `such_as` is a key of it. Raises a Failure that names line and column."""
    try:
        with opened(file) as bytes_:
            text = bytes_.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongUsage(f"{file} cannot be read: {error}.") from error
    try:
        loader = _Strict(text)
        root = loader.get_single_node()
        content = loader.construct_document(root) if root is not None else None
        json.dumps(content, ensure_ascii=False).encode()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or ""
        end = "; is it indented like the lines around it?" if "block" in said else "."
        raise WrongUsage(f"{_where(file, mark)}: {said}{end}") from error
    except yaml.YAMLError as error:
        raise WrongUsage(f"{file} is not YAML: {error}.") from error
    except (ValueError, RecursionError) as error:  # half a character, an alias of what it is in, a deep nest
        raise WrongUsage(f"{file} cannot be written as JSON: {error}.") from error
    if root is None or not isinstance(content, dict):
        raise WrongUsage(f"{file}, line 1, column 1: expected names with values, such as `{such_as}:`.")
    return Written(file, content, root)


def _inside(node: yaml.Node, name: str, index: str) -> yaml.Node | None:
    match node:
        case yaml.MappingNode() if name:
            return next((value for key, value in node.value if key.value == name), None)
        case yaml.SequenceNode() if index and int(index) < len(node.value):
            inner: yaml.Node = node.value[int(index)]
            return inner
        case _:
            return None


def _where(file: Path, mark: Any) -> str:
    return f"{file}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(file)
