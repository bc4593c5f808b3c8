"""CSV text in pieces, to records with the line they begin at; in bounded memory."""

from __future__ import annotations

import csv
from collections import deque
from dataclasses import dataclass

DELIMITERS = (",", ";", "\t")
_MOST_LINES = 50
_MOST_CHARACTERS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    line: int
    """Of its first character; the header is line 1."""
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A line with a quote that nothing closes. Reading goes on with the next line."""

    line: int
    text: str


def detect_delimiter(header: str) -> str:
    """The one that the header has most of outside quotes; a comma when it has none."""
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


class Records:
    """Feed it text with `\\n` line ends, in pieces of any size."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._line = 0
        self._rest = ""
        self._pending: list[tuple[int, str]] = []
        self._inside = False

    def feed(self, text: str) -> list[Record | Broken]:
        *lines, self._rest = (self._rest + text).split("\n")
        return [record for line in lines for record in self._take(line)]

    def end(self) -> list[Record | Broken]:
        found = self._take(self._rest) if self._rest else []
        self._rest = ""
        while self._pending:
            found.extend(self._give_up_first_line())
        return found

    def _take(self, line: str) -> list[Record | Broken]:
        self._line += 1
        return self._assemble([(self._line, line)])

    def _assemble(self, lines: list[tuple[int, str]]) -> list[Record | Broken]:
        found: list[Record | Broken] = []
        waiting = deque(lines)
        while waiting:
            number, line = waiting.popleft()
            self._pending.append((number, line))
            self._inside = _inside_quotes_after(line, self._inside, self._delimiter)
            if not self._inside:
                if record := self._complete():
                    found.append(record)
            elif self._too_long():
                (first, text), *others = self._pending
                found.append(Broken(first, text))
                waiting.extendleft(reversed(others))
                self._pending, self._inside = [], False
        return found

    def _give_up_first_line(self) -> list[Record | Broken]:
        (number, text), *others = self._pending
        self._pending, self._inside = [], False
        return [Broken(number, text), *self._assemble(others)]

    def _too_long(self) -> bool:
        return (
            len(self._pending) >= _MOST_LINES
            or sum(len(line) for _, line in self._pending) > _MOST_CHARACTERS
        )

    def _complete(self) -> Record | None:
        lines, self._pending = self._pending, []
        if len(lines) == 1 and not lines[0][1].strip():
            return None
        cells = next(csv.reader([f"{line}\n" for _, line in lines], delimiter=self._delimiter), [])
        if not any(cell.strip() for cell in cells):
            return None
        return Record(lines[0][0], tuple(cells))


def _inside_quotes_after(line: str, inside: bool, delimiter: str) -> bool:
    """Whether a quoted cell is still open at the end of the line."""
    if '"' not in line:
        return inside
    cell_begins = not inside
    position = 0
    while position < len(line):
        character = line[position]
        if inside:
            if character == '"' and line[position + 1 : position + 2] == '"':
                position += 1
            elif character == '"':
                inside = False
        elif character == '"' and cell_begins:
            inside = True
        cell_begins = not inside and character == delimiter
        position += 1
    return inside
