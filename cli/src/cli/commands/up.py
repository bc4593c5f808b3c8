"""`parley up`: the whole line on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli import console
from cli.line import Line, LineState
from cli.line.line import Wanted
from cli.line.members import chosen
from cli.options import Channels, DataDir, same_again
from cli.signals import signals_as_interrupts, signals_call
from servicekit.settings import without_login

_LOOK_EVERY = 0.25


def up(
    data_dir: DataDir = Path(".parley"),
    kafka_port: Annotated[
        int | None, typer.Option(help="Port of the embedded broker.", min=1, max=65535)
    ] = None,
    mongo_port: Annotated[
        int | None, typer.Option(help="Port of the embedded database.", min=1, max=65535)
    ] = None,
    ports_from: Annotated[
        int | None,
        typer.Option(
            help="Services listen on N+1 to N+10; a taken port ends the command. "
            "Without it: the ports of the last run, else 8101 to 8110, else free ones.",
            min=1,
            max=65500,
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Some services only, comma separated; the engines always run.")
    ] = None,
    channel: Channels = None,
    namespace: Annotated[str, typer.Option(help="Prefix of topics, groups and databases.")] = "",
) -> None:
    """Run the engines and all services, until Ctrl-C.

    The broker and the database are embedded unless KAFKA_BOOTSTRAP_SERVERS or MONGO_URL names one.
    Everything is kept in the data directory; starting again continues where it was.

    Examples:

      parley up

      parley up --data-dir /var/tmp/trial --ports-from 9100

      parley up --only contacts,campaigns,carrier
    """
    wanted = Wanted(chosen(only), kafka_port, mongo_port, ports_from, namespace, tuple(channel or ()))
    with signals_as_interrupts() as interrupts:
        line = Line(data_dir, wanted, console.say)
        try:
            with console.doing(f"Starting on {line.data_dir} ..."):
                line.start()
            show(line.state, line.data_dir)
            while True:
                line.watch()
                interrupts.check()
                time.sleep(_LOOK_EVERY)
        except KeyboardInterrupt:
            console.say("Stopping: the services finish what is in hand (Ctrl-C again does not wait) ...")
        finally:
            with signals_call(line.hurry):
                line.stop()
    console.say("Stopped.")


def show(state: LineState, data_dir: Path) -> None:
    rows = [(name, service.url) for name, service in sorted(state.services.items())]
    rows += [("Kafka", state.kafka_bootstrap_servers), ("MongoDB", without_login(state.mongo_url))]
    console.table("Parley is up", ("service", "where"), rows)
    console.say("Each service has /docs (REST), /asyncapi.json (topics), /metrics, /readyz and /livez;")
    console.say("the carrier has /control/stats.")
    where = same_again(data_dir)
    console.say(f"Logs are in {data_dir / 'logs'}. In another terminal:")
    console.say(f"  parley apply FILE.yaml{where}")
    console.say(f"  parley reconcile{where}")
    console.say("Ctrl-C stops everything.")
