"""`parley contacts`: lists of people."""

from __future__ import annotations

import sys
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.progress import Progress

from cli import console
from cli.api import Api, Refused
from cli.console import Json
from cli.exits import Failure, WrongUsage
from cli.found import find
from cli.options import Against, DataDir
from cli.reading import opened
from cli.waiting import follow
from contracts.vocabulary import is_own_id

app = typer.Typer(no_args_is_help=True, help="Contacts: import a list, show one.")

_CHUNK = 256 * 1024
_ENDED = ("finished", "failed")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV in UTF-8; its first line names the columns.")],
    type_: Annotated[str, typer.Option("--type", help="Code of the contact type.")],
    region: Annotated[
        str | None, typer.Option(help="Country of numbers without a country code, such as US.")
    ] = None,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Import a CSV file of contacts.

    Columns, in any order: phone, home_phone, work_phone, office_phone, fax,
    other_phone, email (one of these at least), external_id, first_name,
    last_name, organisation, time_zone, opted_out, do_not_sms, do_not_call,
    do_not_email, do_not_chat, and the custom fields of the contact type. Usual
    other names are known too: services/contacts/README.md has them.

    Rows that cannot be taken are written next to the file with what would be right; mended, that
    file can be imported as it is. Importing the same file again changes nothing.

    Example:

      parley contacts import people.csv --type customer --region US
    """
    with opened(file) as content:
        if not content.seekable():
            raise WrongUsage(f"{file} is a pipe; save it as a file, beside which rejected rows can stand.")
    with Api(find(data_dir, against)) as api, console.progress() as bars:
        import_id = send_list(api, file, type_, region, key=str(uuid4()))
        done = watch_import(api, import_id, bars, f"Importing {file.name}")
        rejects = write_rejects(api, done, file)
    if json:
        console.print_json(done | {"rejects_file": str(rejects) if rejects else None})
    else:
        _show(done, rejects)
        if rejects is None and (stale := _rejects_of(file)).exists():
            console.say(f"{stale} is of an earlier import.")
    if done["state"] == "failed":
        raise Failure(f"The import failed: {done['error']}.")
    if not done["rows"]:
        raise Failure("The file has a header and no rows.")
    if not done["imported"]:
        hint = "; numbers without a country code need --region" if _need_region(done, region) else ""
        raise Failure(f"No row was taken{hint}.")


def send_list(api: Api, file: Path, type_: str, region: str | None, key: str) -> str:
    """Upload the file; the same key again gives the same import."""

    def chunks() -> Any:
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                yield chunk

    answer = api.send(
        "contacts",
        "/v1/imports",
        chunks(),
        "text/csv",
        key=key,
        contact_type=type_,
        default_region=region,
        name=file.name,
    )
    return str(answer["import_id"])


def watch_import(api: Api, import_id: str, bars: Progress, title: str) -> dict[str, Any]:
    bar = bars.add_task(title, total=None, note="")
    seen: dict[str, Any] = {}
    for seen in follow(
        lambda: api.get("contacts", f"/v1/imports/{import_id}"), lambda told: told["state"] in _ENDED
    ):
        note = f"{seen['imported']:,} imported, {sum(seen['rejected'].values()):,} rejected"
        bars.update(bar, total=max(seen["lines"] - 1, seen["rows"]), completed=seen["rows"], note=note)
    bars.update(bar, total=seen["rows"])
    return seen


def write_rejects(api: Api, done: dict[str, Any], file: Path) -> Path | None:
    """The rejected rows beside the list they come from; nothing when there are none. A file that is there may
    be being mended by somebody, and stays."""
    if not done["rejected"]:
        return None
    rows = api.text("contacts", f"/v1/imports/{done['import_id']}/rejects")
    try:
        names = (_rejects_of(file, number) for number in count(1))
        path = next(path for path in names if not path.exists() or path.read_bytes() == rows.encode())
        path.write_text(rows, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(rows)
        raise Failure(
            f"{_rejects_of(file)} cannot be written ({error.strerror}); the"
            f" {sum(done['rejected'].values()):,} rejected rows stand above. What was imported is imported."
        ) from error
    return path


def _rejects_of(file: Path, number: int = 1) -> Path:
    return file.with_name(f"{file.stem}.rejects{f'-{number}' if number > 1 else ''}.csv")


def _need_region(done: dict[str, Any], region: str | None) -> bool:
    return region is None and "bad_phone" in done["rejected"]


def _show(done: dict[str, Any], rejects: Path | None) -> None:
    rows: list[tuple[object, object]] = [(name, done[name]) for name in ("created", "updated", "unchanged")]
    rows += [(f"rejected: {reason}", count) for reason, count in sorted(done["rejected"].items())]
    console.table(console.counted(done["rows"], "rows"), ("what became of them", "#rows"), rows)
    if rejects:
        console.say(f"Rejected rows and what would be right: {rejects}")


@app.command("show")
def show(
    contact_id: Annotated[
        str,
        typer.Argument(help="Its id, external id, or number with + and country code."),
    ],
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Show one contact.

    Examples:

      parley contacts show C-000042

      parley contacts show +12025550142
    """
    with Api(find(data_dir, against)) as api:
        contact = find_contact(api, contact_id)
    if json:
        console.print_json(contact)
    else:
        console.fields(f"Contact {contact['contact_id']}", _for_people(contact))


def _for_people(contact: dict[str, Any]) -> dict[str, Any]:
    """One line for each number, custom field and preference, in the place where they stood."""
    shown: dict[str, Any] = {}
    for name, value in contact.items():
        match name:
            case "phones":
                shown |= {"phones": ", ".join(f"{phone['number']} ({phone['type']})" for phone in value)}
            case "emails":
                shown |= {"emails": ", ".join(value)}
            case "fields":
                # A year or an account's number is no count: none of its digits are set apart.
                shown |= {
                    f"field {field}": str(content) if type(content) is int else content
                    for field, content in value.items()
                }
            case "preferences":
                shown |= {
                    kind: f"since {console.time_of(no['at'])}, by {no['actor']} ({no['source']})"
                    for kind, no in value.items()
                }
            case _:
                shown[name] = value
    return shown


def find_contact(api: Api, wanted: str) -> dict[str, Any]:
    """By id, external id or number. An external id may have marks that mean something in an address."""
    if not wanted.strip():
        raise WrongUsage("A contact has an id, an external id or a number, and this is empty.")
    by = "phone" if wanted.startswith("+") else "external_id"
    found: list[dict[str, Any]] = api.get("contacts", "/v1/contacts", **{by: wanted}, limit=1)["items"]
    if found:
        return found[0]
    nobody = Failure(f"There is no contact with id, external id or number {wanted!r}.")
    if not is_own_id(wanted):  # a dot would lead to the list of all
        raise nobody
    try:
        return dict(api.get("contacts", f"/v1/contacts/{wanted}"))
    except Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        raise nobody from refused
