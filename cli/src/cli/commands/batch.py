"""`parley batch`: one activity for each contact that some filters find."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from cli import console
from cli.api import Api, Refused, unknown
from cli.console import Json
from cli.exits import Failure, WrongUsage
from cli.found import find
from cli.options import Against, DataDir, an_id, same_again
from cli.reading import read_yaml
from cli.waiting import follow
from contracts.channels import PREFERENCE_OF_CHANNEL
from contracts.vocabulary import BatchState

app = typer.Typer(
    no_args_is_help=True, help="Batches: draft, preview, load, watch, pause, resume, cancel, list."
)

BatchId = Annotated[str, typer.Argument(help="Id of the batch.", callback=an_id)]
_OPTIONS = {
    "name": "--name",
    "filters.contact_type": "--type",
    "filters.time_zones": "--zone",
    "filters.fields": "--field",
    "choices.agent_profile": "--agent-profile",
    "choices.schedule.spread_hours": "--spread-hours",
    "choices.schedule.now.spread_hours": "--spread-hours",
    "choices.schedule.local_time.spread_hours": "--spread-hours",
    **{
        f"choices.{name}": f"--{name}"
        for name in ("campaign", "subject", "channel", "endpoint", "agents", "instructions")
    },
}
_WAITING = {
    "kafka": "waiting for Kafka, which does not say whether all contacts are known",
    "contacts": "waiting until all contacts are known",
    "statistics": "waiting until the statistics are known",
    "activities": "waiting until all activities are known",
}
_RESTING = ("loaded", "cancelled", "failed", "paused", "draft")


@app.command()
def create(
    file: Annotated[
        Path | None,
        typer.Option(help="YAML with name, filters and choices; docs/first-campaign.md has a whole one."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    campaign: Annotated[str | None, typer.Option(help="Code of the campaign.")] = None,
    subject: Annotated[str | None, typer.Option(help="Code of the subject.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Contact type.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="Custom field NAME=VALUE; repeatable: of one name, any of its values."),
    ] = None,
    zone: Annotated[list[str] | None, typer.Option(help="IANA time zone; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many contacts.", min=1)] = None,
    channel: Annotated[
        str | None, typer.Option(help="The campaign's when left out; `none` for work without one.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Code of the endpoint; the campaign's when left out.")
    ] = None,
    agent_profile: Annotated[str | None, typer.Option(help="Automatic work: who does it.")] = None,
    agents: Annotated[
        str | None, typer.Option(help="Manual work: people, comma separated; without, anybody may claim it.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Contact-local time, for example 2027-01-11T09:00; else now.")
    ] = None,
    spread_hours: Annotated[float, typer.Option(help="Spread over so many hours.", min=0)] = 0,
    instructions: Annotated[str, typer.Option(help="For whoever does it.")] = "",
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Draft a batch; nothing is loaded yet.

    With --agent-profile the channel's service does the work, else people do. Some filters only a file can
    say: when contacts were created, how their last activity ended, how often they were tried.

    Examples:

      parley batch create --name Spring --campaign renewals --subject renewal --agent-profile scripted

      parley batch create --name Calls --campaign care --subject care-call --agents ada,ben --limit 100

      parley batch create --file batch.yaml
    """
    if file is not None:
        beside = (
            name,
            campaign,
            subject,
            type_,
            field,
            zone,
            limit,
            channel,
            endpoint,
            agent_profile,
            agents,
            at,
        )
        if any(option is not None for option in (*beside, spread_hours or None, instructions or None)):
            raise WrongUsage("--file has the whole request; give it without other choices.")
        request = read_yaml(file, such_as="choices").content
    elif not (name and campaign and subject):
        raise WrongUsage("Give --name, --campaign and --subject, or a whole request with --file.")
    else:
        schedule: dict[str, Any] = {"spread_hours": spread_hours}
        if at is not None:
            day, time = _wall_clock(at)
            schedule |= {"kind": "local_time", "date": day, "time": time}
        choices = {
            "campaign": campaign,
            "subject": subject,
            "channel": channel,
            "endpoint": endpoint,
            "source": "automatic" if agent_profile else "manual",
            "agent_profile": agent_profile,
            "agents": [agent.strip() for agent in agents.split(",")] if agents else None,
            "schedule": {"kind": "now"} | schedule,
            "instructions": instructions,
        }
        filters = _given({"contact_type": type_, "time_zones": zone or None, "limit": limit})
        request = {"name": name, "filters": filters, "choices": _given(choices)}
    with Api(find(data_dir, against), options=_OPTIONS if file is None else None) as api:
        if file is None:
            request["filters"]["fields"] = _fields(api, type_, field or [])
        made = api.post("batch-loader", "/v1/batches", request)
    if json:
        console.print_json(made)
    else:
        _mention_odd_channel(made["choices"])
        next_ = f"parley batch preview {made['batch_id']}{same_again(data_dir, against)}"
        console.say(f"Drafted {made['batch_id']}. Next: {next_}")


def _mention_odd_channel(choices: Mapping[str, Any]) -> None:
    """People may work any channel, also one that only a slip of the finger made."""
    channel = choices.get("channel")
    if choices["source"] == "manual" and channel and channel not in PREFERENCE_OF_CHANNEL:
        usual = ", ".join(PREFERENCE_OF_CHANNEL)
        console.say(
            f"Its channel is {channel!r}, none of the usual ones ({usual}): attempts will count there."
        )


@app.command()
def preview(
    batch_id: BatchId,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Whom a batch would find now: how many, whom it would skip and why, and ten of them.

    Example:

      parley batch preview 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    with Api(find(data_dir, against)) as api:
        seen = api.post("batch-loader", f"/v1/batches/{batch_id}/preview")
    if json:
        console.print_json(seen)
        return
    match = "matches" if seen["count"] == 1 else "match"
    console.say(
        f"{console.counted(seen['count'], 'contacts')} {match}, {seen['selected']:,} would be selected."
    )
    for reason, count in sorted(seen["skipped"].items()):
        console.say(f"  {count:,} would be skipped: {reason}")
    if (looked_at := seen.get("looked_at")) is not None and looked_at < seen["count"]:
        console.say(
            f"Only the first {looked_at:,} were looked at for an open activity of the subject; "
            "the load skips also those of the others who have one."
        )
    if seen.get("behind", 0) is None:
        console.say("Kafka does not say whether all contacts are known: there may be others.")
    elif behind := seen.get("behind", 0):
        those, them = ("message is", "it") if behind == 1 else ("messages are", "them")
        console.say(f"{behind:,} {those} still to be read and may change this; a load waits for {them}.")
    columns = ["!contact_id", "contact_type", "time_zone", "phone"]
    if any(row.get("skipped") for row in seen["sample"]):
        columns.append("skipped")
    console.table(
        "A sample", columns, [[row.get(name.lstrip("!")) for name in columns] for row in seen["sample"]]
    )


@app.command()
def load(
    batch_id: BatchId,
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Wait until it is loaded.")] = True,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Start loading, and watch. Ctrl-C stops watching, not loading.

    Example:

      parley batch load 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --no-watch
    """
    with Api(find(data_dir, against)) as api:
        batch = api.post("batch-loader", f"/v1/batches/{batch_id}/load")
        if watch_it:
            with console.progress() as bars:
                batch = watch_batch(api, batch_id, bars)
    _tell(batch, json)


@app.command()
def watch(
    batch_id: BatchId, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Watch a batch until it rests. With --json, one line a look.

    Example:

      parley batch watch 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --json
    """
    with Api(find(data_dir, against)) as api:
        if json:
            for batch in _following(api, batch_id):
                console.print_json_line(batch)
            return
        with console.progress() as bars:
            batch = watch_batch(api, batch_id, bars)
    _tell(batch, json)


@app.command()
def pause(
    batch_id: BatchId, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Stop making activities; those made so far are worked.

    Example:

      parley batch pause 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    _steer("pause", batch_id, data_dir, against, json)


@app.command()
def resume(
    batch_id: BatchId, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Go on where it was paused.

    Example:

      parley batch resume 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    _steer("resume", batch_id, data_dir, against, json)


@app.command()
def cancel(
    batch_id: BatchId, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Stop for good; activities that were made stay.

    Example:

      parley batch cancel 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    _steer("cancel", batch_id, data_dir, against, json)


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help=f"Only in this state: {', '.join(BatchState)}.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """List batches, the newest first.

    Example:

      parley batch list --state loaded
    """
    with Api(find(data_dir, against), options={"state": "--state"}) as api:
        batches = list(api.pages("batch-loader", "/v1/batches", limit + 1, state=state))
    more, batches = len(batches) > limit, batches[:limit]
    if json:
        console.print_json(batches)
        return
    if not batches:
        console.say(f"No batches are {state}." if state else "No batches.")
        return
    columns = ("!batch_id", "name", "state", "#selected", "#loaded", "skipped")
    for batch in batches:
        skipped = sorted(batch["skipped"].items())
        batch["skipped"] = ", ".join(f"{count:,} {reason}" for reason, count in skipped) or "-"
    rows = [[batch[name.lstrip("#!")] for name in columns] for batch in batches]
    console.table(None, columns, rows, else_blocks=True)
    if more:
        console.say_cut(limit)


def watch_batch(api: Api, batch_id: str, bars: Progress, title: str | None = None) -> dict[str, Any]:
    bar = None
    batch: dict[str, Any] = {}
    for batch in _following(api, batch_id):
        if bar is None:
            bar = bars.add_task(title or f"Loading {batch['name']}", total=None, note="")
        note = _waiting(batch) or f"{batch['loaded']:,} loaded, {sum(batch['skipped'].values()):,} skipped"
        bars.update(bar, total=batch["expected"] or None, completed=batch["selected"], note=note)
    if bar is not None:
        bars.update(bar, total=batch["selected"])
    return batch


def _following(api: Api, batch_id: str) -> Any:
    return follow(
        lambda: api.get("batch-loader", f"/v1/batches/{batch_id}"), lambda batch: batch["state"] in _RESTING
    )


def _waiting(batch: dict[str, Any]) -> str | None:
    """What a load waits for before it selects anybody."""
    word = batch.get("waiting_for")
    return _WAITING.get(word, f"waiting for {word}") if word else None


def _steer(move: str, batch_id: str, data_dir: Path, against: str | None, json: bool) -> None:
    with Api(find(data_dir, against)) as api:
        batch = api.post("batch-loader", f"/v1/batches/{batch_id}/{move}")
    _tell(batch, json)


def _tell(batch: dict[str, Any], json: bool) -> None:
    if json:
        console.print_json(batch)
    else:
        console.say(
            f"{batch['name']} is {batch['state']}: "
            f"{batch['selected']:,} selected = {batch['loaded']:,} loaded"
            + "".join(
                f" + {count:,} skipped ({reason})" for reason, count in sorted(batch["skipped"].items())
            )
        )
        if waiting := _waiting(batch):
            console.say(f"It is {waiting}.")
    if batch["state"] == "failed":
        raise Failure(f"The load failed: {batch['error']}.")


def _wall_clock(text: str) -> tuple[str, str]:
    minutes = re.sub(r"^(.{16}):00$", r"\1", text.replace(" ", "T", 1))
    try:
        at = datetime.strptime(minutes, "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        raise WrongUsage(
            f"--at {text!r} is not a day and a time such as 2027-01-11T09:00, by each contact's own clock."
        ) from None
    return f"{at:%Y-%m-%d}", f"{at:%H:%M}"


def _fields(api: Api, type_: str | None, texts: list[str]) -> dict[str, Any]:
    """The batch-loader takes any word for a contact type, a field or its value; a slip would find nobody."""
    asked = {name: list(dict.fromkeys(written)) for name, written in _by_name(texts).items()}
    if type_ is None:
        # Nobody says what the field holds: a postcode is found as the text that it is, a month as a number.
        return {
            name: _any_of([value for text in written for value in _readings(text)])
            for name, written in asked.items()
        }
    an_id(type_)
    try:
        schema = api.get("contacts", f"/v1/contact-types/{type_}")["fields_schema"]
    except Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        raise unknown(api, "contact type", type_) from refused
    known = schema.get("properties", {})
    found = {name: [_as_ruled(text, known.get(name)) for text in written] for name, written in asked.items()}
    for name, values in found.items():
        if name not in known and not schema.get("additionalProperties"):
            there = ", ".join(known) or "none"
            raise WrongUsage(f"The contact type {type_!r} has no field {name!r}; there are: {there}.")
        for value in values:
            _holds(type_, name, _of_one(known.get(name)), value)
    return {name: _any_of(values) for name, values in found.items()}


def _holds(type_: str, name: str, rule: Mapping[str, Any], value: object) -> None:
    """Raises WrongUsage of a value that no contact of the type can have there."""
    choices = [str(choice) for choice in rule.get("enum", ())]
    if choices and str(value) not in choices:
        raise WrongUsage(f"The field {name!r} of {type_!r} is one of: {', '.join(choices)}; not {value!r}.")
    types = _types(rule)
    if types and _type_of(value) not in types and not (type(value) is int and "number" in types):
        raise WrongUsage(f"The field {name!r} of {type_!r} is of type {' or '.join(types)}; not {value!r}.")


def _any_of(values: list[object]) -> object:
    """As a filter says it: the value, or a list of which any will do."""
    return values if len(values) > 1 else values[0]


def _type_of(value: object) -> str:
    return {str: "string", bool: "boolean", int: "integer", float: "number"}[type(value)]


def pairs(texts: list[str], rules: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`NAME=VALUE`; a value that reads as a number or a truth value is one, unless its rule says text."""
    found: dict[str, Any] = {}
    for name, written in _by_name(texts).items():
        if len(written) > 1:
            raise WrongUsage(f"The field {name!r} is given more than once; it has one value.")
        found[name] = _as_ruled(written[0], (rules or {}).get(name))
    return found


def _by_name(texts: list[str]) -> dict[str, list[str]]:
    """Every value that a name was given."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongUsage(f"{text!r} is not NAME=VALUE.")
        found.setdefault(name, []).append(value)
    return found


def _as_ruled(text: str, rule: object) -> object:
    return text if _is_text(rule) else _value(text)


def _readings(text: str) -> list[object]:
    """All that it may mean."""
    guess = _value(text)
    return [guess, text] if guess != text else [text]


def _is_text(rule: object) -> bool:
    one = _of_one(rule)
    choices = one.get("enum", ())
    return _types(one) == ["string"] or (bool(choices) and all(isinstance(each, str) for each in choices))


def _of_one(rule: object) -> Mapping[str, Any]:
    """Of a field that holds several values, the rule of each."""
    if not isinstance(rule, dict):
        return {}
    items = rule.get("items")
    return items if isinstance(items, dict) else rule


def _types(rule: Mapping[str, Any]) -> list[str]:
    types = rule.get("type", [])
    return [each for each in ([types] if isinstance(types, str) else types) if each != "null"]


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if isfinite(number) else text
    return text


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
