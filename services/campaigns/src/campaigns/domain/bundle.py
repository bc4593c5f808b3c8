"""A configuration, judged as a whole: every fault with its place, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import available_timezones

from pydantic import ValidationError

from campaigns.domain.campaign import may_become
from campaigns.domain.kinds import CAMPAIGN, DISPOSITION, ENDPOINT, KINDS, POLICY, Catalog, Kind, Written
from contracts import opening
from contracts.campaigns import ContactWindow, Question
from contracts.faults import words_of
from contracts.message import Record
from servicekit import json_schema

_ZONES = available_timezones()
_INSIDE: Mapping[str, type[Record]] = {"window": ContactWindow, "questions": Question}
_DISPOSITION_REFERENCES = (
    "no_response_disposition",
    "yes_disposition",
    "no_disposition",
    "opt_out_disposition",
    "undeliverable_disposition",
)


@dataclass(frozen=True, slots=True)
class Fault:
    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


class InvalidBundle(ValueError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults[:10])))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Item:
    kind: Kind
    place: str
    written: Written


def read(raw: object, standing: Catalog) -> list[Item]:
    """The items of a bundle, referred-to ones first. Raises InvalidBundle with every fault there is."""
    faults: list[Fault] = []
    items: list[Item] = []
    codes: dict[str, set[str]] = {kind.plural: set(standing.get(kind.plural, {})) for kind in KINDS}
    for kind, place, given in _entries(raw, faults):
        if isinstance(given, dict) and isinstance(given.get("code"), str):
            codes[kind.plural].add(given["code"])
            faults.extend(_unknown_inside(given, place))
        try:
            items.append(Item(kind, place, kind.written.model_validate(given)))
        except ValidationError as error:
            faults.extend(_described(error, place, kind.written))
    faults.extend(_twice(items))
    for item in items:
        faults.extend(_wrong(item, items, codes, standing))
    faults.extend(_shared_addresses(items, standing))
    if faults:
        raise InvalidBundle(faults)
    return items


def _entries(raw: object, faults: list[Fault]) -> Iterator[tuple[Kind, str, object]]:
    if not isinstance(raw, dict):
        faults.append(Fault("", f"a bundle is an object with the lists {_names(k.plural for k in KINDS)}"))
        return
    known = {kind.plural for kind in KINDS}
    faults.extend(Fault(str(key), _unknown_key(str(key))) for key in raw if key not in known)
    for kind in KINDS:
        listed = raw.get(kind.plural) or []
        if not isinstance(listed, list):
            faults.append(Fault(kind.plural, "must be a list"))
            continue
        for position, given in enumerate(listed):
            yield kind, f"{kind.plural}[{position}]", given


def _unknown_key(key: str) -> str:
    if key == "flows":
        return "flows belong to the workflow service; `parley apply` sends them there"
    return f"there is no such list; there are: {_names(kind.plural for kind in KINDS)}"


def _unknown_inside(given: Mapping[str, Any], place: str) -> Iterator[Fault]:
    """A message ignores what it does not know; somebody who writes one should be told."""
    for name, model in _INSIDE.items():
        inside = given.get(name)
        listed = enumerate(inside) if isinstance(inside, list) else [(None, inside)]
        for position, part in listed:
            where = f"{place}.{name}" + ("" if position is None else f"[{position}]")
            if isinstance(part, dict):
                for key in part.keys() - model.model_fields.keys():
                    what = f"there is no such field; there are: {_names(model.model_fields)}"
                    yield Fault(f"{where}.{key}", what)


def _described(error: ValidationError, place: str, model: type[Written]) -> Iterator[Fault]:
    for fault in error.errors(include_url=False):
        where = place + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            yield Fault(where, f"there is no such field; there are: {_names(model.model_fields)}")
        else:
            yield Fault(where, words_of(fault))


def _twice(items: Iterable[Item]) -> Iterator[Fault]:
    first: dict[tuple[str, str], str] = {}
    for item in items:
        place = first.setdefault((item.kind.plural, item.written.code), item.place)
        if place != item.place:
            yield Fault(f"{item.place}.code", f"{item.written.code!r} is at {place} already")


def _wrong(
    item: Item, items: Sequence[Item], codes: Mapping[str, set[str]], standing: Catalog
) -> Iterator[Fault]:
    match item.kind.name:
        case "subject":
            yield from _wrong_subject(item, codes)
        case "policy":
            yield from _wrong_policy(item)
        case "campaign":
            yield from _wrong_campaign(item, items, codes, standing)
        case _:
            pass


def _wrong_subject(item: Item, codes: Mapping[str, set[str]]) -> Iterator[Fault]:
    subject: Any = item.written
    if not subject.disposition_required:
        what = "must be true: every activity ends with a disposition"
        yield Fault(f"{item.place}.disposition_required", what)
    for field in _DISPOSITION_REFERENCES:
        yield from _unresolved(DISPOSITION, getattr(subject, field), f"{item.place}.{field}", codes)
    if fault := json_schema.fault_of(subject.data_schema):
        yield Fault(f"{item.place}.data_schema", fault)
        return
    fields = subject.data_schema.get("properties", {})
    for position, question in enumerate(subject.questions):
        place = f"{item.place}.questions[{position}]"
        if question.field not in fields:
            what = f"no field {question.field!r} in data_schema; there are: {_names(fields)}"
            yield Fault(f"{place}.field", what)
        if not question.text.strip():
            yield Fault(f"{place}.text", "must be asked in words")
        if {"{", "}"} & set(question.text):
            what = "a question is asked as it stands, only the opening is filled in; leave the braces out"
            yield Fault(f"{place}.text", what)
    if not opening.is_opening(subject.opening):
        yield Fault(f"{item.place}.opening", opening.RULE)


def _wrong_policy(item: Item) -> Iterator[Fault]:
    policy: Any = item.written
    if policy.window.start >= policy.window.end:
        yield Fault(f"{item.place}.window", "end must be after start, on the same day")
    if not policy.window.weekdays:
        yield Fault(f"{item.place}.window.weekdays", "must name a day, or nobody is ever contacted")
    for position, day in enumerate(policy.window.weekdays):
        if not 1 <= day <= 7:
            yield Fault(f"{item.place}.window.weekdays[{position}]", "must be 1 (Monday) to 7 (Sunday)")
    for position, zone in enumerate(policy.unknown_zone_zones):
        if zone not in _ZONES:
            place = f"{item.place}.unknown_zone_zones[{position}]"
            yield Fault(place, f"no time zone {zone!r}; it must be an IANA name such as America/New_York")


def _wrong_campaign(
    item: Item, items: Sequence[Item], codes: Mapping[str, set[str]], standing: Catalog
) -> Iterator[Fault]:
    campaign: Any = item.written
    yield from _unresolved(ENDPOINT, campaign.endpoint, f"{item.place}.endpoint", codes)
    yield from _unresolved(POLICY, campaign.policy, f"{item.place}.policy", codes)
    for position, code in enumerate(campaign.dispositions):
        yield from _unresolved(DISPOSITION, code, f"{item.place}.dispositions[{position}]", codes)
    endpoint = _endpoint(campaign.endpoint, items, standing)
    if endpoint is not None and endpoint.channel != campaign.channel:
        what = (
            f"endpoint {endpoint.code!r} is of channel {endpoint.channel}, the campaign of {campaign.channel}"
        )
        yield Fault(f"{item.place}.endpoint", what)
    if campaign.starts_at and campaign.ends_at and campaign.starts_at >= campaign.ends_at:
        yield Fault(f"{item.place}.ends_at", "must be after starts_at")
    old = standing.get(CAMPAIGN.plural, {}).get(campaign.code)
    if old is not None and campaign.state is not None and not may_become(old.state, campaign.state):
        what = f"the campaign is {old.state} and cannot become {campaign.state}; leave `state` out to keep it"
        yield Fault(f"{item.place}.state", what)


def _endpoint(code: str | None, items: Sequence[Item], standing: Catalog) -> Any:
    if code is None:
        return None
    for item in items:
        if item.kind is ENDPOINT and item.written.code == code:
            return item.written
    return standing.get(ENDPOINT.plural, {}).get(code)


def _unresolved(kind: Kind, code: str | None, place: str, codes: Mapping[str, set[str]]) -> Iterator[Fault]:
    if code is not None and code not in codes[kind.plural]:
        there = _names(sorted(codes[kind.plural])) or "none"
        yield Fault(place, f"no {kind.name} with code {code!r}; there are: {there}")


def _shared_addresses(items: Sequence[Item], standing: Catalog) -> Iterator[Fault]:
    given: list[Any] = [item.written for item in items if item.kind is ENDPOINT]
    places = {item.written.code: item.place for item in items if item.kind is ENDPOINT}
    others = [old for code, old in standing.get(ENDPOINT.plural, {}).items() if code not in places]
    first = {(old.channel, old.address): old.code for old in others}
    for endpoint in given:
        owner = first.setdefault((endpoint.channel, endpoint.address), endpoint.code)
        if owner != endpoint.code:
            what = f"endpoint {owner!r} has this address on channel {endpoint.channel}"
            yield Fault(f"{places[endpoint.code]}.address", what)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
