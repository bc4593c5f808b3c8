"""The judge is strict: a small honest history is kept, and each way of breaking a promise is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servicekit.delivery import Rejected
from servicekit.pipeline import dead_letter
from tests.faults.evidence import Event, Evidence, Json, gather
from tests.faults.judge import judge
from tests.kit import Wire

NUMBER, OTHER = "+12025550101", "+12025550102"
OPENING = "Hi Ada, shall we renew?"
GOODBYE = "You are opted out and will get no more messages."


def event(topic: str, key: str, type_: str, id_: str, body: Json | None) -> tuple[str, Event]:
    return topic, Event(key, {"ce_type": f"parley.{type_}", "ce_id": id_}, body)


def activity(id_: str, contact: str, number: str) -> list[tuple[str, Event]]:
    created = {"activity_id": id_, "contact_id": contact, "batch_id": "b", "subject_id": "renewal"}
    return [
        event("activity-created", contact, "activity.created.v1", f"created {id_}", created),
        event(
            "activity-dispatched.sms",
            contact,
            "activity.dispatched.v1",
            f"dispatched {id_}",
            {"activity_id": id_, "destination": number},
        ),
        event(
            "activity-completed",
            contact,
            "activity.completed.v1",
            f"completed {id_}",
            {"activity_id": id_, "contact_id": contact},
        ),
    ]


def message(id_: str, contact: str, direction: str, sid: str) -> list[tuple[str, Event]]:
    recorded = {"message_id": id_, "direction": direction, "provider_message_id": sid, "status": "sent"}
    spoken = {
        "interaction_id": id_,
        "interaction_type": "sms",
        "version": 1,
        "contact_id": contact,
        "direction": direction,
    }
    return [
        event("message-recorded", contact, "message.recorded.v1", f"m {id_}", recorded),
        event("interaction-recorded", contact, "interaction.recorded.v1", f"i {id_}", spoken),
    ]


def counters(contact: str, ins: int, outs: int, version: int = 1) -> tuple[str, Event]:
    total: Json = {"contact_count": ins + outs, "contact_count_in": ins, "contact_count_out": outs}
    total |= {"last_contact_at": "2026-01-05T10:00:00Z", "last_contact_at_in": None}
    total |= {"last_contact_at_out": "2026-01-05T10:00:00Z"}
    return event(
        "contact-stats-changed",
        contact,
        "contact-stats.changed.v1",
        f"s {contact} {version}",
        {"version": version, "total": total},
    )


def accepted(sid: str, number: str, text: str, reference: str) -> Json:
    return {"kind": "accepted", "sid": sid, "to": number, "body": text, "reference": reference, "at": "t"}


def reply(sid: str, number: str, text: str) -> list[Json]:
    return [
        {"kind": "reply", "sid": sid, "from": number, "body": text, "at": "t"},
        {"kind": "delivered", "webhook": f"reply:{sid}"},
    ]


def honest() -> Evidence:
    """Ada is asked, says yes and is asked once more; Ben is asked, says STOP and gets the confirmation."""
    journal = [
        accepted("S1", NUMBER, OPENING, "i1"),
        *reply("R1", NUMBER, "Yes"),
        accepted("S2", NUMBER, "Which plan?", "i2"),
        accepted("S3", OTHER, OPENING, "i3"),
        *reply("R2", OTHER, "STOP"),
        accepted("S4", OTHER, GOODBYE, "i4"),
    ]
    told = [
        *activity("a1", "c1", NUMBER),
        *activity("a2", "c2", OTHER),
        *message("i1", "c1", "outgoing", "S1"),
        *message("r1", "c1", "incoming", "R1"),
        *message("i2", "c1", "outgoing", "S2"),
        *message("i3", "c2", "outgoing", "S3"),
        *message("r2", "c2", "incoming", "R2"),
        *message("i4", "c2", "outgoing", "S4"),
        counters("c1", 1, 2),
        counters("c2", 1, 2),
        event(
            "batch-progressed",
            "b",
            "batch.progressed.v1",
            "progress b",
            {"batch_id": "b", "version": 1, "selected": 2, "loaded": 2, "skipped": {}},
        ),
    ]
    letter = Event("poison", {"ce_id": "p1", "dlq_topic": "t", "dlq_partition": "0", "dlq_offset": "1"}, None)
    letter.headers["dlq_reason"] = "missing_header"
    topics: dict[str, list[Event]] = {"contact-commands.dlq": [letter]}
    for topic, each in told:
        topics.setdefault(topic, []).append(each)
    rows = [
        {"_id": id_, "state": "completed", "mode": "automated", "source": "batch"} for id_ in ("a1", "a2")
    ]
    stored: dict[str, list[Json]] = {
        "contacts/contacts": [{"_id": "c1", "external_id": "e1"}, {"_id": "c2", "external_id": "e2"}],
        "batch-loader/batches": [{"_id": "b", "created": 2, "refused": 0}],
        "activities/activities": rows,
        "workflow/decisions": [{"_id": "a1"}, {"_id": "a2"}],
        "channel-sms/conversations": [
            {"_id": "a1", "state": "concluded"},
            {"_id": "a2", "state": "concluded"},
        ],
        "channel-sms/inbound": [{"_id": "R1", "contact_id": "c1"}, {"_id": "R2", "contact_id": "c2"}],
    }
    given = {
        "contacts": {"e1": "w0", "e2": "w0"},
        "opted_out": [],
        "poison": [{"topic": "contact-commands", "ce_id": "p1"}],
    }
    return Evidence(journal, topics, stored, given)


def broken(evidence: Evidence) -> set[str]:
    return {finding.promise for finding in judge(evidence) if not finding.kept}


def test_an_honest_history_is_kept() -> None:
    assert [finding.faults for finding in judge(honest()) if not finding.kept] == []


def drop(topic: str, id_: str) -> Callable[[Evidence], Any]:
    def do(evidence: Evidence) -> None:
        kept = [each for each in evidence.topics[topic] if each.headers["ce_id"] != id_]
        assert len(kept) < len(evidence.topics[topic])
        evidence.topics[topic] = kept

    return do


def again(topic: str, id_: str, **changes: Any) -> Callable[[Evidence], Any]:
    """The same message once more, as another event."""

    def do(evidence: Evidence) -> None:
        (one,) = [each for each in evidence.topics[topic] if each.headers["ce_id"] == id_]
        assert one.body is not None
        twin = Event(one.key, one.headers | {"ce_id": f"{id_} again"}, one.body | changes)
        evidence.topics[topic].append(twin)

    return do


def log(*entries: Json) -> Callable[[Evidence], Any]:
    return lambda evidence: evidence.journal.extend(entries)


def row(place: str, index: int, **changes: Any) -> Callable[[Evidence], Any]:
    return lambda evidence: evidence.stored[place][index].update(changes)


def lose(place: str) -> Callable[[Evidence], Any]:
    return lambda evidence: evidence.stored[place].pop()


def late_answer(evidence: Evidence) -> None:
    """What was on its way when the STOP was taken: the agent's question instead of the confirmation."""
    evidence.journal[-1]["body"] = "Which plan?"


def without_confirmation_twice(evidence: Evidence) -> None:
    evidence.journal.append(accepted("S9", OTHER, GOODBYE, "i9"))


@pytest.mark.parametrize(
    ("promise", "break_it"),
    [
        ("P1", log(accepted("S9", NUMBER, "Which plan?", "i2"))),
        ("P1", log(accepted("S9", NUMBER, OPENING, "i9"))),
        ("P1", log(*reply("R9", NUMBER, "Yes"), accepted("S9", NUMBER, OPENING, "i9"))),
        ("P2", lose("activities/activities")),
        ("P2", drop("activity-created", "created a1")),
        ("P2", again("activity-created", "created a1", activity_id="a9")),
        ("P2", row("activities/activities", 0, state="dispatched")),
        ("P2", row("activities/activities", 0, _id="rest", source="manual")),
        ("P2", row("batch-loader/batches", 0, created=3)),
        ("P2", row("batch-loader/batches", 0, refused=1)),
        ("P2", again("batch-progressed", "progress b", version=2, selected=3)),
        ("P2", again("batch-progressed", "progress b", version=2, loaded=1, skipped={"opted_out": 1})),
        ("P2", row("contacts/contacts", 1, external_id="e1")),
        ("P2", lose("contacts/contacts")),
        ("P2", drop("activity-completed", "completed a1")),
        ("P2", again("activity-completed", "completed a1")),
        ("P2", row("activities/activities", 0, state="cancelled")),
        ("P2", lose("workflow/decisions")),
        ("P2", lambda e: e.stored.update({"stats/outbox": [{"_id": 1}]})),
        ("P2", again("activity-created", "created a1", activity_id="f1", parent_id="a1", batch_id=None)),
        ("P3", again("interaction-recorded", "i i1", interaction_id="i9")),
        ("P3", drop("interaction-recorded", "i i1")),
        ("P3", drop("message-recorded", "m i2")),
        ("P3", lambda e: e.topics["contact-stats-changed"].append(counters("c1", 1, 3, version=2)[1])),
        ("P3", drop("contact-stats-changed", "s c2 1")),
        ("P4", again("message-recorded", "m r1")),
        ("P4", log(*reply("R9", NUMBER, "Yes"))),
        ("P4", drop("message-recorded", "m r1")),
        ("P4", log(accepted("S9", NUMBER, "How many lines?", "i9"))),
        ("P10", lambda e: e.topics.update({"contact-commands.dlq": []})),
        ("P10", lambda e: e.topics["contact-commands.dlq"][0].headers.pop("dlq_offset")),
        (
            "P10",
            lambda e: e.topics["contact-commands.dlq"].append(
                Event("c1", e.topics["contact-commands.dlq"][0].headers | {"ce_id": "created a1"}, {})
            ),
        ),
        ("P11", late_answer),
        ("P11", without_confirmation_twice),
        ("P11", log(accepted("S9", OTHER, "How many lines?", "i9"))),
    ],
)
def test_each_way_of_breaking_a_promise_is_found(promise: str, break_it: Callable[[Evidence], Any]) -> None:
    evidence = honest()
    break_it(evidence)
    assert promise in broken(evidence)


def test_a_repeated_delivery_of_the_same_event_breaks_nothing() -> None:
    evidence = honest()
    for topic in ("activity-created", "activity-completed", "message-recorded", "interaction-recorded"):
        evidence.topics[topic].append(evidence.topics[topic][0])
    assert broken(evidence) == set()


@pytest.mark.parametrize(
    ("last", "kept"), [("2026-01-05T10:00:00.008Z", True), ("2026-01-05T10:00:00Z", False)]
)
def test_the_last_contact_is_the_later_one_at_a_whole_second_too(last: str, kept: bool) -> None:
    evidence = honest()
    told = counters("c1", 1, 2, version=2)[1]
    assert told.body is not None
    told.body["total"] |= {"last_contact_at": last, "last_contact_at_in": "2026-01-05T10:00:00.008Z"}
    evidence.topics["contact-stats-changed"].append(told)
    assert broken(evidence) == (set() if kept else {"P3"})


def test_merged_and_erased_targets_are_counted_where_they_went() -> None:
    evidence = honest()
    one, two, gone = (message(f"k{n}", f"k{n}", "outgoing", f"K{n}") for n in (1, 2, 3))
    spoken = [each for _, each in (one[1], two[1], gone[1])]
    for each in spoken:
        assert each.body is not None
        each.body["interaction_type"] = "call"
    evidence.topics["interaction-recorded"] += spoken
    merge = {"target_id": "k1", "survivor_id": "k2"}
    evidence.topics["stats-commands"] = [
        event("stats-commands", "k1", "stats.merge-targets.v1", "merge", merge)[1],
        event("stats-commands", "k3", "stats.erase-target.v1", "erase", {"target_id": "k3"})[1],
    ]
    evidence.topics["contact-stats-changed"].append(counters("k2", 0, 2)[1])
    assert broken(evidence) == set()
    evidence.topics["contact-stats-changed"].append(counters("k3", 0, 1)[1])
    assert broken(evidence) == {"P3"}


def test_what_a_person_did_by_the_same_channel_is_none_of_the_carriers() -> None:
    evidence = honest()
    evidence.topics["activity-created"].append(
        event("", "c1", "activity.created.v1", "m1", {"activity_id": "m1", "contact_id": "c1"})[1]
    )
    evidence.topics["activity-completed"].append(
        event("", "c1", "activity.completed.v1", "done m1", {"activity_id": "m1", "contact_id": "c1"})[1]
    )
    evidence.rows("activities/activities").append({"_id": "m1", "state": "completed", "mode": "manual"})
    evidence.rows("workflow/decisions").append({"_id": "m1"})
    (by_hand,) = message("k1", "c1", "outgoing", "K1")[1:]
    assert by_hand[1].body is not None
    by_hand[1].body["activity_id"] = "m1"
    evidence.topics["interaction-recorded"].append(by_hand[1])
    evidence.topics["contact-stats-changed"].append(counters("c1", 1, 3, version=2)[1])
    assert broken(evidence) == set()
    again("interaction-recorded", "i k1", interaction_id="k2")(evidence)
    evidence.topics["contact-stats-changed"].append(counters("c1", 1, 4, version=3)[1])
    assert broken(evidence) == {"P3"}


def bury(evidence: Evidence, topic: str, id_: str, **changes: Any) -> tuple[Event, Event]:
    """The event was poison at first; what the history has is how it came again, mended."""
    (mended,) = [each for each in evidence.topics[topic] if each.headers["ce_id"] == id_]
    assert mended.body is not None
    mended.place = (topic, "0", "9", "1767600001000")
    poison = Event(mended.key, mended.headers, mended.body | changes, (topic, "0", "1", "1767600000000"))
    evidence.topics[topic].insert(0, poison)
    names = ("dlq_topic", "dlq_partition", "dlq_offset", "dlq_timestamp")
    origin = dict(zip(names, poison.place, strict=True)) | {"dlq_reason": "invalid_body"}
    letter = Event(poison.key, poison.headers | origin, poison.body)
    evidence.topics.setdefault(f"{topic}.dlq", []).append(letter)
    evidence.given = None  # it was an operator, and no load that says what it put in
    return poison, mended


POISON = [
    ("interaction-recorded", "i i1", {"direction": "sideways"}),
    ("interaction-recorded", "i i1", {"contact_id": "c2", "occurred_at": "yesterday"}),
    ("interaction-recorded", "i i1", {"version": "first"}),
    ("activity-created", "created a1", {"contact_id": "nobody", "kind": "parcel"}),
    ("activity-created", "created a1", {"activity_id": "a9", "kind": "parcel"}),
    ("activity-completed", "completed a1", {"activity_id": "a9", "disposition": 7}),
    ("activity-completed", "completed a1", {"activity_id": None}),
    ("activity-dispatched.sms", "dispatched a1", {"destination": "nowhere"}),
]


@pytest.mark.parametrize(("topic", "id_", "changes"), POISON)
def test_what_was_poison_at_first_and_came_again_mended_breaks_nothing(
    topic: str, id_: str, changes: Json
) -> None:
    evidence = honest()
    bury(evidence, topic, id_, **changes)
    assert broken(evidence) == set()


def test_what_was_mended_under_another_name_counts_once() -> None:
    evidence = honest()
    _, mended = bury(evidence, "interaction-recorded", "i i1", direction="incoming", occurred_at="yesterday")
    mended.headers = mended.headers | {"ce_id": "i i1 mended"}
    assert broken(evidence) == set()


def test_a_command_that_became_a_dead_letter_merged_nobody() -> None:
    evidence = honest()
    merge = {"target_id": "c1", "survivor_id": "c2", "version": "first"}
    evidence.topics["stats-commands"] = [event("", "c1", "stats.merge-targets.v1", "merge", merge)[1]]
    assert broken(evidence) == {"P3"}
    _, again = bury(evidence, "stats-commands", "merge")
    evidence.topics["stats-commands"].remove(again)
    assert broken(evidence) == set()


@pytest.mark.parametrize("topic", ["contact-changed", "contact-stats-changed"])
def test_what_is_torn_erases_nobody(topic: str) -> None:
    evidence = honest()
    evidence.topics.setdefault(topic, []).append(Event("c1", {}, None, torn=True))
    assert broken(evidence) == set()


def test_what_came_mended_and_was_not_taken_is_missed() -> None:
    evidence = honest()
    bury(evidence, "interaction-recorded", "i i1", direction="sideways")
    evidence.topics["contact-stats-changed"].append(counters("c1", 1, 1, version=2)[1])
    assert broken(evidence) == {"P3"}


def test_an_activity_that_is_a_dead_letter_and_nothing_else_is_lost() -> None:
    evidence = honest()
    _, mended = bury(evidence, "activity-created", "created a1")
    evidence.topics["activity-created"].remove(mended)
    lose("activities/activities")(evidence)
    assert "P2" in broken(evidence)


async def test_dead_letters_name_their_origin_as_the_judge_does(wire: Wire, tmp_path: Path) -> None:
    headers = [("ce_id", b"i 1"), ("ce_type", b"parley.interaction.recorded.v1")]
    told = {"interaction_type": "call", "interaction_id": "1", "version": 1, "contact_id": "c1"}
    topic = "interaction-recorded"
    for direction in ("sideways", "incoming"):
        body = json.dumps(told | {"direction": direction}).encode()
        await wire.publish_raw(topic, body, b"c1", headers)
        if direction == "sideways":
            (poison,) = await wire.records(topic)
            letter = dead_letter(Rejected(poison, "invalid_body", "direction"), "stats.record-interactions")
            await wire.producer.publish_all([letter])
    evidence = await gather(wire.engines.kafka, wire.engines.mongo, tmp_path / "none", wire.namespace)
    taken = list(evidence.taken(topic, "parley.interaction.recorded.v1"))
    assert taken == list(evidence.of_type(topic, "parley.interaction.recorded.v1"))
    assert [body["direction"] for body in taken] == ["incoming"]
