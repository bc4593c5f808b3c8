"""`parley topics` and `parley docs`: the public interface, printed from its one declaration."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli import console
from cli.console import Json
from cli.exits import Failure
from cli.found import find
from cli.line.chosen_engines import make_topics
from cli.options import Against, Channels, DataDir
from cli.settings_document import write_settings
from contracts.catalogue import CHANNELS, MESSAGES, dead_letters_of
from contracts.compatibility import BreakingChange
from contracts.documents import write_documents
from contracts.message import Message, Topic
from contracts.message_map import with_message_map


def topics(
    create: Annotated[bool, typer.Option("--create", help="Create what is missing in the broker.")] = False,
    replication: Annotated[int, typer.Option(help="With --create: copies of each topic.", min=1)] = 1,
    channel: Channels = None,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Print every topic: its messages, key, publishers, readers and settings; or create them.

    The broker is KAFKA_BOOTSTRAP_SERVERS, else that of the running Parley.

    Examples:

      parley topics

      KAFKA_BOOTSTRAP_SERVERS=kafka:9092 parley topics --create --replication 3

      parley topics --create --channel postcard
    """
    if create:
        parley = find(data_dir, against)
        made = make_topics(parley.kafka_bootstrap_servers, parley.namespace, replication, channel or ())
        if json:
            console.print_json(asdict(made))
        else:
            console.say(str(made))
        return
    rows = [row for message in MESSAGES for row in _rows(message)]
    if json:
        console.print_json(rows)
        return
    for name, group in groupby(rows, key=lambda row: row["topic"]):
        messages = list(group)
        console.say(Text.assemble((name, "bold"), " ", (_settings(messages[0]), "dim")))
        for row in messages:
            writers, readers = (", ".join(row[who]) or "others" for who in ("published_by", "read_by"))
            by, to = (f"by {row['key']}:", "dim"), ("->", "dim")
            console.say(Text.assemble(f"  {row['type']} ", by, f" {writers} ", to, f" {readers}"))
    console.say("\nDead letters of a topic are in <topic>.dlq for 30 days; `others` are systems of your own.")


def _settings(row: dict[str, Any]) -> str:
    kept = "compacted" if row["compacted"] else f"{row['retention_days']} days"
    return f"{kept}, {row['partitions']} partitions"


def _rows(message: type[Message]) -> list[dict[str, Any]]:
    wire = message.wire
    names = (
        [wire.topic.named(channel=channel) for channel in CHANNELS]
        if wire.topic.is_template
        else [wire.topic.name]
    )
    return [
        {
            "topic": name,
            "type": wire.type,
            "key": wire.key,
            "published_by": wire.published_by,
            "read_by": wire.read_by,
            "compacted": wire.topic.compacted,
            "retention_days": None if wire.topic.compacted else wire.topic.retention_days,
            "partitions": wire.topic.partitions,
            "settings": wire.topic.settings(),
            "dead_letters": dead_letters_of(Topic(name)).name,
        }
        for name in names
    ]


def docs(
    directory: Annotated[Path, typer.Option(help="Where the documents go.")] = Path("docs"),
    readme: Annotated[Path, typer.Option(help="Its message map is drawn again.")] = Path("README.md"),
) -> None:
    """Write AsyncAPI documents, JSON Schemas, the table of settings, and the message map in the README.

    Example:

      parley docs --directory docs
    """
    try:
        changed = write_documents(directory)
    except BreakingChange as breaking:
        raise Failure(f"Nothing was written: {breaking}.") from breaking
    changed += write_settings(directory)
    if readme.is_file():
        before = readme.read_text(encoding="utf-8")
        if (after := with_message_map(before)) != before:
            readme.write_text(after, encoding="utf-8")
            changed.append(readme)
    for path in changed:
        console.say(f"wrote {path}")
    console.say(f"{len(changed)} documents changed.")
