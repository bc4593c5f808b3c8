"""`parley stats`: how often, when and in which direction somebody was contacted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console
from cli.api import Api
from cli.commands.contacts import find_contact
from cli.console import Json
from cli.found import find
from cli.options import Against, DataDir, an_id

app = typer.Typer(no_args_is_help=True, help="Statistics of contact attempts.")


@app.command()
def show(
    contact: Annotated[
        str, typer.Argument(help="Its id, external id, or number with + and country code.", callback=an_id)
    ],
    zone: Annotated[str, typer.Option(help="The viewer's time zone, IANA name.")] = "UTC",
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Show the counters of one contact.

    Example:

      parley stats show C-000042 --zone Europe/Berlin
    """
    with Api(find(data_dir, against)) as api:
        contact_id = find_contact(api, contact)["contact_id"]
        seen = api.get("stats", f"/v1/contacts/{contact_id}/stats", zone=zone)
    if json:
        console.print_json(seen)
    else:
        console.fields(f"Contact {contact_id}", seen)
