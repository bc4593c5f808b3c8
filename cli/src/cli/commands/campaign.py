"""`parley campaign`: start, pause, resume, stop."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from cli import console
from cli.api import Api, Refused, unknown
from cli.console import Json
from cli.found import find
from cli.options import Against, DataDir, an_id

app = typer.Typer(no_args_is_help=True, help="Campaigns: list, start, pause, resume, stop.")

Code = Annotated[str, typer.Argument(help="Code of the campaign.", callback=an_id)]


@app.command("list")
def list_(data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False) -> None:
    """List campaigns.

    Example:

      parley campaign list
    """
    with Api(find(data_dir, against)) as api:
        campaigns = list(api.pages("campaigns", "/v1/campaigns"))
    if json:
        console.print_json(campaigns)
        return
    if not campaigns:
        console.say("No campaigns; `parley apply BUNDLE` brings them.")
        return
    columns = ("code", "name", "state", "channel", "group")
    console.table(None, columns, [[campaign.get(name) for name in columns] for campaign in campaigns])


@app.command()
def start(
    code: Code, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Let a draft campaign run.

    Example:

      parley campaign start renewals
    """
    _move("start", code, data_dir, against, json)


@app.command()
def pause(
    code: Code, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Dispatch nothing more until it is resumed.

    Example:

      parley campaign pause renewals
    """
    _move("pause", code, data_dir, against, json)


@app.command()
def resume(
    code: Code, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Go on with a paused campaign.

    Example:

      parley campaign resume renewals
    """
    _move("resume", code, data_dir, against, json)


@app.command()
def stop(
    code: Code, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Stop a campaign for good.

    It takes no batch any more. A load that is under way is stopped with `parley batch cancel`.

    Example:

      parley campaign stop renewals
    """
    _move("stop", code, data_dir, against, json)


def _move(move: str, code: str, data_dir: Path, against: str | None, json: bool) -> None:
    with Api(find(data_dir, against)) as api:
        try:
            campaign = api.post("campaigns", f"/v1/campaigns/{code}/{move}")
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            raise unknown(api, "campaign", code) from refused
    if json:
        console.print_json(campaign)
    else:
        console.say(f"{campaign['name']} is {campaign['state']}.")
