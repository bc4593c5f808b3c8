"""What was written to a database, as the bulk writes that write it once more.

The source is MongoDB's own log (`local.oplog.rs`, format 2 of its diffs), so that nothing is left out and
nothing is guessed: inserts, changes of the very fields that changed, deletions, each as often as it happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo import DeleteOne, InsertOne, MongoClient, ReplaceOne, UpdateOne

Document = dict[str, Any]
Operation = InsertOne[Document] | UpdateOne | ReplaceOne[Document] | DeleteOne
Place = tuple[str, str]
"""(database, collection)."""

_CHUNK = 500
_INSERT, _CHANGE, _DELETE = range(3)
_STAGES = {InsertOne: _INSERT, UpdateOne: _CHANGE, ReplaceOne: _CHANGE, DeleteOne: _DELETE}


@dataclass(frozen=True, slots=True)
class Written:
    """One write of one document."""

    place: Place
    id: Any
    operations: tuple[Operation, ...]
    """More than one only where an array also lost its end."""


@dataclass(frozen=True, slots=True)
class Bulk:
    place: Place
    operations: list[Operation]
    ordered: bool


class LogTooShort(RuntimeError):
    """The beginning of what was asked for has left the log."""


def keep_log(client: MongoClient[Document], megabytes: float = 4000) -> None:
    """So much of it, at least 990 MB, until the database ends."""
    client.admin.command({"replSetResizeOplog": 1, "size": float(megabytes)})


def end_of_log(client: MongoClient[Document]) -> Any:
    """Where the log ends now."""
    return _one(client, -1)["ts"]


def _one(client: MongoClient[Document], direction: int) -> Document:
    (entry,) = client.local["oplog.rs"].find({}, {"ts": True}).sort("$natural", direction).limit(1)
    return entry


def written_between(
    client: MongoClient[Document], since: Any, until: Any, of: Callable[[Place], bool]
) -> Iterator[Written]:
    """Every write behind `since` and up to `until`, two ends of the log, to the collections that `of` names.

    In order. Raises LogTooShort.
    """
    if _one(client, 1)["ts"] > since:
        raise LogTooShort("the database's log is too small for what was written: keep_log")
    between = {"ts": {"$gt": since, "$lte": until}}
    for entry in client.local["oplog.rs"].find(between).sort("$natural", 1):
        changes = entry["o"].get("applyOps", ()) if entry["op"] == "c" else (entry,)
        for change in changes:
            if change["op"] not in "iud" or not change["ns"]:
                continue
            database, _, collection = change["ns"].partition(".")
            if of((database, collection)):
                yield _write(change, (database, collection))


def _write(change: Mapping[str, Any], place: Place) -> Written:
    if change["op"] == "i":
        return Written(place, change["o"]["_id"], (InsertOne(change["o"]),))
    if change["op"] == "d":
        return Written(place, change["o"]["_id"], (DeleteOne({"_id": change["o"]["_id"]}),))
    one = {"_id": change["o2"]["_id"]}
    if change["o"].get("$v") != 2:
        return Written(place, one["_id"], (ReplaceOne(one, change["o"]),))
    update = _Update()
    update.add(change["o"]["diff"], "")
    return Written(place, one["_id"], tuple(UpdateOne(one, each) for each in update.commands()))


@dataclass(slots=True)
class _Update:
    """A diff of the log in the words of an update."""

    set: Document = field(default_factory=dict)
    unset: Document = field(default_factory=dict)
    cut: Document = field(default_factory=dict)

    def add(self, diff: Mapping[str, Any], path: str) -> None:
        if diff.get("a"):
            self._add_array(diff, path)
            return
        for name, value in diff.items():
            if name in ("i", "u"):
                self.set |= {path + key: new for key, new in value.items()}
            elif name == "d":
                self.unset |= {path + key: "" for key in value}
            else:  # s and the name of a field: what changed within it
                self.add(value, f"{path}{name[1:]}.")

    def _add_array(self, diff: Mapping[str, Any], path: str) -> None:
        for name, value in diff.items():
            if name == "l":
                self.cut[path[:-1]] = {"$each": [], "$slice": value}
            elif name != "a" and name[0] == "u":
                self.set[path + name[1:]] = value
            elif name != "a":
                self.add(value, f"{path}{name[1:]}.")

    def commands(self) -> Iterator[Document]:
        changes = {"$set": self.set, "$unset": self.unset}
        if named := {name: fields for name, fields in changes.items() if fields}:
            yield named
        if self.cut:
            yield {"$push": self.cut}


class Gathering:
    """Writes of one collection in few commands: of each 500, the insertions, the changes, the deletions."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stage_of: dict[str, int] = {}
        self._operations: dict[int, list[Operation]] = defaultdict(list)

    def add(self, written: Written) -> Iterator[Bulk]:
        """Yields what has to be written before this one."""
        for operation in written.operations:
            stage, id_ = _STAGES[type(operation)], repr(written.id)
            again = self._stage_of.get(id_, stage) > stage or (stage == _INSERT and id_ in self._stage_of)
            if again or sum(map(len, self._operations.values())) >= _CHUNK:
                yield from self.rest()
            self._stage_of[id_] = stage
            self._operations[stage].append(operation)

    def rest(self) -> Iterator[Bulk]:
        for stage in (_INSERT, _CHANGE, _DELETE):
            if self._operations[stage]:
                yield Bulk(self._place, self._operations[stage], ordered=stage == _CHANGE)
        self._stage_of, self._operations = {}, defaultdict(list)


def bulks(writes: Iterator[Written], renamed: Callable[[Place], Place]) -> Iterator[Bulk]:
    """The same writes, those of one collection together, those of one document in their order."""
    gatherings: dict[Place, Gathering] = {}
    for written in writes:
        place = renamed(written.place)
        yield from gatherings.setdefault(place, Gathering(place)).add(written)
    for gathering in gatherings.values():
        yield from gathering.rest()
