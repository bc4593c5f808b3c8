"""Against real services: a mistake is one sentence that says what would be right, and changes nothing."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.engines import Engines
from tests.kit import eventually, running, settled

BUNDLE = """\
contact_types:
  - code: member
    name: Member
    fields_schema: {type: object, properties: {visits: {type: integer}, level: {enum: [gold, silver]}}}
dispositions:
  - {code: joined, name: Joined, terminal: true}
subjects:
  - {code: welcome, name: Welcome}
campaigns:
  - {code: welcome, name: Welcome, channel: voice, dispositions: [joined], state: running}
flows:
  - subject: welcome
    when: {joined: [{finish: {reason: all is done}}]}
"""
PEOPLE = "external_id,first_name,phone,visits\nP-1,Ada,+12025550101,3\nP/2#b,Zoë,+12025550102,1\n"
BATCH = ("batch", "create", "--name", "A", "--campaign", "welcome", "--subject", "welcome")


@dataclass
class Nowhere:
    """A service that does not answer."""

    port: int = 9


@dataclass
class Here:
    """Five services with a small configuration and two contacts."""

    services: dict[str, Any]
    directory: Path

    async def parley(self, *words: str) -> Result:
        against = ",".join(f"{name}=http://127.0.0.1:{each.port}" for name, each in self.services.items())
        arguments = [*words, "--against", against]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)

    def file(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    async def everything(self) -> dict[str, list[Any]]:
        await settled(*self.services.values())
        return {
            f"{name}/{collection}": [row async for row in each.mongo[collection].find().sort("_id", 1)]
            for name, each in self.services.items()
            for collection in sorted(await each.mongo.database.list_collection_names())
            if collection not in ("leases", "idempotency_keys", "outbox")
        }


@pytest.fixture(scope="module")
async def here(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    namespace = f"cli{uuid4().hex[:8]}-"
    async with AsyncExitStack() as stack:
        services = {}
        for name in ("contacts", "campaigns", "workflow", "batch-loader", "activities"):
            package = name.replace("-", "_")
            build = importlib.import_module(f"{package}.main").build
            settings = importlib.import_module(f"{package}.settings").Settings
            services[name] = await stack.enter_async_context(running(build, settings, engines, namespace))
        made = Here(services, tmp_path_factory.mktemp("cli"))
        applied = await made.parley("apply", made.file("bundle.yaml", BUNDLE))
        assert applied.exit_code == 0, applied.output
        imported = await made.parley(
            "contacts", "import", made.file("people.csv", PEOPLE), "--type", "member"
        )
        assert imported.exit_code == 0, imported.output
        await settled(*services.values())
        yield made


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("subject: welcome", "subject: wellcome", "line 12, column 14: flows[0].subject: no subject with"),
        ("when: {joined", "when: {jined", "line 13, column 19: flows[0].when.jined: no disposition with"),
        ("[joined]", "[jined]", "campaigns[0].dispositions[0]: no disposition with code 'jined'; there are:"),
        ("terminal:", "colour:", "dispositions[0].colour: there is no such field; there are: code,"),
        ("fields_schema:", "schema:", "line 4, column 13: contact_types[0].schema: there is no such field"),
        ("finish:", "finnish:", "flows[0].when.joined[0]: 'finnish' is not a known action; use one of"),
        ("state: running", "state: flying", "campaigns[0].state: Input should be 'draft', 'running',"),
        (
            "subjects:",
            "subject:",
            "line 7, column 1: subject: there is no such list; there are: contact_types,",
        ),
    ],
    ids=lambda text: text[:20],
)
async def test_a_wrong_bundle_is_told_with_its_place(here: Here, old: str, new: str, said: str) -> None:
    before = await here.everything()
    told = await here.parley("apply", here.file("wrong.yaml", BUNDLE.replace(old, new)))
    assert told.exit_code == 2
    assert said in told.stderr
    assert await here.everything() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((*BATCH[:5], "spring", *BATCH[6:]), 1, "There is no campaign 'spring'; known: welcome."),
        ((*BATCH[:7], "sales"), 1, "There is no subject 'sales'; known: welcome."),
        ((*BATCH, "--at", "2020-01-01T09:00"), 1, "The schedule 2020-01-01 09:00 has passed;"),
        ((*BATCH, "--at", "2027-01-11T09:00Z"), 2, "by each contact's own clock"),
        ((*BATCH, "--at", "tomorrow"), 2, "--at 'tomorrow' is not a day and a time such as"),
        ((*BATCH, "--limit", "-3"), 2, "greater than or equal to 1"),
        ((*BATCH, "--type", "nobody"), 1, "There is no contact type 'nobody'; there are: member."),
        (
            (*BATCH, "--type", "member", "--field", "age=3"),
            2,
            "has no field 'age'; there are: visits, level.",
        ),
        (
            (*BATCH, "--type", "member", "--field", "level=bronze"),
            2,
            "is one of: gold, silver; not 'bronze'.",
        ),
        (
            (*BATCH, "--type", "member", "--field", "visits=many"),
            2,
            "The field 'visits' of 'member' is of type integer; not 'many'.",
        ),
        (
            (*BATCH, "--type", "member", "--field", "level=gold", "--field", "level=bronze"),
            2,
            "is one of: gold, silver; not 'bronze'.",
        ),
        ((*BATCH, "--field", "visits"), 2, "'visits' is not NAME=VALUE."),
        ((*BATCH, "--zone", "Mars/Base"), 1, "'Mars/Base' is not an IANA time zone;"),
        ((*BATCH, "--agent-profile", "robot"), 1, "There is no agent profile 'robot'; known: none yet."),
        (("batch", "load", "nothing"), 1, "There is no batch with id 'nothing'."),
        (("batch", "watch", "nothing"), 1, "There is no batch with id 'nothing'."),
        (("batch", "pause", "../contacts"), 2, "'../contacts' cannot be an id"),
        (("activities", "show", "nothing"), 1, "There is no activity with id 'nothing'."),
        (("activities", "claim", "nothing", "--agent", "ada"), 1, "There is no activity with id 'nothing'."),
        (("activities", "complete", "x", "--disposition", "y"), 1, "There is no activity with id 'x'."),
        (
            ("activities", "complete", "x", "--disposition", "y", "--field", "fee=5", "--field", "fee=7"),
            2,
            "parley: The field 'fee' is given more than once; it has one value.",
        ),
        (("activities", "list", "--limit", "0"), 2, "greater than or equal to 1"),
        (("activities", "list", "--state", "flying"), 1, "Input should be 'scheduled', 'available',"),
        (
            ("activities", "list", "--campaign", "spring"),
            1,
            "There is no campaign 'spring'; there are: welcome.",
        ),
        (("campaign", "start", "nothing"), 1, "There is no campaign 'nothing'; there are: welcome."),
        (("contacts", "show", "nobody"), 1, "There is no contact with id, external id or number 'nobody'."),
        (("contacts", "show", "../imports"), 1, "There is no contact with id, external id or number '../"),
        (("contacts", "show", "."), 1, "There is no contact with id, external id or number '.'."),
        (("stats", "show", ""), 2, "A contact has an id, an external id or a number, and this is empty."),
        (("activities", "list", "--contact", ""), 2, "A contact has an id, an external id or a number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_a_wrong_word_is_told(here: Here, words: tuple[str, ...], code: int, said: str) -> None:
    before = await here.everything()
    told = await here.parley(*words)
    assert told.exit_code == code
    assert said in " ".join(told.stderr.replace("│", " ").split())
    assert await here.everything() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PEOPLE.encode("cp1252"), "The file is not UTF-8: line 3 has the byte 0xEB. Save it as"),
        (PEOPLE.encode("utf-16"), "it is UTF-16. Save it as `CSV UTF-8`"),
        (b"", "The file is empty; its first line must name the columns."),
        (PEOPLE.replace("visits", "colour").encode(), "Column 4 is 'colour', and nothing of that name"),
    ],
    ids=["windows", "utf-16", "empty", "column"],
)
async def test_a_wrong_list_is_told_and_imports_nobody(here: Here, content: bytes, said: str) -> None:
    before = await here.everything()
    told = await here.parley("contacts", "import", here.file("wrong.csv", content), "--type", "member")
    assert told.exit_code == 1
    assert said in told.stderr
    assert not (here.directory / "wrong.rejects.csv").exists()
    assert await here.everything() == before


async def test_a_list_of_which_nobody_was_taken_is_a_failure(here: Here) -> None:
    before = (await here.everything())["contacts/contacts"]
    nobody = "external_id,first_name,phone\nN-1,Ann,2025550143\nN-2,Ben,2025550144\n"
    told = await here.parley("contacts", "import", here.file("nobody.csv", nobody), "--type", "member")
    assert told.exit_code == 1
    assert "No row was taken; numbers without a country code need --region." in told.stderr
    rejects = here.directory / "nobody.rejects.csv"
    told = await here.parley("contacts", "import", str(here.directory / "nobody.csv"), "--type", "member")
    assert [path.name for path in here.directory.glob("nobody.rejects*")] == [rejects.name], "the same rows"
    rejects.write_text("somebody is mending these")
    told = await here.parley("contacts", "import", str(here.directory / "nobody.csv"), "--type", "member")
    assert "nobody.rejects-2.csv" in told.stdout
    assert rejects.read_text() == "somebody is mending these"
    assert (await here.everything())["contacts/contacts"] == before


@pytest.mark.parametrize(
    "content",
    [PEOPLE.encode(), PEOPLE.replace(",", ";").encode(), PEOPLE.encode("utf-8-sig")],
    ids=["the same", "semicolons", "byte order mark"],
)
async def test_the_same_people_again_change_nothing(here: Here, content: bytes) -> None:
    known = (await here.everything())["contacts/contacts"]
    told = await here.parley("contacts", "import", here.file("again.csv", content), "--type", "member")
    assert told.exit_code == 0, told.output
    assert (await here.everything())["contacts/contacts"] == known


async def test_the_same_bundle_again_changes_nothing(here: Here) -> None:
    before = await here.everything()
    told = await here.parley("apply", here.file("bundle.yaml", BUNDLE))
    assert told.exit_code == 0
    assert told.stdout.endswith("5 unchanged.\n")
    assert await here.everything() == before


async def test_an_illegal_move_is_told_with_the_legal_ones(here: Here) -> None:
    stopped = await here.parley("campaign", "resume", "welcome")
    assert stopped.exit_code == 0
    drafted = await here.parley(*BATCH, "--type", "member", "--json")
    batch_id = drafted.stdout.split('"batch_id": "')[1].split('"')[0]
    before = await here.everything()
    told = await here.parley("batch", "pause", batch_id)
    assert told.exit_code == 1
    assert "This batch is draft and cannot be paused; only one that is loading can." in told.stderr
    assert await here.everything() == before


@pytest.mark.parametrize(
    ("values", "kept", "count"),
    [(("3", "1"), [3, 1], 2), (("3", "7"), [3, 7], 1), (("3", "3"), 3, 1)],
    ids=["both", "one of them", "the same"],
)
@pytest.mark.parametrize("type_", [("--type", "member"), ()], ids=["of a type", "of any type"])
async def test_a_field_named_again_finds_any_of_its_values(
    here: Here, values: tuple[str, ...], kept: object, count: int, type_: tuple[str, ...]
) -> None:
    asked = [word for value in values for word in ("--field", f"visits={value}")]
    drafted = json.loads((await here.parley(*BATCH, *type_, *asked, "--json")).stdout)
    if type_:
        assert drafted["filters"]["fields"] == {"visits": kept}
    seen = await here.parley("batch", "preview", drafted["batch_id"], "--json")
    assert json.loads(seen.stdout)["count"] == count


async def test_a_contact_is_shown_for_people_to_read(here: Here) -> None:
    shown = (await here.parley("contacts", "show", "P/2#b")).stdout
    assert re.search(r"^ *phones +\+12025550102 \(Cell\) *$", shown, re.MULTILINE)
    assert re.search(r"^ *field visits +1 *$", shown, re.MULTILINE)
    assert '": ' not in shown, "no JSON"


async def test_a_worklist_is_worked(here: Here) -> None:
    """Near the end of this file: it is the only one that lets the services work."""
    drafted = await here.parley(*BATCH, "--type", "member", "--json")
    batch_id = drafted.stdout.split('"batch_id": "')[1].split('"')[0]
    loaded = await here.parley("batch", "load", batch_id)
    assert loaded.exit_code == 0, loaded.output
    said = "There are more than these 1: give a larger --limit."

    async def next_(limit: str) -> str:
        return (await here.parley("activities", "next", "--agent", "ada", "--limit", limit)).stdout

    async def cut() -> bool:
        return said in await next_("1")

    await eventually(cut, "a worklist of two")
    assert said not in await next_("2")
    assert said in (await here.parley("activities", "list", "--limit", "1")).stdout

    found = (await here.parley("activities", "next", "--agent", "ada", "--json")).stdout
    activity = found.split('"activity_id": "')[1].split('"')[0]
    later = await here.parley(
        "activities", "reschedule", activity, "--actor", "ada", "--at", "2999-01-01T09:00:00Z"
    )
    assert f"{activity} is scheduled for 2999-01-01 09:00 UTC" in later.stdout
    early = await here.parley("activities", "claim", activity, "--agent", "ada")
    assert "is scheduled for 2999-01-01 09:00 UTC; only one that is available, and it can be" in early.stderr
    assert (
        "is scheduled" in (await here.parley("activities", "reschedule", activity, "--actor", "ada")).stdout
    )

    async def offered() -> bool:
        return activity in await next_("9")

    await eventually(offered, "what was rescheduled to now")
    shown = (await here.parley("activities", "show", activity)).stdout
    assert re.search(r"rescheduled +ada *$", shown, re.MULTILINE)
    assert '": ' not in shown, "no JSON"
    assert "What followed" not in shown, "it is open"

    completed = await here.parley(
        "activities", "complete", activity, "--disposition", "joined", "--actor", "ada"
    )
    assert completed.exit_code == 0, completed.output
    await settled(*here.services.values())
    assert re.search(
        r"What followed.*on joined: finish all is done +workflow *$",
        (await here.parley("activities", "show", activity)).stdout,
        re.DOTALL | re.MULTILINE,
    )
    told = await here.parley("activities", "show", activity, "--json")
    assert json.loads(told.stdout)["followed"]["actions"][0]["action"] == "finish"
    elsewhere = Here({**here.services, "workflow": Nowhere()}, here.directory)
    told = await elsewhere.parley("activities", "show", activity)
    assert (told.exit_code, "What followed" in told.stdout) == (0, False), told.output


async def test_a_date_without_quotes_is_a_date(here: Here) -> None:
    dated = BUNDLE.replace("state: running", "state: running, starts_at: 2026-01-01T00:00:00Z").replace(
        "visits: {", "since: {type: string, format: date, default: 2000-01-01}, visits: {"
    )
    bundle = here.file("dated.yaml", dated)
    before = await here.everything()
    told = await here.parley("apply", bundle, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "would change campaigns/welcome" in told.stdout
    assert await here.everything() == before
    try:
        told = await here.parley("apply", bundle)
        assert told.exit_code == 0, told.output
        (campaign,) = (await here.everything())["campaigns/campaigns"]
        assert campaign["starts_at"] == datetime(2026, 1, 1, tzinfo=UTC)
        assert (await here.parley("apply", bundle)).stdout.endswith("5 unchanged.\n")
    finally:
        await here.parley("apply", here.file("bundle.yaml", BUNDLE))
    request = """\
name: Of this year
filters: {contact_type: member, created_from: 2026-01-01T00:00:00Z}
choices: {campaign: welcome, subject: welcome, source: manual, schedule: {kind: now}}
"""
    told = await here.parley("batch", "create", "--file", here.file("batch.yaml", request), "--json")
    assert told.exit_code == 0, told.output
    assert '"created_from": "2026-01-01T00:00:00Z"' in told.stdout


async def test_a_batch_for_a_stopped_campaign_is_told(here: Here) -> None:
    """Last in this file: there is no other campaign."""
    drafted = await here.parley(*BATCH, "--type", "member", "--json")
    batch_id = drafted.stdout.split('"batch_id": "')[1].split('"')[0]
    assert (await here.parley("campaign", "stop", "welcome")).exit_code == 0
    before = await here.everything()
    for words in (BATCH, ("batch", "load", batch_id)):
        told = await here.parley(*words)
        assert told.exit_code == 1
        assert told.stderr == (
            "parley: batch-loader: This campaign takes no batch: Campaign 'welcome' is stopped for good; "
            "draft one for another campaign.\n"
        )
    assert await here.everything() == before
