"""Dead letters can be counted, shown, mended and replayed, each once."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.commands.dlq import app as dlq
from cli.commands.dlq import document, for_people, mended
from cli.console import print_json
from cli.dead_letters import DeadLetters, Letter
from cli.exits import ExitCode, Failure, WrongUsage
from cli.found import Parley
from contracts.catalogue import topics
from servicekit.delivery import Rejected, headers_of
from servicekit.pipeline import dead_letter
from tests.engines import Engines
from tests.kit import Wire

TOPIC = "activity-created"
ORIGIN = {"dlq_reason": "invalid_body", "dlq_subscriber": "activities.create-activities", "dlq_attempts": "1"}


UNSOUND = (b'{"a": "\\ud800"}', b'{"\\ud800": 1}', b"[" * 990, b"[" * 900 + b"]" * 900, b"NaN", b"[1e999]")
"""What is JSON to Python alone, or more than it can read."""


@pytest.fixture
async def wire(engines: Engines, namespace: str) -> AsyncIterator[Wire]:
    wire = Wire(engines, namespace)
    await wire.create_topics()
    yield wire
    await wire.close()


@pytest.fixture
def dead(wire: Wire) -> DeadLetters:
    return DeadLetters(Parley({}, wire.engines.kafka, wire.namespace))


async def bury(
    wire: Wire, number: int, value: bytes | None = b"{}", key: bytes = b"contact-1", **told: str
) -> None:
    origin = ORIGIN | {"dlq_topic": wire.name(TOPIC)} | told
    headers = [("ce_id", str(number).encode()), *((name, text.encode()) for name, text in origin.items())]
    await wire.publish_raw(f"{TOPIC}.dlq", value, key, headers)


@pytest.mark.parametrize(
    ("header", "value", "shown"),
    [
        ("dlq_failed_at", "1795702002802", "2026-11-26T14:06:42.802+00:00"),
        ("dlq_timestamp", "never", "never"),
        ("dlq_timestamp", "9" * 40, "9" * 40),
        ("dlq_offset", "1795702002802", "1795702002802"),
    ],
)
def test_times_are_shown_as_times(header: str, value: str, shown: str) -> None:
    assert for_people(header, value) == shown


async def in_thread(do: Any, *arguments: Any) -> Any:
    """The commands run a loop of their own."""
    import asyncio

    return await asyncio.to_thread(do, *arguments)


async def test_they_are_counted_by_topic_and_reason(wire: Wire, dead: DeadLetters) -> None:
    for number in range(3):
        await bury(wire, number)
    counted = await in_thread(dead.count)
    assert counted == {(wire.name(f"{TOPIC}.dlq"), "invalid_body", False): 3}


async def test_the_newest_are_listed_and_first_whatever_partition_tells_first(
    wire: Wire, dead: DeadLetters
) -> None:
    failed_at = [(number * 37) % 101 + 1_795_702_000_000 for number in range(101)]
    for number, at in enumerate(failed_at):
        await bury(wire, number, key=f"contact-{number}".encode(), dlq_failed_at=str(at))
    newest = sorted(failed_at, reverse=True)
    for limit in (101, 7):
        listed = await in_thread(dead.listed, TOPIC, limit)
        assert [int(letter.headers["dlq_failed_at"]) for letter in listed] == newest[:limit]


def test_of_what_failed_at_one_time_the_place_decides() -> None:
    at = {"dlq_failed_at": "1795702000000"}
    letters = [
        Letter("b.dlq", 0, 0, None, b"", {"dlq_failed_at": "1795702000001"}, False),
        Letter("a.dlq", 0, 4, None, b"", at, False),
        Letter("a.dlq", 0, 3, None, b"", at, False),
        Letter("a.dlq", 1, 9, None, b"", at, False),
        Letter("b.dlq", 0, 1, None, b"", at, False),
        Letter("a.dlq", 0, 1, None, b"", {"dlq_failed_at": "never"}, False, buried_at=1_795_600_000_000),
    ]
    mixed = letters[3:] + letters[:3]
    assert sorted(mixed, key=lambda each: each.newest_first) == letters


async def test_those_of_one_reason_are_counted_and_listed(wire: Wire, dead: DeadLetters) -> None:
    for number, reason in enumerate(("invalid_body", "wrong_key", "invalid_body")):
        await bury(wire, number, dlq_reason=reason)
    name = wire.name(f"{TOPIC}.dlq")
    assert await in_thread(dead.count, None, "wrong_key") == {(name, "wrong_key", False): 1}
    (only,) = await in_thread(dead.listed, None, 1, "wrong_key")
    assert only.headers["ce_id"] == "1"
    assert await in_thread(dead.listed, TOPIC, 10, "unknown_type") == []


async def test_the_command_hands_reason_and_topic_on(wire: Wire) -> None:
    for number, reason in enumerate(("invalid_body", "wrong_key")):
        await bury(wire, number, dlq_reason=reason)
    where = {"KAFKA_BOOTSTRAP_SERVERS": wire.engines.kafka, "PARLEY_NAMESPACE": wire.namespace}

    async def told(*words: str) -> str:
        asked = [*words, "--topic", TOPIC, "--against", "127.0.0.1"]
        done = await in_thread(CliRunner().invoke, dlq, asked, None, where)
        assert done.exit_code == 0, done.output
        return str(done.output)

    (counted,) = json.loads(await told("list", "--reason", "wrong_key", "--json"))
    assert (counted["reason"], counted["waiting"]) == ("wrong_key", 1)
    (letter,) = json.loads(await told("list", "--reason", "wrong_key", "--letters", "--json"))
    assert letter["headers"]["ce_id"] == "1"
    assert "No dead letters with the reason 'late'" in await told("list", "--reason", "late")


async def test_what_is_replayed_arrives_as_it_was_and_is_not_offered_again(
    wire: Wire, dead: DeadLetters
) -> None:
    await bury(wire, 1, b'{"a": 1}')
    await bury(wire, 2, b"", dlq_reason="tries_exhausted")
    seen: list[Letter] = []
    assert await in_thread(dead.replay, TOPIC, seen.append) == 2
    arrived = await wire.records(TOPIC)
    assert [(r.key, r.value, headers_of(r)) for r in arrived] == [
        (b"contact-1", b'{"a": 1}', {"ce_id": "1"}),
        (b"contact-1", None, {"ce_id": "2"}),
    ]
    assert await in_thread(dead.replay, None, seen.append) == 0
    await bury(wire, 3)
    assert await in_thread(dead.replay, None, seen.append) == 1
    assert [letter.headers["ce_id"] for letter in seen] == ["1", "2", "3"]
    assert sum((await in_thread(dead.count)).values()) == 3


async def test_those_of_a_channel_of_somebody_elses_are_among_them(wire: Wire, dead: DeadLetters) -> None:
    topic = "activity-dispatched.postcard"
    with pytest.raises(WrongUsage, match="There is no topic"):
        await in_thread(dead.listed, topic, 10)
    await wire.create_topics(topics(("postcard",)))
    await wire.publish_raw(f"{topic}.dlq", b"{", b"contact-1", [("dlq_reason", b"invalid_body")])
    assert await in_thread(dead.count) == {(wire.name(f"{topic}.dlq"), "invalid_body", False): 1}
    assert await in_thread(dead.replay, topic, lambda _: None) == 1
    assert [(each.key, each.value) for each in await wire.records(topic)] == [(b"contact-1", b"{")]


async def test_one_letter_can_be_mended(wire: Wire, dead: DeadLetters) -> None:
    await bury(wire, 1, b"broken")
    (letter,) = await in_thread(dead.listed, TOPIC, 10)
    shown = await in_thread(dead.show, letter.name)
    assert shown.value == b"broken"
    assert shown.headers["dlq_reason"] == "invalid_body"
    assert await in_thread(dead.replay_one, mended(shown, b'{"whole": true}'))
    (arrived,) = await wire.records(TOPIC)
    assert arrived.value == b'{"whole": true}'
    assert await in_thread(dead.listed, TOPIC, 10) == []


async def test_key_and_headers_can_be_mended_with_what_is_shown(wire: Wire, dead: DeadLetters) -> None:
    await bury(wire, 1, key=b"wrong")
    (letter,) = await in_thread(dead.listed, TOPIC, 10)
    shown = document(letter)
    shown["key"] = "contact-1"
    shown["headers"]["ce_type"] = "parley.activity.created.v1"
    shown["body"] = {"a": "\u00e9"}
    assert await in_thread(dead.replay_one, mended(letter, json.dumps(shown).encode()))
    (arrived,) = await wire.records(TOPIC)
    assert (arrived.key, json.loads(arrived.value)) == (b"contact-1", {"a": "\u00e9"})
    assert headers_of(arrived) == {"ce_id": "1", "ce_type": "parley.activity.created.v1"}


@pytest.mark.parametrize(
    "value", [b'"text"', b'{"a": 1, "a": 2}', b"12345678901234567890.123", b"\xff", b"", *UNSOUND]
)
def test_what_was_not_touched_goes_out_byte_for_byte(value: bytes) -> None:
    letter = Letter("activity-created.dlq", 0, 1, b"k\xff", value, dict(ORIGIN), False)
    shown = json.loads(json.dumps(document(letter)))
    again = mended(letter, json.dumps(shown | {"headers": ORIGIN | {"ce_id": "1"}}).encode())
    assert (again.key, again.value, again.headers["ce_id"]) == (b"k\xff", value, "1")


@pytest.mark.parametrize("value", UNSOUND)
def test_what_is_no_json_to_others_is_shown_as_text(value: bytes) -> None:
    shown = document(Letter("activity-created.dlq", 0, 1, b"k", value, dict(ORIGIN), False))
    assert shown["body"].encode() == value
    print_json([shown])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [(b'{"n": true}', b'{"n": 1}'), (b'{"n": 1.0}', b'{"n": 1}'), (b'{"n": 0}', b'{"n": false}')],
)
def test_what_only_python_takes_for_the_same_is_mended(wrong: bytes, right: bytes) -> None:
    letter = Letter("activity-created.dlq", 0, 1, b"k", wrong, dict(ORIGIN), False)
    again = mended(letter, json.dumps(document(letter) | {"body": json.loads(right)}).encode())
    assert again.value == right


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"letter": "activity-created.dlq:0:9"}, "is about activity-created.dlq:0:9"),
        ({"headers": {"ce_id": 1}}, "headers:"),
        ({"headers": []}, "headers:"),
        ({"key": 7}, "key:"),
        ({"key": "\ud800"}, "lone surrogates"),
        ({"body": {"a": [float("nan")]}}, "a finite number"),
    ],
)
def test_what_was_mended_badly_is_told(change: dict[str, Any], told: str) -> None:
    letter = Letter("activity-created.dlq", 0, 1, b"k", b"{}", dict(ORIGIN), False)
    with pytest.raises(WrongUsage, match=told):
        mended(letter, json.dumps(document(letter) | change).encode())
    assert mended(letter, json.dumps(document(letter)).encode()) == letter


async def test_one_out_of_its_turn_is_replayed_and_stays_in_the_list(wire: Wire, dead: DeadLetters) -> None:
    for number in range(2):
        await bury(wire, number)
    second, first = await in_thread(dead.listed, TOPIC, 10)
    assert not await in_thread(dead.replay_one, second)
    assert [each.name for each in await in_thread(dead.listed, TOPIC, 10)] == [second.name, first.name]
    assert await in_thread(dead.replay_one, first)
    assert await in_thread(dead.replay_one, second)
    assert await in_thread(dead.listed, TOPIC, 10) == []


async def refuse(wire: Wire, subscriber: str = "activities.create-activities") -> None:
    """Bury all that is in the topic, as its reader does, and again after each rewind."""
    for record in await wire.records(TOPIC):
        letter = dead_letter(Rejected(record, "invalid_body", "it is bad"), subscriber)
        await wire.producer.publish_all([letter])


@pytest.mark.parametrize("key", [b"contact-1", None])
async def test_what_is_buried_again_before_anybody_looked_is_one_letter(
    key: bytes | None, wire: Wire, dead: DeadLetters
) -> None:
    await wire.publish_raw(TOPIC, b"broken", key)
    for _ in range(3):
        await refuse(wire)
    name = wire.name(f"{TOPIC}.dlq")
    assert await in_thread(dead.count) == {(name, "invalid_body", False): 1}
    (letter,) = await in_thread(dead.listed, TOPIC, 10)
    await in_thread(dead.dismiss, letter)
    assert await in_thread(dead.count) == {(name, "invalid_body", True): 1}
    assert await in_thread(dead.replay, TOPIC, lambda _: None) == 0


async def test_what_was_dismissed_or_replayed_does_not_come_back_with_a_rewind(
    wire: Wire, dead: DeadLetters
) -> None:
    for body in (b"first", b"second", b"third"):
        await wire.publish_raw(TOPIC, body, b"contact-1")
    await refuse(wire)
    third, second, first = await in_thread(dead.listed, TOPIC, 10)
    await in_thread(dead.dismiss, first)
    assert await in_thread(dead.replay_one, mended(second, b"better"))
    assert await in_thread(dead.replay, TOPIC, lambda _: None) == 1
    *_, better, unmended = await wire.records(TOPIC)
    assert (better.value, unmended.value) == (b"better", third.value)
    await refuse(wire)
    new = await in_thread(dead.listed, TOPIC, 10)
    assert [letter.headers["dlq_offset"] for letter in new] == [str(unmended.offset), str(better.offset)], (
        "what was refused once more is new"
    )
    assert sum((await in_thread(dead.count)).values()) == 5


async def test_the_same_letter_again_is_done_away_with_in_the_turn_of_the_first(
    wire: Wire, dead: DeadLetters
) -> None:
    for body in (b"first", b"second"):
        await wire.publish_raw(TOPIC, body, b"contact-1")
    await refuse(wire)
    await refuse(wire)
    second, first = await in_thread(dead.listed, TOPIC, 10)
    again = await in_thread(dead.show, first.name.replace(f":{first.offset}", f":{second.offset + 1}"))
    second_again = await in_thread(dead.show, first.name.replace(f":{first.offset}", f":{second.offset + 2}"))
    with pytest.raises(WrongUsage, match=f"replay or dismiss {first.name} first"):
        await in_thread(dead.dismiss, second_again)
    await in_thread(dead.dismiss, again)
    assert await in_thread(dead.listed, TOPIC, 10) == [second]
    for gone in (first, again):
        with pytest.raises(Failure, match="was replayed or dismissed before") as refused:
            await in_thread(dead.dismiss, gone)
        assert refused.value.code == ExitCode.DIFFERENCE
    assert await in_thread(dead.replay_one, mended(second_again, b"better"))
    assert await in_thread(dead.listed, TOPIC, 10) == []


@pytest.mark.parametrize(("key", "told"), [(None, {}), (b"contact-1", {"dlq_body_left_out": "2000000"})])
async def test_what_has_no_body_here_is_put_away_by_name_and_holds_up_no_other(
    key: bytes | None, told: dict[str, str], wire: Wire, dead: DeadLetters
) -> None:
    await bury(wire, 1)
    origin = ORIGIN | {"dlq_topic": wire.name(TOPIC)} | told
    headers = [(name, text.encode()) for name, text in origin.items()]
    await wire.publish_raw(f"{TOPIC}.dlq", b"", key, headers)
    await bury(wire, 2)
    (empty,) = [letter for letter in await in_thread(dead.listed, TOPIC, 10) if letter.is_empty]
    with pytest.raises(Failure, match="has no body here") as refused:
        await in_thread(dead.replay_one, empty)
    assert refused.value.code == ExitCode.DIFFERENCE
    seen: list[Letter] = []
    assert await in_thread(dead.replay, TOPIC, seen.append) == 2
    assert [letter.name for letter in seen if letter.is_empty] == [empty.name]
    assert await in_thread(dead.listed, TOPIC, 10) == []
    assert len(await wire.records(TOPIC)) == 2
    assert await in_thread(dead.replay_one, replace(empty, value=b"{}"))
    assert len(await wire.records(TOPIC)) == 3


@pytest.mark.parametrize(("reason", "body"), [("invalid_body", b""), ("null_body", None), ("refused", None)])
def test_an_empty_body_does_not_become_a_tombstone(reason: str, body: bytes | None) -> None:
    letter = Letter(f"{TOPIC}.dlq", 0, 0, b"contact-1", b"", {"dlq_reason": reason}, False)
    assert letter.original().value == body


async def test_one_record_is_a_letter_for_each_of_its_readers(wire: Wire, dead: DeadLetters) -> None:
    await wire.publish_raw(TOPIC, b"broken", b"contact-1")
    for reader in ("activities.create-activities", "stats.record-interactions"):
        await refuse(wire, reader)
    second, first = await in_thread(dead.listed, TOPIC, 10)
    await in_thread(dead.dismiss, first)
    assert await in_thread(dead.listed, TOPIC, 10) == [second]


async def test_what_nobody_can_mend_is_put_away_in_order(wire: Wire, dead: DeadLetters) -> None:
    for number in range(3):
        await bury(wire, number, b"broken")
    third, second, first = await in_thread(dead.listed, TOPIC, 10)
    with pytest.raises(WrongUsage, match=f"replay or dismiss {first.name} first"):
        await in_thread(dead.dismiss, second)
    await in_thread(dead.dismiss, first)
    assert [letter.name for letter in await in_thread(dead.listed, TOPIC, 10)] == [third.name, second.name]
    with pytest.raises(Failure, match="was replayed or dismissed before") as refused:
        await in_thread(dead.dismiss, first)
    assert refused.value.code == ExitCode.DIFFERENCE
    assert await in_thread(dead.replay, TOPIC, lambda _: None) == 2
    assert len(await wire.records(TOPIC)) == 2, "what was put away is not published"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("activity-created.dlq", ExitCode.USAGE),
        ("nonsense:0:0", ExitCode.USAGE),
        ("activity-created.dlq:0:5", ExitCode.DIFFERENCE),
        ("activity-created.dlq:99:0", ExitCode.DIFFERENCE),
        ("activity-created.dlq:10000000000:0", ExitCode.DIFFERENCE),
    ],
)
async def test_a_letter_that_is_not_there_is_told(
    name: str, code: ExitCode, wire: Wire, dead: DeadLetters
) -> None:
    with pytest.raises(Failure) as refused:
        await in_thread(dead.show, name)
    assert refused.value.code == code
