"""What was written about a person, in every field that takes words, is nowhere once the person is erased."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.api import Api
from cli.commands.apply import apply_bundle
from cli.reading import read_yaml
from contracts.activities import ActivityOutcome
from contracts.campaigns import catalog_id
from contracts.contacts import SetPreference
from contracts.message import stable_id
from contracts.vocabulary import ActivityId, ContactId, PreferenceKind
from servicekit.clock import real_now
from tests.channel_sms.world import everybody
from tests.engines import Engines
from tests.kit import Wire, eventually
from tests.scenarios.conftest import WholeLine, assert_nowhere, places_with, whole_line

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.timeout(300)]

NAME = "Mephistopheles"
NUMBER = "+12025550142"
WORDS = f"{NAME} rang from {NUMBER}"
TRACES = {NAME, NAME.lower(), NUMBER}
ID = ContactId(stable_id("contact", "erased with all words"))


async def test_words_about_a_person_are_nowhere_after_an_erasure(
    engines: Engines, wire: Wire, tmp_path: Path
) -> None:
    async with whole_line(engines, wire.namespace, tmp_path) as line:
        with Api(line.parley, patience=60) as api:
            said = Said(line, api)
            await asyncio.to_thread(said.prepare)
            await said.known_everywhere()
            await asyncio.to_thread(said.written)
            await said.texted()
            await wire.publish(
                SetPreference(
                    command_id=stable_id("wish", ID),
                    contact_id=ID,
                    preference=PreferenceKind.DO_NOT_EMAIL,
                    opted_out=True,
                    source=WORDS,
                    actor=WORDS,
                    occurred_at=real_now(),
                ),
                said.outcome("failed", result="failed"),
                said.outcome("done", disposition="not-interested", captured={"remark": WORDS}),
            )
            await said.becomes("failed", "failed")
            await said.becomes("done", "completed")
            await line.rest()
            assert {
                "contacts/contacts",
                "contacts/consent_ledger",
                "batch-loader/contacts",
                "activities/activities",
                "activities/contacts",
                "channel-sms/contacts",
                "channel-sms/conversations",
                "channel-sms/inbound",
                "channel-sms/intents",
            } <= await places_with(line, TRACES)
            await asyncio.to_thread(said.erase)
        await assert_nowhere(line, wire, TRACES)


class Said:
    """Requests that take words, with the words of this test."""

    def __init__(self, line: WholeLine, api: Api) -> None:
        self._line = line
        self._api = api

    def prepare(self) -> None:
        with as_file(files("cli.sample") / "bundle.yaml") as path:
            apply_bundle(self._api, read_yaml(path))
        # What somebody writes after an erasure is another story.
        self._api.post("carrier", "/control/behaviour", everybody("silent"))
        person = {
            "contact_id": ID,
            "contact_type": "customer",
            "external_id": NAME,
            "first_name": NAME,
            "last_name": NAME,
            "organisation": WORDS,
            "phones": [{"number": NUMBER}],
            "emails": [f"{NAME}@example.org"],
            "time_zone": "America/New_York",
        }
        self._api.post("contacts", "/v1/contacts", person)

    async def known_everywhere(self) -> None:
        await self._line.rest()
        for name in ("batch-loader", "activities", "channel-sms"):
            await self._is_there(name, "contacts", {"_id": ID})

    def written(self) -> None:
        wish = {"opted_out": True, "source": WORDS, "actor": "ann"}
        self._api.put("contacts", f"/v1/contacts/{ID}/preferences/do-not-chat", wish)
        for name in ("finished", "called-back", "cancelled", "open", "failed", "done"):
            self._make(name, kind="call", channel="voice", subject="care-call", instructions=WORDS)
        self._work("finished", "complete", disposition="reached", captured={"remark": WORDS}, notes=WORDS)
        self._work("finished", "correct", notes=f"{WORDS} again")
        self._work("called-back", "complete", disposition="callback", notes=WORDS, preparation_notes=WORDS)
        self._work("cancelled", "cancel", reason=WORDS)
        for name in ("texted", "recalled"):
            self._make(name, kind="sms", mode="automated", channel="sms", subject="renewal", **_BY_TEXT)

    async def texted(self) -> None:
        for name in ("texted", "recalled"):
            await self._conversation(name, "awaiting_reply")
        await asyncio.to_thread(self._work, "recalled", "cancel", reason=WORDS)
        await self._conversation("recalled", "concluded")
        control = {"from": NUMBER, "to": "+18005550199", "body": WORDS}
        await asyncio.to_thread(self._api.post, "carrier", "/control/inbound", control)
        await self._is_there("channel-sms", "inbound", {"text": WORDS, "state": "worked"})

    def outcome(self, name: str, **changes: Any) -> ActivityOutcome:
        told = {
            "outcome_id": stable_id("outcome", name),
            "activity_id": _id(name),
            "contact_id": ID,
            "notes": WORDS,
            "reason": WORDS,
            "transcript_id": WORDS,
            "actor": "dialler",
            "occurred_at": real_now(),
        }
        return ActivityOutcome.model_validate(told | changes)

    async def becomes(self, name: str, state: str) -> None:
        await self._is_there("activities", "activities", {"_id": _id(name), "state": state})

    def erase(self) -> None:
        httpx.delete(f"{self._line.urls['contacts']}/v1/contacts/{ID}").raise_for_status()

    async def _conversation(self, name: str, state: str) -> None:
        await self._is_there("channel-sms", "conversations", {"_id": _id(name), "state": state})

    async def _is_there(self, service: str, collection: str, wanted: dict[str, Any]) -> None:
        rows = self._line.services[service].mongo[collection]
        await eventually(partial(rows.find_one, wanted), f"{wanted} in {service}/{collection}")

    def _make(self, name: str, *, subject: str, **spec: Any) -> None:
        new = {
            "activity_id": _id(name),
            "contact_id": ID,
            "subject_id": catalog_id("subject", subject),
            "owner": None if "mode" in spec else "ann",
        }
        self._api.post("activities", "/v1/activities", new | spec)

    def _work(self, name: str, how: str, **said: Any) -> None:
        self._api.post("activities", f"/v1/activities/{_id(name)}/{how}", {"actor": "ann"} | said)


_BY_TEXT = {
    "endpoint_id": catalog_id("endpoint", "main-number"),
    "destination": NUMBER,
    "instructions": WORDS,
}


def _id(name: str) -> ActivityId:
    return ActivityId(stable_id("activity", ID, name))
