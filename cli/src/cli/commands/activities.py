"""`parley activities`: the worklist from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console
from cli.api import Api, Refused, unknown
from cli.commands.batch import pairs
from cli.commands.contacts import find_contact
from cli.console import Json
from cli.exits import Unavailable
from cli.followed import what_followed
from cli.found import find
from cli.options import Against, DataDir, an_id
from contracts.vocabulary import ActivityState

app = typer.Typer(no_args_is_help=True, help="Activities: list, next, show, claim, reschedule, complete.")

ActivityId = Annotated[str, typer.Argument(help="Id of the activity.", callback=an_id)]
_COLUMNS = (
    "!activity_id",
    "state",
    "due_at",
    "owner",
    "contact_id",
    "subject",
    "campaign",
    "disposition",
)
_OPTIONS = {
    "scheduled_at": "--at",
    "follow_up_at": "--follow-up-at",
    "preparation_notes": "--preparation-notes",
    "captured": "--field",
    **{name: f"--{name}" for name in ("actor", "agent", "disposition", "notes", "state", "mode", "owner")},
}


@app.command("list")
def list_(
    state: Annotated[
        list[str] | None,
        typer.Option(help=f"Only in this state; repeatable. There are: {', '.join(ActivityState)}."),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="manual or automated.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who it is for, or who has it.")] = None,
    contact: Annotated[
        str | None, typer.Option(help="Its id, external id, or number with + and country code.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Id of the batch.")] = None,
    campaign: Annotated[str | None, typer.Option(help="Code or id of the campaign.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """List activities, the next due first.

    Examples:

      parley activities list --state available --owner ada

      parley activities list --campaign renewals

      parley activities list --contact C-000042 --json
    """
    with Api(find(data_dir, against), options=_OPTIONS) as api:
        if batch is not None:
            api.get("batch-loader", f"/v1/batches/{an_id(batch)}")
        found = list(
            api.pages(
                "activities",
                "/v1/activities",
                limit + 1,
                state=state,
                mode=mode,
                owner=owner,
                contact_id=find_contact(api, contact)["contact_id"] if contact is not None else None,
                batch_id=batch,
                campaign_id=_campaign_id(api, campaign) if campaign else None,
            )
        )
        without = "contact_id" if contact is not None else ""
        _show(api, found[:limit], json, "There is no such activity.", without)
        if len(found) > limit and not json:
            console.say_cut(limit)


@app.command("next")
def next_(
    agent: Annotated[str, typer.Option(help="Who asks.")],
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=999)] = 20,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """What an agent has, and what anybody may claim: the urgent first.

    Example:

      parley activities next --agent ada
    """
    with Api(find(data_dir, against), options=_OPTIONS) as api:
        found = api.get("activities", "/v1/next", agent=agent, limit=limit + 1)["items"]
        cut, found = len(found) > limit, found[:limit]
        if not json:
            people = {id_: _whom(api, id_) for id_ in dict.fromkeys(a["contact_id"] for a in found)}
            for activity in found:
                activity["contact"] = people[activity["contact_id"]]
        _show(api, found, json, f"There is nothing to do for {agent} now.")
        if cut and not json:
            console.say_cut(limit)


@app.command()
def show(
    activity_id: ActivityId, data_dir: DataDir = Path(".parley"), against: Against = None, json: Json = False
) -> None:
    """Show one activity, the newest verdict of the policy gate, and what its flow made of the outcome.

    Example:

      parley activities show 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11
    """
    with Api(find(data_dir, against)) as api:
        activity = api.get("activities", f"/v1/activities/{activity_id}")
        decision = api.get("activities", "/v1/decisions", activity_id=activity_id)["decision"]
        followed = _followed(api, activity)
        if json:
            console.print_json(activity | {"decision": decision, "followed": followed})
            return
        named = {"contact": _whom(api, activity["contact_id"]), **_named(api, [activity])[0]}
    audit, late = named.pop("audit"), named.pop("late_outcomes", ())
    del named["last_verdict"]
    gate = {"gate": _ruling(decision), "gate_saw": _seen(decision)}
    console.fields(f"Activity {activity_id}", named | gate)
    told = [(e["at"], e["what"], e["who"]) for e in audit]
    told += [(e["told_at"], f"reported late: {_result(e)}", e["actor"]) for e in late]
    told.sort(key=lambda event: event[0])
    happened = [(console.time_of(at, seconds=True), what, who) for at, what, who in told]
    console.table("What happened", ("at", "what", "who"), happened)
    if followed is not None:
        lines = what_followed(followed, console.time_of)
        console.table("What followed", ("what", "who"), [(line, "workflow") for line in lines])


@app.command()
def claim(
    activity_id: ActivityId,
    agent: Annotated[str, typer.Option(help="Who takes it.")],
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Take an activity; of two who do, one gets it.

    Example:

      parley activities claim 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --agent ada
    """
    with Api(find(data_dir, against), options=_OPTIONS) as api:
        activity = api.post("activities", f"/v1/activities/{activity_id}/claim", {"agent": agent})
    _tell(activity, json)


@app.command()
def reschedule(
    activity_id: ActivityId,
    actor: Annotated[str, typer.Option(help="Who asks.")],
    at: Annotated[str | None, typer.Option(help="When it is due, RFC 3339; else at once.")] = None,
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Give an activity another time: a call that was agreed on, or work that is wanted earlier.

    Examples:

      parley activities reschedule 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --actor ada

      parley activities reschedule 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --actor ada --at 2027-03-01T12:00:00Z
    """
    body = {"scheduled_at": at, "actor": actor}
    with Api(find(data_dir, against), options=_OPTIONS) as api:
        activity = api.post("activities", f"/v1/activities/{activity_id}/reschedule", body)
    _tell(activity, json)


@app.command()
def complete(
    activity_id: ActivityId,
    disposition: Annotated[str, typer.Option(help="Code of the outcome.")],
    actor: Annotated[str | None, typer.Option(help="Who completes it; else whoever has it.")] = None,
    notes: Annotated[str, typer.Option(help="What was said.")] = "",
    field: Annotated[list[str] | None, typer.Option(help="Subject data NAME=VALUE; repeatable.")] = None,
    follow_up_at: Annotated[
        str | None, typer.Option(help="A time agreed with the contact, RFC 3339.")
    ] = None,
    preparation_notes: Annotated[str, typer.Option(help="For whoever does the follow-up.")] = "",
    data_dir: DataDir = Path(".parley"),
    against: Against = None,
    json: Json = False,
) -> None:
    """Complete an activity with an outcome.

    Examples:

      parley activities complete 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --disposition reached --actor ada

      parley activities complete 5f1c0a9e-7d2b-5c1e-9a3f-2b8f6f0d4c11 --disposition sold --field plan=plus
    """
    body: dict[str, Any] = {
        "disposition": disposition,
        "actor": actor,
        "notes": notes,
        "captured": pairs(field or []),
        "preparation_notes": preparation_notes,
        "follow_up_at": follow_up_at,
    }
    with Api(find(data_dir, against), options=_OPTIONS) as api:
        if field:
            body["captured"] = pairs(field, _rules(api, activity_id))
        activity = api.post("activities", f"/v1/activities/{activity_id}/complete", body)
    _tell(activity, json)


def _show(api: Api, found: list[dict[str, Any]], json: bool, if_none: str, without: str = "") -> None:
    if json:
        console.print_json(found)
        return
    if not found:
        console.say(if_none)
        return
    found = [activity | {"owner": activity["assigned_to"] or activity["owner"]} for activity in found]
    found = _named(api, found)
    ended = any(activity["disposition"] for activity in found)
    columns: tuple[str, ...] = _COLUMNS if ended else _COLUMNS[:-1]
    columns = tuple(name for name in columns if name != without)
    if all("contact" in activity for activity in found):
        columns = tuple("contact" if name == "contact_id" else name for name in columns)
    rows = [[activity.get(name.lstrip("!")) for name in columns] for activity in found]
    console.table(None, columns, rows, else_blocks=True)


def _named(api: Api, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the codes of subject and campaign in front of the rest."""
    subjects, campaigns = _codes(api, "subject"), _codes(api, "campaign")
    return [
        {
            "subject": subjects.get(activity["subject_id"], activity["subject_id"]),
            "campaign": campaigns.get(activity["campaign_id"], activity["campaign_id"]),
            **activity,
        }
        for activity in found
    ]


def _result(late: dict[str, Any]) -> str:
    return " ".join(filter(None, (late["result"], late["disposition"] or late["reason"])))


def _ruling(decision: dict[str, Any] | None) -> str | None:
    """What the policy gate said, why, until when."""
    if decision is None:
        return None
    if decision["verdict"] == "allow":
        return "allow"
    until = f", until {console.time_of(decision['until'])}" if decision["until"] is not None else ""
    return f"{decision['verdict']}: {decision['reason']}{until}"


def _seen(decision: dict[str, Any] | None) -> str | None:
    """What the gate looked at."""
    if decision is None:
        return None
    inputs = {name.replace("_", " "): _in_words(value) for name, value in decision["inputs"].items()}
    return ", ".join(f"{name} {words}" for name, words in inputs.items() if words)


def _followed(api: Api, activity: dict[str, Any]) -> dict[str, Any] | None:
    """What the flow decided; None where it has not, or the workflow service does not say."""
    if activity["state"] != ActivityState.COMPLETED:
        return None
    try:
        return dict(api.get("workflow", f"/v1/decisions/{activity['activity_id']}"))
    except (Unavailable, Refused):
        return None


def _in_words(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _whom(api: Api, contact_id: str) -> str:
    """Name and first number of a contact; the id of one that nobody knows."""
    try:
        contact = api.get("contacts", f"/v1/contacts/{contact_id}")
    except (Unavailable, Refused):
        return contact_id
    name = " ".join(filter(None, (contact.get("first_name"), contact.get("last_name"))))
    numbers = [phone["number"] for phone in contact.get("phones", ())[:1]]
    return ", ".join([name or contact_id, *numbers])


def _codes(api: Api, kind: str) -> dict[str, str]:
    """By id. Without the campaigns service a list shows the ids, and works all the same."""
    try:
        return {item[f"{kind}_id"]: item["code"] for item in api.pages("campaigns", f"/v1/{kind}s")}
    except Unavailable:
        return {}


def _rules(api: Api, activity_id: str) -> dict[str, Any]:
    """Of the subject's fields. Without the campaigns service a value is what it looks like."""
    subject_id = api.get("activities", f"/v1/activities/{activity_id}")["subject_id"]
    try:
        for subject in api.pages("campaigns", "/v1/subjects"):
            if subject["subject_id"] == subject_id:
                properties: dict[str, Any] = subject["data_schema"].get("properties", {})
                return properties
    except Unavailable:
        pass
    return {}


def _campaign_id(api: Api, named: str) -> str:
    """Of a code or an id. Without the campaigns service it can only be an id."""
    codes = _codes(api, "campaign")
    if not codes or named in codes:
        return named
    for id_, code in codes.items():
        if code == named:
            return id_
    raise unknown(api, "campaign", named)


def _tell(activity: dict[str, Any], json: bool) -> None:
    if json:
        console.print_json(activity)
        return
    outcome = f" with {activity['disposition']}" if activity.get("disposition") else ""
    who = f" ({activity['assigned_to']})" if activity.get("assigned_to") else ""
    when = f" for {console.time_of(activity['due_at'])}" if activity["state"] == "scheduled" else ""
    console.say(f"{activity['activity_id']} is {activity['state']}{when}{outcome}{who}.")
