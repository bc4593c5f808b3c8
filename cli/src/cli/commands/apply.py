"""`parley apply`: one file of configuration, each part to the service that owns it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console
from cli.api import Api, Refused
from cli.console import Json
from cli.exits import WrongUsage
from cli.found import find
from cli.options import Against, DataDir
from cli.reading import Written, read_yaml

Outcome = dict[str, list[str]]
_LISTS = (
    "contact_types",
    "dispositions",
    "policies",
    "endpoints",
    "agent_profiles",
    "subjects",
    "campaigns",
    "flows",
)


def apply(
    file: Annotated[Path, typer.Argument(help="The bundle, YAML.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Apply a configuration bundle; the same bundle again changes nothing.

    `contact_types` goes to the contacts service, `flows` to the workflow, the rest to campaigns.
    Everything is judged before anything is written, as far as one service can tell.
    A whole bundle to start from is cli/src/cli/sample/bundle.yaml; docs/first-campaign.md walks through it.

    Examples:

      parley apply bundle.yaml --dry-run

      parley apply bundle.yaml
    """
    bundle = read_yaml(file)
    with Api(find(data_dir, against)) as api:
        outcome = apply_bundle(api, bundle, dry_run=dry_run)
    if json:
        console.print_json(outcome | {"dry_run": dry_run})
        return
    word = (
        {"created": "create", "changed": "change"}
        if dry_run
        else {"created": "created", "changed": "changed"}
    )
    for what, verb in word.items():
        for name in outcome[what]:
            console.say(f"{'would ' if dry_run else ''}{verb} {name}")
    console.say(f"{len(outcome['unchanged'])} unchanged.")


def apply_bundle(api: Api, bundle: Written, *, dry_run: bool = False) -> Outcome:
    """Items by what became of them. Raises a Failure that names the places that are wrong."""
    _check_lists(bundle)
    rest = dict(bundle.content)
    types, flows = _list(rest, "contact_types", bundle), _list(rest, "flows", bundle)
    judged = _send(api, bundle, types, rest, flows, dry_run=True)
    return judged if dry_run else _send(api, bundle, types, rest, flows, dry_run=False)


def _send(
    api: Api,
    bundle: Written,
    types: Sequence[dict[str, Any]],
    rest: dict[str, Any],
    flows: Sequence[dict[str, Any]],
    *,
    dry_run: bool,
) -> Outcome:
    outcome: Outcome = {"created": [], "changed": [], "unchanged": []}
    try:
        for position, type_ in enumerate(types):
            outcome[_contact_type(api, type_, position, bundle, dry_run)].append(
                f"contact_types/{type_['code']}"
            )
        told = api.put("campaigns", "/v1/bundle", rest, dry_run=dry_run)
        for what in outcome:
            outcome[what] += told[what]
        _check_flows(api, rest, flows, bundle)
        applied = (
            api.put("workflow", "/v1/flows", {"flows": flows}, dry_run=dry_run) if flows else {"items": []}
        )
        for flow in applied["items"]:
            outcome[_became(flow)].append(f"flows/{flow['subject']}")
    except Refused as refused:
        raise WrongUsage(_located(bundle, refused)) from refused
    return outcome


def _became(flow: dict[str, Any]) -> str:
    if flow["result"] == "unchanged":
        return "unchanged"
    return "created" if flow["result"] == "published" and flow["version"] == 1 else "changed"


def _check_lists(bundle: Written) -> None:
    """Here, since no service knows the lists of all."""
    unknown = [key for key in bundle.content if key not in _LISTS]
    if unknown:
        what = f"there is no such list; there are: {', '.join(_LISTS)}"
        raise WrongUsage("\n".join(f"{bundle.locate_key(key)}: {key}: {what}" for key in unknown))


def _check_flows(api: Api, rest: dict[str, Any], flows: Sequence[dict[str, Any]], bundle: Written) -> None:
    """The workflow knows neither subjects nor dispositions; a flow for none of them would wait for ever."""
    if not flows:
        return
    subjects = _codes(api, "subjects", rest)
    dispositions = _codes(api, "dispositions", rest)
    unknown: list[str] = []
    for position, flow in enumerate(flows):
        subject, when = flow.get("subject"), flow.get("when")
        if isinstance(subject, str) and subject not in subjects:
            place = f"flows[{position}].subject"
            unknown.append(_no_such(bundle, place, "subject", subject, subjects))
        for code in when if isinstance(when, dict) else ():
            if code not in dispositions:
                place = f"flows[{position}].when.{code}"
                unknown.append(_no_such(bundle, place, "disposition", code, dispositions))
    if unknown:
        raise WrongUsage("\n".join(unknown))


def _codes(api: Api, plural: str, rest: dict[str, Any]) -> set[str]:
    """Those that the campaigns service has, and those that the bundle is about to give it."""
    named = {item["code"] for item in rest.get(plural) or ()}
    return {item["code"] for item in api.pages("campaigns", f"/v1/{plural}")} | named


def _no_such(bundle: Written, place: str, kind: str, code: object, known: set[str]) -> str:
    there = ", ".join(sorted(known)) or "none yet"
    return f"{bundle.locate(place)}: {place}: no {kind} with code {code!r}; there are: {there}"


def _contact_type(api: Api, type_: dict[str, Any], position: int, bundle: Written, dry_run: bool) -> str:
    path = f"/v1/contact-types/{type_['code']}"
    definition = {name: value for name, value in type_.items() if name != "code"}
    try:
        before = api.get("contacts", path)
    except Refused as refused:
        if refused.status != 404:
            raise
        before = None
    if before and all(before.get(name) == value for name, value in definition.items()):
        return "unchanged"
    if not dry_run:
        try:
            api.put("contacts", path, definition)
        except Refused as refused:
            raise WrongUsage(_located(bundle, refused, f"contact_types[{position}]")) from refused
    return "changed" if before else "created"


def _list(bundle: dict[str, Any], name: str, written: Written) -> list[dict[str, Any]]:
    items = bundle.pop(name, None) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise WrongUsage(f"{written.locate(name)}: {name} must be a list of items.")
    for position, item in enumerate(items):
        if name == "contact_types" and not isinstance(item.get("code"), str):
            raise WrongUsage(f"{written.locate(f'{name}[{position}]')}: a contact type needs a code.")
    return items


def _located(bundle: Written, refused: Refused, within: str = "") -> str:
    """Every fault on a line of its own when the service names places, else its sentence."""
    # Sentences are what a service of an earlier release told.
    errors = [each for each in refused.problem.get("errors") or () if isinstance(each, dict)]
    faults = [(error["where"].removeprefix("body."), error["what"]) for error in errors]
    if not any(place for place, _ in faults):
        return f"{bundle.locate(within)}: {refused}"
    if within:
        faults = [(f"{within}.{place}", what) for place, what in faults]
    return "\n".join(f"{bundle.locate(place)}: {place}: {what}" for place, what in faults)
