"""The judge: recounts what happened from outside, and shares no code with the services.

It reads the carrier's journal, the topics and the databases with nothing but public clients, and says for
each promise of docs/promises.md whether it was kept. Run it whenever the line is at rest:

    python -m tests.faults.judge --kafka HOST:PORT --mongo URL --journal FILE [--namespace NS]

Exit code 1 if any promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.evidence import Evidence, Json, gather
from tests.services import SERVICES

RESTING = {"completed", "failed", "cancelled", "expired", "purged", "outcome_unknown"}
WAITING = {"scheduled", "available", "assigned"}
DIRECTIONS = (None, "incoming", "outgoing", "unknown")
"""What an interaction may say; None leaves it to others."""
KEYWORD = re.compile(
    r"^\W*(stop|stopall|unsubscribe|cancel|end|quit|revoke|optout|start|unstop|help|info)\W*$", re.I
)
CONFIRMATION = re.compile(r"opted out", re.IGNORECASE)
STOP = re.compile(r"^\W*(stop|stopall|unsubscribe|cancel|end|quit|revoke|optout)\W*$", re.IGNORECASE)


@dataclass
class Finding:
    """One promise, what was counted, and what contradicts it."""

    promise: str
    says: str
    counted: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return not self.faults

    def equal(self, what: str, left: int, right: int) -> None:
        if left != right:
            self.faults.append(f"{what}: {left} is not {right}")


def no_message_twice(evidence: Evidence) -> Finding:
    """P1. Nobody was sent the same thing twice."""
    found = Finding("P1", "no message was sent twice")
    accepted = evidence.accepted()
    found.counted["accepted by the carrier"] = len(accepted)
    by_intent = Counter(entry["reference"] for entry in accepted)
    found.faults += [
        f"intent {intent} was sent {times} times" for intent, times in by_intent.items() if times > 1
    ]
    asked = Counter(
        body["destination"]
        for body in evidence.of_type("activity-dispatched.sms", "parley.activity.dispatched.v1")
    )
    answered = Counter(entry["from"] for entry in evidence.replies())
    for number, sent in Counter(entry["to"] for entry in accepted).items():
        if sent > asked[number] + answered[number]:
            found.faults.append(
                f"{number} got {sent} messages for {asked[number]} dispatches and {answered[number]} replies"
            )
    keywords = Counter(entry["from"] for entry in evidence.replies() if KEYWORD.match(entry["body"]))
    for (number, text), times in Counter((entry["to"], entry["body"]) for entry in accepted).items():
        # Whatever the agent says, it says once in a conversation; confirmations follow keywords.
        if times > asked[number] + keywords[number]:
            found.faults.append(f"{number} was told {text[:40]!r} {times} times")
    return found


def one_reply_for_one_message(evidence: Evidence) -> Finding:
    """P4. However often a webhook came, it was answered once."""
    found = Finding("P4", "one reply for each inbound message")
    recorded = Counter(
        body["provider_message_id"]
        for body in evidence.of_type("message-recorded", "parley.message.recorded.v1")
        if body["direction"] == "incoming"
    )
    replies = {entry["sid"] for entry in evidence.replies()}
    found.counted |= {"replies in the journal": len(replies), "recorded": len(recorded)}
    found.faults += [f"reply {sid} was recorded {n} times" for sid, n in recorded.items() if n > 1]
    unmatched = {row["_id"] for row in evidence.rows("channel-sms/inbound") if not row.get("contact_id")}
    found.faults += [f"reply {sid} was lost" for sid in sorted(replies - set(recorded) - unmatched)]
    found.faults += [f"message {sid} was never received" for sid in sorted(set(recorded) - replies)]
    opening: dict[str, str] = {}
    owed: Counter[str] = Counter()
    for entry in evidence.journal:
        match entry["kind"]:
            case "reply":
                owed[entry["from"]] += 1
            case "accepted" if opening.setdefault(entry["to"], entry["body"]) != entry["body"]:
                owed[entry["to"]] -= 1
                if owed[entry["to"]] < 0:
                    found.faults.append(f"{entry['to']} got more answers than it sent messages")
            case _:
                pass
    return found


def no_activity_lost_or_doubled(evidence: Evidence) -> Finding:
    """P2. What was selected exists, once, and rests in a state that somebody can explain."""
    found = Finding("P2", "no activity was lost or made twice")
    stored = {row["_id"]: row for row in evidence.rows("activities/activities")}
    created = {
        body["activity_id"]: body
        for body in evidence.of_type("activity-created", "parley.activity.created.v1")
    }
    found.counted |= {"asked for": len(created), "stored": len(stored)}
    found.faults += [
        f"activity {id_} was asked for and is not stored" for id_ in sorted(created.keys() - stored.keys())
    ]
    found.faults += [
        f"activity {id_} is stored and was never asked for"
        for id_, row in stored.items()
        if id_ not in created and row.get("source") in ("batch", "automatic", "workflow")
    ]
    announced = {
        body["activity_id"]
        for body in evidence.of_type("activity-changed", "parley.activity.changed.v1")
        if body["version"] == 1
    }
    found.faults += [
        f"activity {id_} was made over REST and never announced"
        for id_, row in stored.items()
        if id_ not in created and row.get("source") == "manual" and id_ not in announced
    ]
    progress: dict[str, dict[str, Any]] = {}
    for body in evidence.of_type("batch-progressed", "parley.batch.progressed.v1"):
        progress[body["batch_id"]] = max(
            body, progress.get(body["batch_id"], body), key=lambda each: each["version"]
        )
    for batch in evidence.rows("batch-loader/batches"):
        made = [b for b in created.values() if b.get("batch_id") == batch["_id"]]
        refused = sum(
            1 for b in made if stored.get(b["activity_id"], {}).get("reason") == "duplicate_open_activity"
        )
        found.equal(f"batch {batch['_id']}: activities asked for", len(made), batch["created"])
        found.equal(f"batch {batch['_id']}: activities refused", refused, batch["refused"])
        if told := progress.get(batch["_id"]):
            found.equal(
                f"batch {batch['_id']}: selected = loaded + skipped",
                told["selected"],
                told["loaded"] + sum(told["skipped"].values()),
            )
            found.equal(f"batch {batch['_id']}: loaded as announced", told["loaded"], len(made) - refused)
        people = Counter(b["contact_id"] for b in made)
        found.faults += [
            f"contact {who} was loaded {n} times in one batch" for who, n in people.items() if n > 1
        ]
    states = Counter(row["state"] for row in stored.values())
    found.counted |= dict(states)
    open_talks = {
        row["_id"] for row in evidence.rows("channel-sms/conversations") if row["state"] != "concluded"
    }
    for id_, row in stored.items():
        if row["state"] not in RESTING | WAITING and row["mode"] == "automated" and id_ not in open_talks:
            found.faults.append(f"activity {id_} is {row['state']} and nobody works it")
    return found


def what_was_given_is_there(evidence: Evidence) -> Finding:
    """P2. Each contact that was put in exists once and was loaded once."""
    found = Finding("P2", "each contact that was put in exists once and was loaded once")
    if evidence.given is None:
        return found
    people: dict[str, list[str]] = defaultdict(list)
    for row in evidence.rows("contacts/contacts"):
        people[str(row.get("external_id"))].append(row["_id"])
    loaded = Counter(
        body["contact_id"]
        for body in evidence.of_type("activity-created", "parley.activity.created.v1")
        if body.get("batch_id")
    )
    given, opted_out = evidence.given["contacts"], set(evidence.given["opted_out"])
    found.counted |= {"put in": len(given), "loaded": loaded.total()}
    for external_id in given:
        ids = people[external_id]
        if len(ids) != 1:
            found.faults.append(f"contact {external_id} exists {len(ids)} times")
        elif loaded[ids[0]] != 1 and not (external_id in opted_out and loaded[ids[0]] == 0):
            found.faults.append(f"contact {external_id} was loaded {loaded[ids[0]]} times")
    return found


def completions_were_followed(evidence: Evidence) -> Finding:
    """P2. Every completion was announced once and decided once, and its follow-ups exist once."""
    found = Finding("P2", "every completion was announced and decided once")
    completed = {row["_id"] for row in evidence.rows("activities/activities") if row["state"] == "completed"}
    announced = Counter(
        body["activity_id"] for body in evidence.of_type("activity-completed", "parley.activity.completed.v1")
    )
    decided = {row["_id"] for row in evidence.rows("workflow/decisions")}
    purged = {row["_id"] for row in evidence.rows("activities/activities") if row["state"] == "purged"}
    found.counted |= {"completed": len(completed), "announced": len(announced), "decided": len(decided)}
    found.faults += [f"completion of {id_} was not announced" for id_ in sorted(completed - announced.keys())]
    found.faults += [f"completion of {id_} was announced {n} ways" for id_, n in announced.items() if n > 1]
    found.faults += [f"completion of {id_} was not decided" for id_ in sorted(announced.keys() - decided)]
    found.faults += [f"{id_} was decided and never completed" for id_ in sorted(decided - announced.keys())]
    found.faults += [
        f"{id_} was announced and is not completed" for id_ in sorted(announced.keys() - completed - purged)
    ]
    attempts: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for body in evidence.of_type("activity-created", "parley.activity.created.v1"):
        if body.get("parent_id"):
            attempts[body["parent_id"], body.get("attempt_number", 1), body["subject_id"]].add(
                body["activity_id"]
            )
    found.faults += [
        f"completion of {parent} has {len(ids)} follow-ups for one action"
        for (parent, _, _), ids in attempts.items()
        if len(ids) > 1
    ]
    return found


def statistics_add_up(evidence: Evidence) -> Finding:
    """P3. Counters = recount of the interactions = what the carrier saw."""
    found = Finding("P3", "the counters equal the interactions equal the carrier's journal")
    newest: dict[tuple[str, str], Json] = {}
    for body in evidence.taken("interaction-recorded", "parley.interaction.recorded.v1"):
        if body.get("direction") not in DIRECTIONS:
            continue
        key = body["interaction_type"], body["interaction_id"]
        if key not in newest or newest[key]["version"] < body["version"]:
            newest[key] = body
    final = _whom_it_counts_for(evidence)
    manual = {row["_id"] for row in evidence.rows("activities/activities") if row["mode"] == "manual"}
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    directions: Counter[str] = Counter()
    logged: Counter[str] = Counter()
    for body in newest.values():
        direction = body.get("direction")
        if body.get("deleted") or direction not in ("incoming", "outgoing"):
            continue
        if body.get("activity_id") in manual:
            logged[body["activity_id"]] += 1
        else:
            directions[f"{body['interaction_type']} {direction}"] += 1
        targets = body.get("targets")
        names = [body["contact_id"]]
        if targets is not None:
            names = [_target_key(target.get("type"), target["id"]) for target in targets]
        for target in {final(name) for name in names} - {None}:
            counted[str(target)][direction] += 1
    announced: dict[str, Json] = {}
    for event in evidence.topics.get("contact-stats-changed", ()):
        if event.body is None or not event.fits:
            if event.is_tombstone:
                announced.pop(event.key, None)
        elif event.body["version"] >= announced.get(event.key, {"version": 0})["version"]:
            announced[event.key] = event.body
    for target in counted.keys() | announced.keys():
        total = announced.get(target, {}).get("total", {})
        ins, outs = counted[target]["incoming"], counted[target]["outgoing"]
        told = tuple(
            total.get(name, 0) for name in ("contact_count", "contact_count_in", "contact_count_out")
        )
        if told != (ins + outs, ins, outs):
            found.faults.append(f"contact {target}: announced {told}, recounted {(ins + outs, ins, outs)}")
        # As text a whole second would be later than what came a moment after it.
        dates = [_instant(total.get(f"last_contact_at{which}")) for which in ("", "_in", "_out")]
        if total and dates[0] != max(filter(None, dates[1:]), default=None):
            found.faults.append(f"contact {target}: last contact is not the later of in and out")
    accepted, replies = len(evidence.accepted()), len(evidence.replies())
    unmatched = sum(1 for row in evidence.rows("channel-sms/inbound") if not row.get("contact_id"))
    sent = {
        body["message_id"]
        for body in evidence.of_type("message-recorded", "parley.message.recorded.v1")
        if body["direction"] == "outgoing"
    }
    found.faults += [
        f"message {entry['reference']} was sent and never recorded"
        for entry in evidence.accepted()
        if entry["reference"] not in sent
    ]
    found.faults += [f"{id_}: what its agent did was logged {n} times" for id_, n in logged.items() if n > 1]
    found.counted |= {"accepted": accepted, "replies": replies, "logged": len(logged), **directions}
    found.equal("messages accepted = outgoing interactions", accepted, directions["sms outgoing"])
    found.equal(
        "replies = incoming interactions (+ unmatched)", replies, directions["sms incoming"] + unmatched
    )
    return found


def _whom_it_counts_for(evidence: Evidence) -> Callable[[str], str | None]:
    """Follows merges to the survivor; nobody for a target that was erased."""
    survivors = {
        _target_key(body.get("target_type"), body["target_id"]): _target_key(
            body.get("target_type"), body["survivor_id"]
        )
        for body in evidence.taken("stats-commands", "parley.stats.merge-targets.v1")
    }
    erased = {
        _target_key(body.get("target_type"), body["target_id"])
        for body in evidence.taken("stats-commands", "parley.stats.erase-target.v1")
    } | {event.key for event in evidence.topics.get("contact-changed", ()) if event.is_tombstone}

    def final(target: str) -> str | None:
        while target in survivors:
            target = survivors[target]
        return None if target in erased else target

    return final


def _instant(at: str | None) -> datetime | None:
    return None if at is None else datetime.fromisoformat(at)


def _target_key(type_: str | None, id_: str) -> str:
    """The key of a target's counters; a contact if nobody says what it is."""
    return id_ if type_ in (None, "contact") else f"{type_}/{id_}"


def stop_was_honoured(evidence: Evidence) -> Finding:
    """P11. After STOP was taken, that address got one confirmation and nothing else."""
    found = Finding("P11", "nothing was sent after STOP but one confirmation")
    said_stop: dict[str, str] = {}
    taken: set[str] = set()
    since: dict[str, list[str]] = defaultdict(list)
    texts = {entry["sid"]: entry for entry in evidence.replies()}
    for entry in evidence.journal:
        match entry["kind"]:
            case "delivered" if entry["webhook"].startswith("reply:"):
                reply = texts.get(entry["webhook"].removeprefix("reply:"))
                if reply is not None and STOP.match(reply["body"]):
                    taken.add(reply["from"])
                    said_stop.setdefault(reply["from"], reply["at"])
            case "accepted" if entry["to"] in taken:
                since[entry["to"]].append(entry["body"])
    found.counted["addresses that said STOP"] = len(taken)
    for number, bodies in since.items():
        stops = sum(1 for entry in texts.values() if entry["from"] == number and STOP.match(entry["body"]))
        if len(bodies) > stops:
            found.faults.append(
                f"{number} said STOP at {said_stop[number]} and got {len(bodies)} messages after it"
            )
        found.faults += [
            f"{number} said STOP and was told {body[:40]!r}"
            for body in bodies
            if not CONFIRMATION.search(body)
        ]
    return found


def dead_letters_are_explained(evidence: Evidence) -> Finding:
    """P10. Whatever was given up on says where it came from and why."""
    found = Finding("P10", "every dead letter says where it came from and why")
    for topic, events in evidence.topics.items():
        if not topic.endswith(".dlq"):
            continue
        for event in events:
            found.counted[f"{topic} {event.headers.get('dlq_reason')}"] = (
                found.counted.get(f"{topic} {event.headers.get('dlq_reason')}", 0) + 1
            )
            if not {"dlq_topic", "dlq_partition", "dlq_offset", "dlq_reason"} <= event.headers.keys():
                found.faults.append(f"a record of {topic} does not say where it came from")
    if evidence.given is not None:
        _poison_alone_is_dead(evidence, found)
    return found


def _poison_alone_is_dead(evidence: Evidence, found: Finding) -> None:
    dead = [
        (topic.removesuffix(".dlq"), event.headers.get("ce_id", ""))
        for topic, events in evidence.topics.items()
        if topic.endswith(".dlq")
        for event in events
    ]
    poison = {(each["topic"], each["ce_id"]) for each in (evidence.given or {})["poison"]}
    found.faults += [f"{id_} of {topic} is no dead letter" for topic, id_ in sorted(poison - set(dead))]
    found.faults += [
        f"good message {id_} of {topic} was given up" for topic, id_ in sorted(set(dead) - poison)
    ]


def nothing_waits_to_be_published(evidence: Evidence) -> Finding:
    found = Finding("P2", "nothing written was left unpublished")
    for name in SERVICES:
        if rows := len(evidence.rows(f"{name}/outbox")):
            found.faults.append(f"{name} has {rows} unpublished rows")
    return found


CHECKS = (
    no_message_twice,
    no_activity_lost_or_doubled,
    what_was_given_is_there,
    completions_were_followed,
    nothing_waits_to_be_published,
    statistics_add_up,
    one_reply_for_one_message,
    dead_letters_are_explained,
    stop_was_honoured,
)


def judge(evidence: Evidence) -> list[Finding]:
    return [check(evidence) for check in CHECKS]


def report(findings: list[Finding]) -> str:
    lines = []
    for finding in findings:
        counted = ", ".join(f"{name} {number}" for name, number in finding.counted.items())
        lines.append(
            f"{'kept  ' if finding.kept else 'BROKEN'} {finding.promise:4} {finding.says} ({counted})"
        )
        lines += [f"         {fault}" for fault in finding.faults[:20]]
        if len(finding.faults) > 20:
            lines.append(f"         and {len(finding.faults) - 20} more")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--mongo", required=True)
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--namespace", default="")
    parser.add_argument("--given", type=Path, help="what a load says it put in (its given.json)")
    chosen = parser.parse_args()
    findings = judge(
        asyncio.run(gather(chosen.kafka, chosen.mongo, chosen.journal, chosen.namespace, chosen.given))
    )
    sys.stdout.write(report(findings) + "\n")
    sys.exit(0 if all(finding.kept for finding in findings) else 1)


if __name__ == "__main__":
    main()
