"""`parley dlq`: messages that some service gave up on."""

from __future__ import annotations

import json as json_
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console
from cli.console import Json
from cli.dead_letters import LONGEST_MILLISECONDS, DeadLetters, Letter, rows
from cli.exits import WrongUsage
from cli.found import find
from cli.options import Against, DataDir, same_again
from cli.reading import opened
from servicekit.storable import why_not_storable

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, replay, dismiss.")

_MILLISECONDS = ("dlq_timestamp", "dlq_failed_at")
_DEEPEST = 64
"""Levels of a body shown as JSON. A deeper one is shown as text; so is what only Python takes for JSON."""

_EDIT_HELP = (
    "With one letter: a file with what `show --json` prints of it, mended; or with the mended body alone."
)
Topic = Annotated[str | None, typer.Option(help="One topic, for example activity-created.")]
Reason = Annotated[str | None, typer.Option(help="One reason, for example invalid_body.")]


@app.command("list")
def list_(
    topic: Topic = None,
    reason: Reason = None,
    letters: Annotated[
        bool, typer.Option("--letters", help="Name each one that waits, the newest first.")
    ] = False,
    limit: Annotated[int, typer.Option(help="With --letters: at most so many.", min=1)] = 100,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Count the dead letters by topic and reason; with --letters, name each one.

    Examples:

      parley dlq list

      parley dlq list --topic activity-created --letters

      parley dlq list --reason invalid_body --letters --limit 500
    """
    dead, where = DeadLetters(find(data_dir, against)), same_again(data_dir, against)
    with_reason = "" if reason is None else f" with the reason {reason!r}"
    if letters:
        waiting = dead.listed(topic, limit + 1, reason)
        found = waiting[:limit]
        if json:
            console.print_json([document(letter) for letter in found])
        elif not found:
            console.say(f"No dead letters{with_reason} wait.")
        else:
            columns = ("letter", "reason", "subscriber", "key")
            shown = [
                (each.name, each.reason, each.headers.get("dlq_subscriber"), _text(each.key))
                for each in found
            ]
            console.table(None, columns, shown, else_blocks=True)
            if len(waiting) > limit:
                console.say_cut(limit)
            console.say(f"Next: parley dlq show LETTER{where}, then replay LETTER, or dismiss it")
        return
    counted = list(rows(dead.count(topic, reason)))
    if json:
        console.print_json(counted)
    elif counted:
        console.table(
            None, ("topic", "reason", "#waiting", "#done"), [tuple(row.values()) for row in counted]
        )
        if any(row["waiting"] for row in counted):
            console.say(f"Next, name each one: parley dlq list --letters{where}")
    else:
        console.say(f"No dead letters{with_reason}.")


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET.")],
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Show one dead letter with its headers and its body.

    Example:

      parley dlq show interaction-recorded.dlq:3:17
    """
    shown = document(DeadLetters(find(data_dir, against)).show(letter))
    if json:
        console.print_json(shown)
        return
    headers = {name: for_people(name, value) for name, value in shown["headers"].items()}
    console.fields(f"Dead letter {letter}", {"key": shown["key"]} | headers, as_named=True)
    body = shown["body"]
    console.say("")
    console.say(body if isinstance(body, str) else json_.dumps(body, indent=2, ensure_ascii=False))


@app.command()
def replay(
    letter: Annotated[str | None, typer.Argument(help="TOPIC:PARTITION:OFFSET; or see --topic.")] = None,
    topic: Topic = None,
    everything: Annotated[bool, typer.Option("--all", help="All topics.")] = False,
    edit: Annotated[Path | None, typer.Option(help=_EDIT_HELP)] = None,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Publish dead letters again where they came from.

    Each goes out with its own key, headers and body, or with what --edit makes of them; readers take a
    repeat as a repeat. What was replayed is not offered again, but for one letter that is taken out of
    its turn: it stays in the list until those before it are done with. One whose body is not here
    (it was too large, or could not be unpacked) is put away and named; alone it needs --edit.

    Examples:

      parley dlq replay --topic activity-created

      parley dlq show activity-created.dlq:3:0 --json > mended.json

      parley dlq replay activity-created.dlq:3:0 --edit mended.json
    """
    if (letter is not None) + (topic is not None) + everything != 1:
        raise WrongUsage("Name one letter, or give --topic or --all.")
    if edit is not None and letter is None:
        raise WrongUsage("--edit needs the one letter that it mends.")
    dead = DeadLetters(find(data_dir, against))
    if letter is not None:
        count, listed = 1, not dead.replay_one(_mended(dead.show(letter), edit))
        empty: list[str] = []
    else:
        (count, empty), listed = _all(dead, topic), False
    if json:
        console.print_json({"replayed": count, "still_listed": listed, "put_away": empty})
    else:
        for name in empty:
            console.say(f"{name} has no body here to publish, and was put away; see: parley dlq show {name}")
        console.say(f"Replayed {count:,} dead {'letter' if count == 1 else 'letters'}.")
    if listed:
        console.say("An earlier one of its partition waits: until that is done with, it stays in the list.")


@app.command()
def dismiss(
    letter: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET.")],
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
) -> None:
    """Put a dead letter away that nobody can mend.

    It stays in its topic until the broker drops it, and counts as done with, as if it had been
    replayed. Of one partition the oldest that waits comes first.

    Example:

      parley dlq dismiss activity-created.dlq:3:0
    """
    dead = DeadLetters(find(data_dir, against))
    dead.dismiss(dead.show(letter))
    console.say(f"{letter} is put away.")


def _all(dead: DeadLetters, topic: str | None) -> tuple[int, list[str]]:
    """How many were published, and the names of those that could not be."""
    empty: list[str] = []
    with console.progress() as bars:
        waiting = sum(row["waiting"] for row in rows(dead.count(topic)))
        bar = bars.add_task("Replaying", total=waiting, note="")

        def replayed(letter: Letter) -> None:
            if letter.is_empty:
                empty.append(letter.name)
            bars.advance(bar)

        return dead.replay(topic, replayed), empty


def _mended(letter: Letter, edit: Path | None) -> Letter:
    if edit is None:
        return letter
    with opened(edit) as content:
        return mended(letter, content.read())


def mended(letter: Letter, written: bytes) -> Letter:
    """The letter as somebody wrote it: all that `show --json` prints, or its body. Raises WrongUsage."""
    told: Any = None
    with suppress(ValueError, RecursionError):
        told = json_.loads(written)
    if not (isinstance(told, dict) and {"letter", "key", "headers", "body"} <= told.keys()):
        return replace(letter, value=written)
    if fault := why_not_storable(told, deepest=_DEEPEST + 1):
        raise WrongUsage(f"The file: what is in it {fault}, or no reader could take it.")
    if told["letter"] != letter.name:
        raise WrongUsage(
            f"The file is about {told['letter']}, not about {letter.name}: write that name into it, or leave "
            "nothing in it but the body."
        )
    shown = document(letter)
    key, headers, body = told["key"], told["headers"], told["body"]
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise WrongUsage("headers: names and their texts are needed, as `show --json` prints them.")
    if not (key is None or isinstance(key, str)):
        raise WrongUsage("key: a text is needed, or null.")
    # What was not touched goes out byte for byte, for what is shown may not be all there is.
    if key != shown["key"]:
        letter = replace(letter, key=None if key is None else key.encode())
    if _written(body) != _written(shown["body"]):
        text = body if isinstance(body, str) else _written(body)
        letter = replace(letter, value=text.encode())
    return replace(letter, headers=headers)


def _written(body: Any) -> str:
    """Tells 1, 1.0 and true apart, which are equal to Python and not to a reader."""
    return json_.dumps(body, ensure_ascii=False)


def document(letter: Letter) -> dict[str, Any]:
    body: Any = letter.value.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        told = json_.loads(body)
        body = told if why_not_storable(told, deepest=_DEEPEST) is None else body
    return {
        "letter": letter.name,
        "key": _text(letter.key),
        "replayed": letter.replayed,
        "headers": letter.headers,
        "body": body,
    }


def _text(key: bytes | None) -> str | None:
    return key.decode("utf-8", "replace") if key is not None else None


def for_people(header: str, value: str) -> str:
    """Kafka's milliseconds as a time; anything else as it is.

    >>> for_people("dlq_failed_at", "1795702002802")
    '2026-11-26T14:06:42.802+00:00'
    """
    if header not in _MILLISECONDS or not value.isdecimal() or len(value) > LONGEST_MILLISECONDS:
        return value
    return datetime.fromtimestamp(int(value) / 1000, UTC).isoformat(timespec="milliseconds")
