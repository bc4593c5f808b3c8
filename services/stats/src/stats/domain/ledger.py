"""The attempt ledger: from what is told about an interaction to the rows that stand for it.

An interaction has one row for each target it is linked to. The first one, its head, always exists and
has the interaction's own key, so that one unique insert settles whether anything is known of it; it also
remembers what the directions were decided from.

A row (absent where it does not apply):
    _id            head: `<type>/<interaction id>`; others: see `_link_id`
    type, id       of the interaction; with `target` the natural key
    version        of the interaction's source; 0 if only a command has named it
    target         `<target type>/<target id>`; absent: linked to nothing
    direction      incoming, outgoing, unknown: as decided for this target, or as the source states it
    channel, at    where and when
    activity_id, campaign_id, subject_id, endpoint_id, disposition, agent    for reports
    deleted        the source took it back
    erased         the type of its target, which was erased, while no other one counts it: it stays an attempt
                   of the reports if that type counts, and nobody's
    waits          `contact`: the direction cannot be decided before the contact is known
                   `enabling`: its type is not counted for this type of target
                   `time`: it counts, but lies in the future, so it is not a last contact yet
    more           head: the targets of the interaction's other rows; for nobody's see `nobody`
    said           head: the targets as the source named them; absent: the one of the head. Of somebody
                   who was erased only a fingerprint, here and in the overlay: see `_named`
    told, letters  head: the direction the source stated; a fingerprint of the addresses it gave
    overlay        head: links and cuts by command
    pending        head: the message, while a direction waits
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from contracts.channel_sms import Addresses, InteractionRecorded
from contracts.stats import SetTargetLink
from contracts.vocabulary import OWN_ID_RULE, Direction, as_kept, is_own_id
from stats.direction_provider import DirectionProvider, TargetView

Row = dict[str, Any]
TargetKey = str
Erased = Literal["erased"]
ERASED: Erased = "erased"
_NOBODY = f"{ERASED}:"
NEWEST = 2**63 - 1
"""Version of an interaction."""
_LONGEST = 200
MOST_TARGETS = 100
"""That the source of an interaction may name, and that commands may link or cut beside it: an interaction
is changed in one transaction, and a much larger one never ends in time."""
_NO_TYPE = "contact"
"""Of what was erased before its type was remembered."""

_MEMORY = ("said", "told", "letters", "overlay", "pending")
_OF_THE_LINK = frozenset(("_id", "target", "direction", "erased", "waits", "more", *_MEMORY))


def target_key(type_: str, id_: str) -> TargetKey:
    return f"{type_}/{id_}"


def contact_key(id_: str) -> TargetKey:
    return f"contact/{id_}"


def is_contact(target: TargetKey) -> bool:
    return target.startswith("contact/")


def nobody(type_: str) -> TargetKey:
    """What stands for all that was erased of a type: no type of target contains a colon."""
    return f"{_NOBODY}/{type_}"


def is_nobody(target: TargetKey) -> bool:
    """Also what `_named` makes of somebody."""
    return target.startswith(_NOBODY)


def type_of(row: Row) -> str:
    """The type of a row's target, of an erased one too."""
    return _type_of(row["target"]) if "target" in row else _erased_type(row)


def _type_of(target: TargetKey) -> str:
    return (target.partition("/")[2] or _NO_TYPE) if is_nobody(target) else target.partition("/")[0]


def _erased_type(row: Row) -> str:
    return row["erased"] if isinstance(row["erased"], str) else _NO_TYPE


def fault_in(message: InteractionRecorded) -> str | None:
    """Why it can be no row; None if it can. The schema says less, and may not say more within a version."""
    if not message.interaction_id:
        return "interaction_id: must not be empty, or all that have none are one interaction"
    if not is_own_id(message.contact_id):
        return f"contact_id: {OWN_ID_RULE}"
    for target in message.targets or ():
        if target.type == "contact" and not is_own_id(target.id):
            return f"targets: of a contact {OWN_ID_RULE}"
    if len(set(message.targets or ())) > MOST_TARGETS:
        return f"targets: at most {MOST_TARGETS} different ones"
    names = (message.interaction_id, message.activity_id, message.campaign_id, message.subject_id)
    if any(name and len(name) > _LONGEST for name in (*names, message.endpoint_id, message.agent)):
        return f"ids and agent: at most {_LONGEST} characters"
    if message.version > NEWEST:
        return f"version: must be at most {NEWEST}"
    return None


def target_of(key: TargetKey) -> tuple[str, str]:
    type_, _, id_ = key.partition("/")
    return type_, id_


def head_id(type_: str, id_: str) -> str:
    return f"{type_}/{id_}"


def head_id_of(row: Row) -> str:
    return head_id(row["type"], row["id"])


def _link_id(target: TargetKey, head: str) -> str:
    """Unambiguous whatever the ids contain; no head begins with a plus sign."""
    return f"+{len(target)}/{target}/{head}"


def last_of(target: TargetKey, gone: Mapping[TargetKey, TargetKey | Erased]) -> TargetKey:
    """Whom it was merged into in the end, erased or not."""
    met: set[TargetKey] = set()
    # Nobody is met twice, so that not even a circle, should one ever be in the database, has no end.
    while gone.get(target, ERASED) != ERASED and target not in met:
        met.add(target)
        target = gone[target]
    return target


def survivor_of(target: TargetKey, gone: Mapping[TargetKey, TargetKey | Erased]) -> TargetKey | Erased:
    """Who it is now."""
    last = last_of(target, gone)
    return ERASED if gone.get(last) == ERASED else last


@dataclass(frozen=True, slots=True)
class World:
    """What a decision about interactions looks at beside the interaction.

    gone: what became of targets that were merged away (the survivor) or erased. addresses: of the contacts
    that are known. counts(target type, interaction type): whether such links count.
    """

    now: datetime
    providers: Mapping[str, DirectionProvider]
    counts: Callable[[str, str], bool]
    excluded: frozenset[str] = frozenset()
    """Types of target that get no link; `contact` cannot be one."""
    gone: Mapping[TargetKey, TargetKey | Erased] = field(default_factory=dict)
    addresses: Mapping[TargetKey, frozenset[str]] = field(default_factory=dict)

    def resolve(self, target: TargetKey) -> TargetKey:
        """Who it is now; `nobody` of its type if it was erased."""
        now = survivor_of(target, self.gone)
        return nobody(_type_of(target)) if now == ERASED or is_nobody(now) else now


class TooManyLinks(Exception):
    """Commands would link or cut more targets of one interaction than it may have."""


class Link(NamedTuple):
    """One link of an interaction, before it is a row; `target` may be `nobody`."""

    target: TargetKey
    direction: Direction | str
    decided: bool = True
    counted: bool = False
    """It counted before; then it goes on doing so, even if its type is not counted any more."""


def record(
    message: InteractionRecorded,
    told_at: datetime,
    known: Sequence[Row],
    world: World,
    again: bool = False,
) -> list[Row] | None:
    """The rows after a message, head first; None if it is a repeat or older than what is known.

    again: decide about the newest message once more, because something it waited for has come.
    """
    head = known[0] if known else None
    if head is not None and message.version <= head["version"] and not again:
        return None
    facts = _facts(message, told_at, head, world)
    letters = fingerprint(message.addresses)
    stated: Direction | str | None = message.direction
    reopened = False
    memory: Row = {}
    if head is not None:
        reopened = (stated is not None and stated != head.get("told")) or (
            letters is not None and letters != head.get("letters")
        )
        if stated is None and not reopened:
            stated = head.get("told")
        letters = letters or head.get("letters")
    if stated is not None:
        memory["told"] = str(stated)
    if letters is not None:
        memory["letters"] = letters
    if head is None and stated is not None and message.targets is None and not world.gone:
        # By far the most frequent case; what follows would find the same.
        link = Link(contact_key(message.contact_id), stated)
        return [_row(head_id(message.interaction_type, message.interaction_id), facts, link, world) | memory]
    of = head_id(message.interaction_type, message.interaction_id)
    said = _said(message, of, world)
    overlay = _overlay(head.get("overlay", ()), of, world) if head is not None else []
    standing = _Standing(known, world)
    links = []
    for target in wanted(said, overlay, world):
        before = standing.link(target)
        if before is not None and before.decided and not reopened:
            links.append(before)
        elif stated is not None:
            links.append(Link(target, stated, True, before is not None and before.counted))
        else:
            links.append(_decide(message, target, before is not None and before.counted, world))
    if not all(link.decided for link in links):
        memory["pending"] = message.to_json().decode()
    _remember(facts, memory, said, overlay, links)
    fallback = stated or (head["direction"] if head is not None else Direction.UNKNOWN)
    return rows_of(facts, memory, links, fallback, world)


def relink(command: SetTargetLink, known: Sequence[Row], world: World) -> list[Row] | None:
    """The rows after a link was made or cut by command; None if a newer command said otherwise.

    Raises TooManyLinks if it would be one more than may be remembered.
    """
    at = command.occurred_at
    of = head_id(command.interaction_type, command.interaction_id)
    target = _named(target_key(command.target_type, command.target_id), of, world)
    overlay = _overlay(known[0].get("overlay", ()), of, world) if known else []
    for said in overlay:
        if said["target"] == target and said["at"] >= at:
            return None
    others = [said for said in overlay if said["target"] != target]
    if len(overlay) >= MOST_TARGETS and len(others) == len(overlay):
        raise TooManyLinks
    overlay = [*others, {"target": target, "linked": command.linked, "at": at}]
    if known:
        return _again(known, world, overlay=overlay)
    facts: Row = {"type": command.interaction_type, "id": command.interaction_id, "version": 0}
    return rows_of(facts, {"said": [], "overlay": overlay}, [], Direction.UNKNOWN, world)


def moved(known: Sequence[Row], world: World) -> list[Row]:
    """The rows after a target turned out to be another: linked to both means linked once."""
    return _again(known, world)


def forgotten(known: Sequence[Row], world: World) -> list[Row]:
    """The rows after a target was erased: nothing leads to it, and the reports still add up."""
    return _again(known, world)


def settled(known: Sequence[Row], world: World) -> list[Row]:
    """The rows once more, now that what they waited for may have come."""
    head = known[0]
    if "pending" in head:
        rows = record(InteractionRecorded.from_json(head["pending"].encode()), head["at"], known, world, True)
        if rows is not None:
            return rows
    return _again(known, world)


def _again(known: Sequence[Row], world: World, overlay: list[Row] | None = None) -> list[Row]:
    """The rows once more, from what the head remembers and what has become of the targets."""
    head = known[0]
    facts = {name: value for name, value in head.items() if name not in _OF_THE_LINK}
    memory = {name: head[name] for name in _MEMORY if name in head}
    said = [
        _named(target, head["_id"], world)
        for target in head.get("said", [row["target"] for row in known if "target" in row])
    ]
    overlay = _overlay(head.get("overlay", ()) if overlay is None else overlay, head["_id"], world)
    links = []
    if head["version"] > 0:
        standing = _Standing(known, world)
        for target in wanted(said, overlay, world):
            before = standing.link(target)
            links.append(before or Link(target, head["direction"], head.get("waits") != "contact"))
    if all(link.decided for link in links):
        memory.pop("pending", None)
    _remember(facts, memory, said, overlay, links)
    return rows_of(facts, memory, links, head["direction"], world)


def _remember(
    facts: Row,
    memory: Row,
    said: Sequence[TargetKey],
    overlay: Sequence[Row],
    links: Sequence[Link],
) -> None:
    """What the head needs to decide again; what the rows say themselves is not said twice."""
    memory.pop("said", None)
    memory.pop("overlay", None)
    if overlay:
        memory["overlay"] = overlay
    erased = any(map(is_nobody, said))
    if overlay or erased or [link.target for link in links] != said:
        memory["said"] = said
    if erased:
        # Nothing may lead to somebody who was erased.
        facts.pop("activity_id", None)
        memory.pop("letters", None)
        memory.pop("pending", None)


def _overlay(overlay: Sequence[Row], of: str, world: World) -> list[Row]:
    """Without the names of those who were erased. What was said of them stays, or somebody who was cut would
    count again."""
    if not world.gone:
        return list(overlay)
    return [{**each, "target": _named(each["target"], of, world)} for each in overlay]


def _named(target: TargetKey, of: str, world: World) -> TargetKey:
    """Of somebody who was erased a fingerprint, and one of whom it had been merged into: a cut that names one
    of them is not a cut of the others. Another one in each interaction (`of`), so that those of one person
    cannot be told together. Then the type, because what did not count must not begin to."""
    if target not in world.gone or not is_nobody(world.resolve(target)):
        return target
    both = dict.fromkeys((target, last_of(target, world.gone)))
    prints = [_fingerprint(f"{of} {each}".encode()) for each in both]
    return f"{':'.join([ERASED, *prints])}/{_type_of(target)}"


def _last(target: TargetKey, world: World) -> TargetKey:
    """Whom it was merged into in the end, erased or not."""
    if is_nobody(target):
        return f"{ERASED}:{target.rpartition(':')[2]}"
    return world.resolve(target)


class _Standing:
    """The links an interaction had, by what their targets are now."""

    def __init__(self, known: Sequence[Row], world: World) -> None:
        self._links: dict[TargetKey, Link] = {}
        for link in links_of(known) if known else ():
            now = world.resolve(link.target)
            standing = self._links.get(now)
            # Of several that are one now, one that counts counts.
            counts = standing is not None and link.counted and not standing.counted
            if standing is None or now == link.target or (is_nobody(now) and counts):
                self._links[now] = link if now == link.target else link._replace(target=now, decided=True)

    def link(self, target: TargetKey) -> Link | None:
        return self._links.get(target)


def is_attempt(row: Row) -> bool:
    """Whether a row counts for its target."""
    return "target" in row and _counts(row)


def is_dated(row: Row) -> bool:
    """Whether it can be a last contact: it counts, and its time has passed."""
    return row.get("waits") != "time"


def attempt_of(rows: Sequence[Row]) -> Row | None:
    """The row that stands for an interaction in the reports: an attempt is one, whoever it is linked to."""
    for row in rows:
        if ("target" in row or "erased" in row) and _counts(row):
            return row
    return None


def _counts(row: Row) -> bool:
    return (
        row["direction"] != "unknown"
        and "deleted" not in row
        and row.get("waits") not in ("contact", "enabling")
    )


def links_of(rows: Sequence[Row]) -> list[Link]:
    links = []
    for row in rows:
        if "erased" in row:
            links.append(Link(nobody(_erased_type(row)), row["direction"], True, _counts(row)))
        elif "target" in row:
            # A deleted row waits for nothing, so that it cannot say whether it would count.
            links.append(Link(row["target"], row["direction"], row.get("waits") != "contact", _counts(row)))
    return links


def rows_of(
    facts: Row, memory: Row, links: Sequence[Link], fallback: Direction | str, world: World
) -> list[Row]:
    """Rows from their parts. `fallback` is the head's direction while it is linked to nothing."""
    known = [link for link in links if not is_nobody(link.target)]
    head = head_id(facts["type"], facts["id"])
    rows: list[Row] = []
    for position, link in enumerate(known):
        id_ = _link_id(link.target, head) if position else head
        rows.append(_row(id_, facts, link, world))
    if not any(map(_counts, rows)):
        rows += _nobodys(facts, [link for link in links if is_nobody(link.target)], rows, world)
    if not rows:
        rows.append({"_id": head, **facts, "direction": str(fallback)})
    if len(rows) > 1:
        rows[0]["more"] = [row.get("target") or nobody(row["erased"]) for row in rows[1:]]
    rows[0].update(memory)
    return rows


def _row(id_: str, facts: Row, link: Link, world: World) -> Row:
    row = {"_id": id_, **facts, "target": link.target, "direction": str(link.direction)}
    waits = _waits(row, link, world)
    if waits is not None:
        row["waits"] = waits
    return row


def _nobodys(facts: Row, links: Sequence[Link], others: Sequence[Row], world: World) -> list[Row]:
    """The rows of those who were erased: one that counts, else each that may once its type does; else one
    that says that there was somebody, if nothing does."""
    rows: list[Row] = []
    for link in links:
        row = {**facts, "direction": str(link.direction), "erased": _type_of(link.target)}
        if _waits(row, link, world) == "enabling":
            row["waits"] = "enabling"
        rows.append(row)
    kept = [row for row in rows if _counts(row)][:1] or [row for row in rows if "waits" in row]
    if not kept and not others:
        kept = rows[:1]
    head = head_id(facts["type"], facts["id"])
    for position, row in enumerate(kept):
        row["_id"] = _link_id(nobody(row["erased"]), head) if others or position else head
    return kept


def _waits(row: Row, link: Link, world: World) -> str | None:
    if "deleted" in row or "at" not in row:
        return None
    if not link.decided:
        return "contact"
    if link.direction == "unknown":
        return None
    if not link.counted and not world.counts(_type_of(link.target), row["type"]):
        return "enabling"
    return "time" if row["at"] > world.now else None


def _facts(message: InteractionRecorded, told_at: datetime, head: Row | None, world: World) -> Row:
    provider = world.providers.get(message.interaction_type)
    at = provider.occurred_at(message) if provider is not None else message.occurred_at
    if at is None:
        at = head["at"] if head is not None and "at" in head else told_at
    facts: Row = {
        "type": message.interaction_type,
        "id": message.interaction_id,
        "version": message.version,
        "channel": message.channel or message.interaction_type,
        "at": as_kept(at),
    }
    if message.activity_id is not None:
        facts["activity_id"] = message.activity_id
    if message.campaign_id is not None:
        facts["campaign_id"] = message.campaign_id
    if message.subject_id is not None:
        facts["subject_id"] = message.subject_id
    if message.endpoint_id is not None:
        facts["endpoint_id"] = message.endpoint_id
    if message.disposition is not None:
        facts["disposition"] = message.disposition
    if message.agent is not None:
        facts["agent"] = message.agent
    if message.deleted:
        facts["deleted"] = True
    return facts


def _said(message: InteractionRecorded, of: str, world: World) -> list[TargetKey]:
    if message.targets is None:
        said = [contact_key(message.contact_id)]
    else:
        said = list(dict.fromkeys([f"{target.type}/{target.id}" for target in message.targets]))
    if world.gone:
        said = [_named(target, of, world) for target in said]
    return said


def wanted(said: Sequence[TargetKey], overlay: Iterable[Row], world: World) -> Sequence[TargetKey]:
    """Whom an interaction is linked to, each once: what its source says, then what commands said.

    A cut takes away the target it names, and whatever was merged into that. Those who are not merged away
    come first, so that a merge never changes which row is whose.
    """
    targets = list(said)
    for each in overlay:
        if each["linked"] and each["target"] not in targets:
            targets.append(each["target"])
    cuts = {each["target"] for each in overlay if not each["linked"]}
    if cuts:
        targets = [t for t in targets if t not in cuts and _last(t, world) not in cuts]
    if world.excluded:
        targets = [t for t in targets if _type_of(t) not in world.excluded]
    resolved = [(world.resolve(target), target) for target in targets]
    literal = [now for now, then in resolved if now == then]
    return list(dict.fromkeys([*literal, *(now for now, _ in resolved)]))


def _decide(message: InteractionRecorded, target: TargetKey, counted: bool, world: World) -> Link:
    provider = world.providers.get(message.interaction_type)
    if provider is None or is_nobody(target):
        return Link(target, Direction.UNKNOWN, True, counted)
    type_, id_ = target_of(target)
    addresses: frozenset[str] | None = frozenset()
    if provider.reads_addresses and message.addresses is not None:
        owner = target if type_ == "contact" else world.resolve(contact_key(message.contact_id))
        addresses = frozenset() if is_nobody(owner) else world.addresses.get(owner)
    if addresses is None:
        return Link(target, Direction.UNKNOWN, False, False)
    return Link(target, provider.direction(message, TargetView(type_, id_, addresses)), True, counted)


def fingerprint(addresses: Addresses | None) -> str | None:
    """Tells whether addresses changed, without keeping them."""
    if addresses is None:
        return None
    return _fingerprint(addresses.model_dump_json().encode())


def _fingerprint(of: bytes) -> str:
    return blake2b(of, digest_size=8).hexdigest()
