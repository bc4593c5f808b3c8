"""Files that people write, and where exactly they are wrong."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.exits import WrongUsage

_TEXT, _TIMESTAMP = "tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"
_TIME_OF_DAY = re.compile(r"^\d?\d(:\d\d){1,2}$")
_STEP = re.compile(r"([A-Za-z0-9_-]+)|\[(\d+)\]")


class _Strict(yaml.SafeLoader):
    """A key that is there twice is a mistake, not the winner; a day or a time is the text that it is, since
    JSON knows neither, and 10:00 would be 600."""

    yaml_implicit_resolvers = {
        first: [(_TEXT, _TIME_OF_DAY), *(rule for rule in rules if rule[0] != _TIMESTAMP)]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


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


def read_yaml(file: Path, such_as: str = "subjects") -> Written:
    """A mapping; `such_as` is a key of it. Raises a Failure that names line and column."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WrongUsage(f"There is no file {file}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file} cannot be read: {error}.") from error
    try:
        loader = _Strict(text)
        root = loader.get_single_node()
        content = loader.construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or ""
        end = "; is it indented like the lines around it?" if "block" in said else "."
        raise WrongUsage(f"{_where(file, mark)}: {said}{end}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise WrongUsage(f"{file} is not YAML: {error}.") from error
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
