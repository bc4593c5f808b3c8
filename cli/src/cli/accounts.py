"""The books of a running Parley: the same things counted in several places must be equally many.

Every number is read from the one who owns it, over REST, from a topic, or from the carrier's journal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.api import Api
from cli.dead_letters import DeadLetters
from cli.found import Parley
from cli.topic_records import for_each_record
from contracts.channel_sms import InteractionRecorded, MessageRecorded
from contracts.message import Record
from contracts.reasons import Skipped
from contracts.stats import SetTargetLink
from contracts.vocabulary import FINAL_STATES, Direction, Identifier, Version

_WITH_PEOPLE = ("available", "assigned")
_IN_A_CHANNEL = ("dispatched", "in_progress", "awaiting_reply", "outcome_unknown")
_SIMULATED = "simulated"
_SENT = ("sent", "delivered", "undelivered")
_NOBODYS = {
    "unmatched": "led to nobody: GET /v1/unmatched of channel-sms",
    "worked": "from strangers who wrote STOP, START or HELP",
}
_DIRECTIONS = tuple(Direction)
_NONE, _SIDES = len(_DIRECTIONS), len(_DIRECTIONS) + 1


@dataclass(frozen=True)
class Equation:
    """Several counts of one thing; `parts` explain the last of them."""

    title: str
    counts: dict[str, int]
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        counts = list(self.counts.values())
        adds_up = not self.parts or sum(self.parts.values()) == counts[-1]
        return adds_up and len(set(counts)) == 1

    def document(self) -> dict[str, Any]:
        return {"title": self.title, "counts": self.counts, "parts": self.parts, "holds": self.holds}


@dataclass
class Activities:
    """Every activity, counted once in each way that matters."""

    total: int = 0
    states: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    """Without what was refused: that counts as skipped."""
    dispositions: Counter[str] = field(default_factory=Counter)
    logged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls and messages that people logged by completing, by channel and disposition."""
    purged: int = 0
    """What was completed and forgotten later; flows and statistics have seen the completion."""

    @property
    def ever_completed(self) -> int:
        return self.states["completed"] + self.purged

    def add(self, activity: dict[str, Any]) -> None:
        self.total += 1
        self.states[activity["state"]] += 1
        if activity.get("reason") != Skipped.DUPLICATE:
            self.batches[activity.get("batch_id") or ""] += 1
        self.sources["batches" if activity.get("batch_id") else activity["source"]] += 1
        purged = activity["state"] == "purged" and activity.get("completed_at") is not None
        self.purged += purged
        if activity["state"] == "completed":
            self.dispositions[activity["disposition"]] += 1
        logs = activity["mode"] == "manual" and activity["kind"] != "task"
        if logs and (purged or activity["state"] == "completed"):
            self.logged[activity.get("channel") or activity["kind"], activity["disposition"]] += 1


def equations(api: Api) -> Iterator[Equation]:
    """What must hold in any Parley that is at rest."""
    yield from map(_import, api.pages("contacts", "/v1/imports"))
    activities = _activities(api)
    for batch in api.pages("batch-loader", "/v1/batches"):
        yield from _batch(batch, activities)
    yield from _where_activities_are(api, activities)
    yield from _attempts(api, activities)
    yield from _decisions(api, activities)
    yield _dead_letters(api.parley)


def _import(told: dict[str, Any]) -> Equation:
    parts = {
        "imported": told["imported"],
        **{f"rejected: {r}": n for r, n in sorted(told["rejected"].items())},
    }
    rows = {
        f"rows of {told['name'] or told['import_id']}": told["lines"] - 1,
        "rows worked off": told["rows"],
    }
    return Equation("import", rows, parts)


def _activities(api: Api) -> Activities:
    found = Activities()
    for activity in api.pages("activities", "/v1/activities"):
        found.add(activity)
    return found


def _batch(batch: dict[str, Any], activities: Activities) -> Iterator[Equation]:
    name = batch["name"]
    skipped = {f"skipped: {reason}": count for reason, count in sorted(batch["skipped"].items())}
    yield Equation(
        f"batch {name}: selected", {"selected": batch["selected"]}, {"loaded": batch["loaded"], **skipped}
    )
    yield Equation(
        f"batch {name}: loaded",
        {"loaded": batch["loaded"], "activities of the batch": activities.batches[batch["batch_id"]]},
    )


def _where_activities_are(api: Api, activities: Activities) -> Iterator[Equation]:
    counted = api.get("activities", "/v1/activities/counts")
    yield Equation(
        "activities: where from",
        {"activities": activities.total, "counted by the service": counted["total"]},
        dict(sorted(activities.sources.items())),
    )
    final = {state.value for state in FINAL_STATES}
    parts = {state: count for state, count in sorted(activities.states.items()) if state in final}
    parts["scheduled"] = activities.states["scheduled"]
    parts["with people"] = sum(activities.states[state] for state in _WITH_PEOPLE)
    parts["in a channel"] = sum(activities.states[state] for state in _IN_A_CHANNEL)
    yield Equation("activities: where to", {"activities": activities.total}, parts)
    by_service = {name: count for name, count in counted["states"].items() if count}
    yield Equation(
        "activities: completed",
        {
            "completed": activities.states["completed"],
            "counted by the service": by_service.get("completed", 0),
        },
        dict(activities.dispositions.most_common()),
    )


def _decisions(api: Api, activities: Activities) -> Iterator[Equation]:
    told = api.get("workflow", "/v1/decisions/counts")
    yield Equation(
        "decisions of flows",
        {
            f"activities completed, {activities.purged:,} of them purged since": activities.ever_completed,
            "completions decided on": told["decided"] + told["no_flow"],
        },
    )
    yield Equation(
        "follow-ups of flows",
        {"decided": told["activities"], "activities with source workflow": activities.sources["workflow"]},
    )


@dataclass(frozen=True)
class Attempts:
    """Attempts to contact somebody, as each who counts them tells it."""

    journal: Mapping[str, int] | None
    """None when no endpoint sends through the simulated carrier."""
    messages: Mapping[str, Mapping[str, int]]
    recorded: Mapping[str, int] | None
    """None when the topic has forgotten its beginning."""
    counters: Mapping[tuple[str, str], int]
    totals: Mapping[str, Any]
    logged: Counter[str]
    others: frozenset[str] | None
    """Channels whose counters others change too; None if a topic has forgotten its beginning."""


def _attempts(api: Api, activities: Activities) -> Iterator[Equation]:
    yield from _of_attempts(
        Attempts(
            journal=_journal(api),
            messages=api.get("channel-sms", "/v1/messages/counts"),
            recorded=_recorded(api.parley),
            counters=_counters(api),
            totals=api.get("stats", "/v1/totals"),
            logged=_logged_attempts(api, activities),
            others=_channels_of_others(api.parley),
        )
    )


def _of_attempts(told: Attempts) -> Iterator[Equation]:
    """The counters of erased contacts are gone, and what was sent to them was sent all the same.

    What led to nobody was received, and neither recorded nor counted.
    """
    journal, recorded, counters, logged = told.journal, told.recorded, told.counters, told.logged
    totals = told.totals
    topic = "topic message-recorded"
    # What other systems recorded is counted, and only they can say how much it should be.
    ours_alone = told.others is not None and "sms" not in told.others
    sms = totals["erased_attempts"].get("sms", {"incoming": 0, "outgoing": 0})
    outgoing = _explained("counters", sms["outgoing"], logged["sms"])
    sent = sum(told.messages["outgoing"].get(status, 0) for status in _SENT)
    received = sum(told.messages["incoming"].values())
    by_state = told.messages.get("led_to_nobody", {})
    nobodys = sum(by_state.values())
    explained = {what: by_state[state] for state, what in _NOBODYS.items() if by_state.get(state)}
    yield Equation(
        "messages sent",
        {
            **({} if journal is None else {"carrier's journal": journal["accepted"]}),
            "channel-sms": sent,
            **({} if recorded is None else {topic: recorded["outgoing"]}),
            **({outgoing: counters["sms", "out"] + sms["outgoing"] - logged["sms"]} if ours_alone else {}),
        },
    )
    incoming = _explained("counters", sms["incoming"], nobodys=nobodys)
    on_topic = _explained(topic, nobodys=nobodys)
    yield Equation(
        "messages received",
        {
            **({} if journal is None else {"carrier's journal": journal["reply"]}),
            "channel-sms": received,
            **({} if recorded is None else {on_topic: recorded["incoming"] + nobodys}),
            **({incoming: counters["sms", "in"] + sms["incoming"] + nobodys} if ours_alone else {}),
        },
        {"from contacts": received - nobodys, **explained} if nobodys else {},
    )
    if journal is not None:
        yield Equation("messages sent twice", {"expected": 0, "carrier's journal": journal["twice"]})
    contacts = totals["target_types"].get("contact", {})
    erased = sum(each["incoming"] + each["outgoing"] for each in totals["erased_attempts"].values())
    yield Equation(
        "attempts",
        {
            _explained("ledger", erased): erased
            + contacts.get("ledger_in", 0)
            + contacts.get("ledger_out", 0),
            "counters" + (" and those" if erased else ""): erased
            + contacts.get("contact_count_in", 0)
            + contacts.get("contact_count_out", 0),
        },
        {
            "sent": sent,
            "received" + (" from contacts" if nobodys else ""): received - nobodys,
            "logged by people": logged.total(),
        }
        if told.others == frozenset()
        else {},
    )


def _explained(what: str, erased: int = 0, logged: int = 0, nobodys: int = 0) -> str:
    """What is added or left out to make a count comparable, where it is anything."""
    added = f" and {erased:,} of erased contacts" if erased else ""
    added += f" and {nobodys:,} that led to nobody" if nobodys else ""
    left_out = f", without {logged:,} logged by people" if logged else ""
    return f"{what}{added}{left_out}"


def _journal(api: Api) -> Counter[str] | None:
    """From the carrier's file where it can be read, else from what the carrier says."""
    if not any(endpoint["provider"] == _SIMULATED for endpoint in api.pages("campaigns", "/v1/endpoints")):
        return None
    told = api.get("carrier", "/control/stats")
    found: Counter[str] = Counter(twice=told["sent_more_than_once"])
    path = Path(told["journal"])
    if not path.is_file():
        found.update(accepted=told["accepted"], reply=told["replies"])
        return found
    with path.open("rb") as lines:
        found.update(json.loads(line)["kind"] for line in lines)
    return found


class _Told(Record):
    """What is counted of a message; its text and its addresses are most of it."""

    message_id: Identifier
    version: Version
    direction: Direction
    status: str


class RecordedMessages:
    """Different messages, each as its newest version tells it.

    A hash and one number stay of each, since a topic has more messages than a container has memory for.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, int] = {}

    def take(self, record: Any) -> None:
        try:
            told = _Told.model_validate_json(record.value or b"", strict=True)
        except ValidationError:  # none of Parley's own
            return
        id_ = blake2b(told.message_id.encode(), digest_size=16).digest()
        if self._newest.get(id_, 0) // _SIDES < told.version:
            left = told.status in (*_SENT, "received")
            self._newest[id_] = told.version * _SIDES + (_DIRECTIONS.index(told.direction) if left else _NONE)

    def by_direction(self) -> Counter[str]:
        """Without those that never left."""
        found = Counter(number % _SIDES for number in self._newest.values())
        return Counter({direction.value: found[side] for side, direction in enumerate(_DIRECTIONS)})


def _recorded(parley: Parley) -> Counter[str] | None:
    """Messages on the topic, by direction; None if it was cut."""
    found = RecordedMessages()
    whole = for_each_record(parley, MessageRecorded.wire.topic.name, found.take)
    return found.by_direction() if whole else None


def _channels_of_others(parley: Parley) -> frozenset[str] | None:
    """Channels of interactions that others recorded, or that somebody linked to further contacts.

    None if a topic was cut.
    """
    found: set[str] = set()

    def take(record: Any) -> None:
        source = next((value or b"" for name, value in record.headers if name == "ce_source"), b"")
        if source.startswith(b"parley/"):
            return
        with suppress(ValidationError):  # what cannot be read is a dead letter, and counted as one
            told = InteractionRecorded.from_json(record.value or b"")
            found.add(told.channel or told.interaction_type)

    def take_link(record: Any) -> None:
        with suppress(ValidationError):  # some other command
            link = SetTargetLink.from_json(record.value or b"")
            if link.target_type == "contact":
                found.add(link.interaction_type)

    whole = for_each_record(parley, InteractionRecorded.wire.topic.name, take)
    whole &= for_each_record(parley, SetTargetLink.wire.topic.name, take_link)
    return frozenset(found) if whole else None


def _counters(api: Api) -> Counter[tuple[str, str]]:
    """(channel, in or out) -> the sum over all contacts."""
    found: Counter[tuple[str, str]] = Counter()
    for target in api.pages("stats", "/v1/stats", sort="contact_count", contact_count_min=1):
        for channel, counters in target["channels"].items():
            found[channel, "in"] += counters["contact_count_in"]
            found[channel, "out"] += counters["contact_count_out"]
    return found


def _logged_attempts(api: Api, activities: Activities) -> Counter[str]:
    """By channel: what people logged with a disposition that counts."""
    dispositions = api.pages("campaigns", "/v1/dispositions")
    counting = {item["code"] for item in dispositions if item["counts_as_attempt"]}
    found: Counter[str] = Counter()
    for (channel, disposition), count in activities.logged.items():
        if disposition in counting:
            found[channel] += count
    return found


def _dead_letters(parley: Parley) -> Equation:
    waiting = sum(count for (_, _, replayed), count in DeadLetters(parley).count().items() if not replayed)
    return Equation("dead letters", {"expected": 0, "waiting": waiting})
