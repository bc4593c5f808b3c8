"""What the books say of counts that are right, whatever happened on the way."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.accounts import Activities, Attempts, Equation, RecordedMessages, _batch, _of_attempts
from cli.commands import reconcile
from cli.exits import Failure
from cli.found import Parley
from contracts.channel_sms import MessageRecorded
from contracts.samples import sample
from contracts.vocabulary import Direction


def activity(**told: Any) -> dict[str, Any]:
    return {
        "state": "scheduled",
        "mode": "manual",
        "kind": "task",
        "batch_id": "b",
        "source": "batch",
        **told,
    }


def test_what_was_refused_after_loading_is_skipped_and_not_loaded() -> None:
    counted = Activities()
    for told in (activity(), activity(state="cancelled", reason="duplicate_open_activity")):
        counted.add(told)
    batch = {"batch_id": "b", "name": "B", "selected": 2, "loaded": 1}
    books = list(_batch(batch | {"skipped": {"duplicate_open_activity": 1}}, counted))
    assert [equation.holds for equation in books] == [True, True]


def books_of_attempts(**changes: Any) -> list[Equation]:
    """Three sent and two received; one of each of somebody erased, and one sent by a person besides."""
    told: dict[str, Any] = {
        "journal": Counter(accepted=3, reply=2),
        "messages": {"outgoing": {"delivered": 2, "sent": 1}, "incoming": {"done": 2}},
        "recorded": Counter(outgoing=3, incoming=2),
        "counters": Counter({("sms", "out"): 3, ("sms", "in"): 1}),
        "totals": {
            "erased_attempts": {
                "sms": {"incoming": 1, "outgoing": 1},
                "voice": {"incoming": 0, "outgoing": 1},
            },
            "target_types": {
                "contact": {"ledger_in": 1, "ledger_out": 3, "contact_count_in": 1, "contact_count_out": 3}
            },
        },
        "logged": Counter(sms=1, voice=1),
        "others": frozenset(),
    }
    return list(_of_attempts(Attempts(**told | changes)))


def test_what_was_sent_to_somebody_erased_was_sent_all_the_same() -> None:
    assert [equation.document() for equation in books_of_attempts() if not equation.holds] == []


def test_what_led_to_nobody_was_received_and_is_told_where_it_is() -> None:
    """A stranger's question, and a stranger's STOP: neither is on the topic or in a counter."""
    messages = {
        "outgoing": {"delivered": 2, "sent": 1},
        "incoming": {"worked": 3, "unmatched": 1},
        "led_to_nobody": {"worked": 1, "unmatched": 1},
    }
    books = books_of_attempts(messages=messages, journal=Counter(accepted=3, reply=4))
    assert [equation.document() for equation in books if not equation.holds] == []
    (received,) = (equation for equation in books if equation.title == "messages received")
    assert set(received.counts.values()) == {4}
    assert list(received.parts.values()) == [2, 1, 1]
    assert any("GET /v1/unmatched" in part for part in received.parts)


def test_what_led_to_somebody_and_was_not_recorded_is_missed() -> None:
    messages = {
        "outgoing": {"delivered": 2, "sent": 1},
        "incoming": {"worked": 3, "unmatched": 1},
        "led_to_nobody": {"unmatched": 1},
    }
    books = books_of_attempts(messages=messages, journal=Counter(accepted=3, reply=4))
    assert [equation.title for equation in books if not equation.holds] == ["messages received", "attempts"]


def test_a_topic_that_has_forgotten_its_beginning_is_not_counted() -> None:
    books = books_of_attempts(recorded=None)
    assert [equation.title for equation in books if not equation.holds] == []
    assert "topic message-recorded" not in books[0].counts


def test_what_other_systems_record_is_not_held_against_the_counters() -> None:
    counted = {"ledger_in": 1, "ledger_out": 4, "contact_count_in": 1, "contact_count_out": 4}
    erased: dict[str, Any] = {
        "sms": {"incoming": 1, "outgoing": 1},
        "voice": {"incoming": 0, "outgoing": 1},
    }
    totals = {"erased_attempts": erased, "target_types": {"contact": counted}}

    def wrong(**changes: Any) -> list[str]:
        return [each.title for each in books_of_attempts(totals=totals, **changes) if not each.holds]

    assert wrong() == ["attempts"]
    assert wrong(others=frozenset({"email"})) == wrong(others=None) == []
    more = Counter({("sms", "out"): 4, ("sms", "in"): 1})
    assert wrong(others=frozenset({"email"}), counters=more) == ["messages sent"]
    assert wrong(others=frozenset({"sms"}), counters=more) == []
    counted["contact_count_out"] = 5
    assert wrong(others=frozenset({"sms"}), counters=more) == ["attempts"]


def test_an_attempt_that_is_neither_counted_nor_erased_is_missed() -> None:
    missed = {"outgoing": {"delivered": 2, "sent": 2}, "incoming": {"done": 2}}
    books = books_of_attempts(journal=Counter(accepted=4, reply=2), messages=missed)
    assert [equation.title for equation in books if not equation.holds] == ["messages sent", "attempts"]


def test_what_the_carrier_was_given_twice_is_told() -> None:
    books = books_of_attempts(journal=Counter(accepted=3, reply=2, twice=1))
    assert [equation.title for equation in books if not equation.holds] == ["messages sent twice"]


def test_where_no_carrier_is_simulated_its_journal_is_not_asked_for() -> None:
    books = books_of_attempts(journal=None)
    assert [equation.title for equation in books] == ["messages sent", "messages received", "attempts"]
    assert [equation.title for equation in books if not equation.holds] == []


def told(**changes: Any) -> SimpleNamespace:
    """A record of the topic message-recorded."""
    return SimpleNamespace(value=sample(MessageRecorded.wire.type).evolve(**changes).to_json())


def test_a_message_counts_once_and_as_its_newest_version_tells_it() -> None:
    recorded = RecordedMessages()
    for id_, version, direction, status in (
        ("sent", 3, Direction.OUTGOING, "delivered"),
        ("sent", 1, Direction.OUTGOING, "failed"),
        ("sent", 3, Direction.OUTGOING, "delivered"),
        ("never left", 1, Direction.OUTGOING, "sent"),
        ("never left", 2, Direction.OUTGOING, "failed"),
        ("in doubt", 1, Direction.OUTGOING, "unknown"),
        ("answer", 1, Direction.INCOMING, "received"),
        ("another answer", 1, Direction.INCOMING, "received"),
    ):
        recorded.take(told(message_id=id_, version=version, direction=direction, status=status))
    for foreign in (None, b"", b"{", b"{}", b"[]"):
        recorded.take(SimpleNamespace(value=foreign))
    assert recorded.by_direction() == Counter(outgoing=1, incoming=2)


def test_of_each_recorded_message_little_is_kept() -> None:
    """Or a container with little memory is killed for it: the topic grows with every message."""
    recorded, messages = RecordedMessages(), 5000
    recorded.take(told())
    tracemalloc.start()
    try:
        for number in range(messages):
            recorded.take(told(message_id=f"message-{number}", text="What do you say? " * 10))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert recorded.by_direction().total() == messages + 1
    assert kept / messages < 400, "bytes a message"


def test_what_was_completed_and_purged_was_completed_once() -> None:
    counted = Activities()
    ended: dict[str, Any] = {"kind": "call", "disposition": "sold", "completed_at": "2026-03-01T12:00:00Z"}
    for told in (
        activity(**ended, state="completed"),
        activity(**ended, state="purged"),
        activity(**ended | {"completed_at": None, "disposition": None}, state="purged"),
    ):
        counted.add(told)
    assert (counted.ever_completed, counted.dispositions) == (2, {"sold": 1})
    assert counted.logged == {("call", "sold"): 2}


def test_books_that_do_not_agree_are_not_called_reconciled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = Equation("batch S: loaded", {"loaded": 2, "activities of the batch": 0})
    monkeypatch.setattr(reconcile, "find", lambda *_: Parley())
    monkeypatch.setattr(reconcile, "equations", lambda _: [apart])
    with pytest.raises(Failure, match="do not agree"):
        reconcile.reconcile(Path("nowhere"))
    assert capsys.readouterr().out.startswith("NOT reconciled\n")


def test_of_many_books_only_those_that_differ_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    same, apart = Equation("rows", {"a": 1, "b": 1}), Equation("texts", {"a": 1, "b": 2})
    monkeypatch.setattr(reconcile, "find", lambda *_: Parley())
    monkeypatch.setattr(reconcile, "equations", lambda _: [same, apart])
    with pytest.raises(Failure):
        reconcile.reconcile(Path("nowhere"), differing=True)
    shown = capsys.readouterr().out
    assert "texts" in shown
    assert "rows" not in shown
    monkeypatch.setattr(reconcile, "equations", lambda _: [same, same])
    reconcile.reconcile(Path("nowhere"), differing=True)
    assert capsys.readouterr().out == "Reconciled: all 2 equations hold.\n"
