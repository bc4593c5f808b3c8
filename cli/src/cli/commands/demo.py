"""`parley demo`: the whole line at work, reconciled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli import console
from cli.api import Api
from cli.commands.reconcile import show
from cli.console import Json
from cli.demo.marker import LIST, WHOLE_WEEK, Marker, prepare
from cli.demo.memory import PeakMemory
from cli.demo.numbers import MOST
from cli.demo.own_line import OwnLine
from cli.demo.play import Play
from cli.demo.quiet import Stalled
from cli.demo.story import Story, worth_listing, worth_telling
from cli.exits import Failure, Unavailable, WrongUsage
from cli.found import Parley, find
from cli.line.state import CLOCK
from cli.options import a_folder, same_again
from cli.signals import Interrupts, signals_as_interrupts, signals_call
from servicekit.clock import DrivenClock

FEWEST = 100


def demo(
    contacts: Annotated[int, typer.Option(help=f"Rows of the contact list, {FEWEST} to {MOST}.")] = 10_000,
    data_dir: Annotated[
        Path,
        typer.Option(
            help="The demo's own; one that ended is made anew, others are refused.",
            file_okay=False,
            callback=a_folder,
        ),
    ] = Path(".parley/demo"),
    seed: Annotated[int, typer.Option(help="The same seed makes the same list.")] = 1,
    days: Annotated[
        float,
        typer.Option(
            help="How much of the week it plays, where it drives the time; fewer take less.",
            min=1,
            max=WHOLE_WEEK,
        ),
    ] = WHOLE_WEEK,
    against: Annotated[
        str | None,
        typer.Option(
            envvar="PARLEY_CLI_AGAINST",
            help="A running, empty Parley instead of an embedded one: `compose`, a host, or NAME=URL pairs. "
            "Without --clock-file time passes as it does there: what is due later stays scheduled.",
        ),
    ] = None,
    clock_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PARLEY_CLI_CLOCK_FILE",
            help="With --against: the file that the services there have their time from.",
            dir_okay=False,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")
    ] = False,
    json: Json = False,
) -> None:
    """Take a made-up contact list through the whole line, and reconcile it to the last contact.

    Imports the list, applies a sample bundle, loads an automatic and a manual batch, lets a simulated
    carrier and a scripted agent work it through a week that passes in minutes, lets people complete
    some calls, and then counts everything from every side. Any difference ends with exit code 1.

    Interrupted with Ctrl-C, the next run goes on where this one was.

    Examples:

      parley demo

      parley demo --contacts 1000 --keep

      parley demo --days 2
    """
    if not FEWEST <= contacts <= MOST:
        raise WrongUsage(
            f"--contacts {contacts} cannot be made: {FEWEST} to {MOST}, "
            "since only so many numbers are reserved for fiction."
        )
    data_dir = data_dir.expanduser().resolve()
    began = time.monotonic()
    with signals_as_interrupts() as interrupts:
        try:
            marker, continues = prepare(data_dir, contacts, seed, days)
        except KeyboardInterrupt:
            console.err.print("Interrupted before anything was started.")
            raise typer.Exit(130) from None
        try:
            agree = _demo(data_dir, marker, continues, against, clock_file, keep, json, began, interrupts)
        except KeyboardInterrupt:
            console.err.print("Interrupted, and stopped in order. The same command goes on from here.")
            raise typer.Exit(130) from None
    if not agree:
        raise Failure("The books do not agree; see the lines marked above.")


def _demo(
    data_dir: Path,
    marker: Marker,
    continues: bool,
    against: str | None,
    clock_file: Path | None,
    keep: bool,
    json: bool,
    began: float,
    interrupts: Interrupts,
) -> bool:
    console.err.print(
        Text.assemble(
            ("Parley demo", "bold"),
            f" on {data_dir}" + (", going on where it was interrupted" if continues else ""),
        )
    )
    with (
        PeakMemory() as memory,
        _line(data_dir, against) as (parley, stands),
        Api(parley, patience=30) as api,
    ):

        def check() -> None:
            interrupts.check()
            stands()

        with console.progress() as bars:
            clock = DrivenClock(data_dir / CLOCK if against is None else clock_file or data_dir / CLOCK)
            drives_time = against is None or clock_file is not None
            play = Play(api, data_dir, marker, bars, check, clock, drives_time=drives_time)
            try:
                play.perform()
            except BaseException as ended:
                play.stand_still()
                if isinstance(ended, Unavailable | Stalled):
                    console.err.print("Stopped by a fault. The same command goes on from here.")
                raise
            play.let_time_go_on()
        with console.doing("Counting everything from every side ..."):
            books = play.books()
        agree = all(equation.holds for equation in books)
        seconds = time.monotonic() - began
        if json:
            console.print_json(
                {
                    "agree": agree,
                    "seconds": round(seconds, 1),
                    "peak_memory_bytes": memory.bytes,
                    "equations": [equation.document() for equation in books],
                }
            )
        else:
            rows = console.counted(marker.contacts, "rows")
            show(books, f"{rows} reconciled" if agree else f"{rows}, NOT reconciled")
            told = _tell_a_story(api, data_dir / LIST)
            _say_where_to_look(data_dir, seconds, memory.bytes, told, worth_listing(api), keep, against)
        marker.finished = agree
        marker.write(data_dir)
        if keep:
            _keep_running(check)
    return agree


@contextmanager
def _line(data_dir: Path, against: str | None) -> Iterator[tuple[Parley, Callable[[], None]]]:
    """Where Parley is, and what to call now and then: it raises a Failure when Parley ended."""
    if against is not None:
        yield find(data_dir, against), lambda: None
        return
    with console.doing("Starting the engines and the services ..."):
        line = OwnLine.started(data_dir)
    try:
        with line.blamed():
            yield line.parley, line.check
    finally:
        with console.doing("Stopping the services, then the engines ..."), signals_call(line.hurry):
            line.stop()


def _keep_running(check: Callable[[], None]) -> None:
    console.say("Everything keeps running; Ctrl-C stops it.")
    try:
        while True:
            check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def _tell_a_story(api: Api, file: Path) -> str | None:
    """Of whom, and in which zone: any other row of the list may be one that was rejected."""
    contact_id = worth_telling(api)
    if contact_id is None:
        return None
    story = Story(api, contact_id, file)
    console.table(story.title, ("when", "who", "what"), [(e.at, e.who, e.what) for e in story.events()])
    return f"{story.contact['external_id']} --zone {story.zone.key}"


def _say_where_to_look(
    data_dir: Path,
    seconds: float,
    peak: int,
    told: str | None,
    state: str | None,
    keep: bool,
    against: str | None,
) -> None:
    where = same_again(data_dir, against)
    if against is None:
        console.say(f"This run took {seconds:.0f} seconds, at most {peak / 2**20:,.0f} MiB of memory.")
        console.say(f"The list: {data_dir / LIST}. The carrier's journal: {data_dir / 'carrier.jsonl'}.")
        console.say(f"Logs: {data_dir / 'logs'}. The bundle it ran on: cli/src/cli/sample/bundle.yaml.")
        if not keep:
            console.say(f"Look around: parley up{where}, and then in another terminal:")
    else:
        console.say(f"{seconds:.0f} seconds. Journal and logs are where the services are.")
        console.say(f"The list: {data_dir / LIST}. The bundle it ran on: cli/src/cli/sample/bundle.yaml.")
        console.say("Look around:")
    console.say(f"  parley activities list{f' --state {state}' if state else ''}{where}")
    if told:
        console.say(f"  parley stats show {told}{where}")
    console.say(f"  parley reconcile{where}")
