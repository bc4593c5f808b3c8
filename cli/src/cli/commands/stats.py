"""`parley stats`: how often, when and in which direction somebody was contacted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.progress import Progress

from cli import console
from cli.api import Api
from cli.commands.contacts import find_contact
from cli.console import Json
from cli.exits import ExitCode, WrongUsage
from cli.found import find
from cli.options import Against, DataDir, an_id
from cli.waiting import follow

app = typer.Typer(no_args_is_help=True, help="Statistics of contact attempts.")


@app.command()
def show(
    contact: Annotated[str, typer.Argument(help="Its id, external id, or number with + and country code.")],
    zone: Annotated[str, typer.Option(help="The viewer's time zone, IANA name.")] = "UTC",
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Show the counters of one contact, in total and per channel.

    In is what the contact began, out what we did; times are those of --zone, days its calendar days.

    Example:

      parley stats show C-000042 --zone Europe/Berlin
    """
    with Api(find(data_dir, against)) as api:
        contact_id = find_contact(api, contact)["contact_id"]
        seen = api.get("stats", f"/v1/contacts/{contact_id}/stats", zone=zone)
    if json:
        console.print_json(seen)
    else:
        _show_counters(contact_id, seen)


def _show_counters(contact_id: str, seen: Mapping[str, Any]) -> None:
    columns = ("channel", "#all", "#in", "#out", "last", "last_in", "last_out", "#days_since")
    lines = [("all channels", seen["total"]), *seen["channels"].items()]
    title = f"Contact {contact_id}: {seen['block']['headline']} (times in {seen['zone']})"
    console.table(title, columns, [_counters(name, each, ZoneInfo(seen["zone"])) for name, each in lines])


def _counters(name: str, counters: Mapping[str, Any], zone: ZoneInfo) -> tuple[object, ...]:
    def seen(which: str) -> str | None:
        at = counters[which]
        return f"{datetime.fromisoformat(at).astimezone(zone):%Y-%m-%d %H:%M}" if at else None

    counts = [counters[f"contact_count{which}"] for which in ("", "_in", "_out")]
    times = [seen(f"last_contact_at{which}") for which in ("", "_in", "_out")]
    return (name, *counts, *times, counters["days_since_last_contact"])


RunId = Annotated[str, typer.Argument(help="Id of the recalculation.", callback=an_id)]
_RESTING = ("finished", "cancelled", "paused")
_SHOWN = 100
_OPTIONS = {
    "target_type": "--target-type",
    "target_id": "--target",
    "contacted_from": "--contacted-from",
    "contacted_to": "--contacted-to",
    "targets_per_second": "--rate",
}


@app.command()
def recalculate(
    target_type: Annotated[str | None, typer.Option(help="Only targets of this type.")] = None,
    target: Annotated[str | None, typer.Option(help="Only this one; needs --target-type.")] = None,
    contacted_from: Annotated[
        str | None, typer.Option(help="Only with an attempt since then, ISO 8601.")
    ] = None,
    contacted_to: Annotated[str | None, typer.Option(help="Only with an attempt before, ISO 8601.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name what differs; write nothing.")] = False,
    rate: Annotated[float | None, typer.Option(help="At most so many targets a second.", min=0.1)] = None,
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Wait until it is over.")] = True,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Recount from the ledger and mend what differs; safe beside live traffic.

    Exit code 0 only if nothing differed or everything that differed was written. Ctrl-C stops watching, not
    the run.

    Examples:

      parley stats recalculate --dry-run

      parley stats recalculate --target-type account --rate 500
    """
    if target is not None and target_type is None:
        raise WrongUsage("--target needs --target-type.")
    asked = {
        "target_type": target_type,
        "target_id": target,
        "contacted_from": contacted_from,
        "contacted_to": contacted_to,
        "dry_run": dry_run,
        "targets_per_second": rate,
    }
    with Api(find(data_dir, against), options=_OPTIONS) as api:
        body = {name: value for name, value in asked.items() if value is not None}
        run = api.post("stats", "/v1/recalculations", body)
        if watch_it:
            run = _watch(api, run["id"])
        _tell(api, run, json)


@app.command()
def recalculation(
    run_id: RunId,
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Wait until it rests.")] = False,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Show a recalculation: how far it is, and what differs.

    Example:

      parley stats recalculation 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    with Api(find(data_dir, against)) as api:
        run = _watch(api, run_id) if watch_it else api.get("stats", f"/v1/recalculations/{run_id}")
        _tell(api, run, json)


@app.command()
def pause(run_id: RunId, data_dir: DataDir = Path(".parley"), against: Against = None) -> None:
    """Let a recalculation stand; it goes on where it was.

    Example:

      parley stats pause 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    _steer("pause", run_id, data_dir, against)


@app.command()
def resume(run_id: RunId, data_dir: DataDir = Path(".parley"), against: Against = None) -> None:
    """Let a recalculation go on.

    Example:

      parley stats resume 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    _steer("resume", run_id, data_dir, against)


@app.command()
def cancel(run_id: RunId, data_dir: DataDir = Path(".parley"), against: Against = None) -> None:
    """End a recalculation; what it wrote stays.

    Example:

      parley stats cancel 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    _steer("cancel", run_id, data_dir, against)


def _steer(step: str, run_id: str, data_dir: Path, against: str | None) -> None:
    with Api(find(data_dir, against)) as api:
        run = api.post("stats", f"/v1/recalculations/{run_id}/{step}")
    console.say(f"Recalculation {run['id']} is {run['state']}.")


def _watch(api: Api, run_id: str) -> dict[str, Any]:
    with console.progress() as bars:
        return _follow(api, run_id, bars)


def _follow(api: Api, run_id: str, bars: Progress) -> dict[str, Any]:
    bar = bars.add_task("Recalculating", total=None, note="")
    run: dict[str, Any] = {}
    for run in follow(
        lambda: dict(api.get("stats", f"/v1/recalculations/{run_id}")), lambda seen: seen["state"] in _RESTING
    ):
        total = max(run["expected"], run["looked_at"]) or None
        bars.update(bar, total=total, completed=run["looked_at"], note=f"{run['different']:,} differ")
    bars.update(bar, total=run["looked_at"])
    return run


def _tell(api: Api, run: dict[str, Any], json: bool) -> None:
    """Exit code 1 while anything differs that was not written."""
    found = list(api.pages("stats", f"/v1/recalculations/{run['id']}/differences", _SHOWN))
    if json:
        console.print_json(run | {"differences": found})
    else:
        console.fields(f"Recalculation {run['id']}", run)
        if found:
            columns = ("!target_type", "!target_id", "#count_off_by", "kept", "counted", "written")
            rows = [[row[name.lstrip("#!")] for name in columns] for row in found]
            console.table(f"The first {len(found)} of {run['different']:,}", columns, rows)
    if run["outcome"] == "different" or run["state"] == "cancelled":
        raise typer.Exit(ExitCode.DIFFERENCE)
