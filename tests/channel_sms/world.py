"""A small world to talk in: the real carrier in this process, a catalogue, contacts, and the service.

One stage serves many scenes: each has its own people, numbers, subject and endpoint.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from carrier.behaviour import Behaviour
from carrier.main import Carrier
from carrier.settings import Settings as CarrierSettings
from carrier.signature import signature
from channel_sms.main import build
from channel_sms.settings import Settings
from channel_sms.use_cases.send_due import SendDue
from contracts.activities import ActivityDispatched, ActivityRecalled
from contracts.campaigns import CampaignChanged, DispositionChanged, EndpointChanged, Question, SubjectChanged
from contracts.contacts import ContactChanged, Phone
from contracts.message import Message, stable_id
from contracts.vocabulary import ActivityId, CampaignId, CampaignState, ContactId, EndpointId, SubjectId
from servicekit.service import Service
from tests.engines import Engines
from tests.kit import Wire, eventually, running

M = TypeVar("M", bound=Message)

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CODES = ("sold", "declined", "opted-out", "no-answer", "bad-number")
QUICK = {
    "lease_seconds": 1,
    "sms_send_timeout_seconds": 0.5,
    "sms_absence_proves_seconds": 1,
    "sms_redelivery_seconds": 0,
    "sms_auth_token_other": "next",
}
PEOPLE = 200


def fictional(number: int) -> str:
    """One of the 80,000 North American numbers that are kept for fiction."""
    return f"+1{200 + number // 100}5550{100 + number % 100}"


def subject(**changes: Any) -> SubjectChanged:
    return SubjectChanged(
        subject_id=SubjectId("subject"),
        version=1,
        code="renewal",
        name="Renewal",
        data_schema={
            "type": "object",
            "properties": {"plan": {"enum": ["basic", "plus"]}, "seats": {"type": "integer", "minimum": 1}},
        },
        opening="Hi {first_name}, would you like to renew? Reply YES or NO.",
        questions=(
            Question(field="plan", text="Which plan (basic, plus)?"),
            Question(field="seats", text="How many seats?"),
        ),
        no_response_disposition="no-answer",
        yes_disposition="sold",
        no_disposition="declined",
        opt_out_disposition="opted-out",
        undeliverable_disposition="bad-number",
    ).evolve(**changes)


def disposition(code: str) -> DispositionChanged:
    return DispositionChanged(disposition_id=f"d-{code}", version=1, code=code, name=code)


PERSONAS = ("yes", "answers", "no", "silent", "stop", "question")


def everybody(persona: str) -> dict[str, int]:
    return {f"people_{name}": int(name == persona) for name in PERSONAS}


@dataclass
class Scene:
    """Some people, and how they are talked to."""

    stage: Stage
    number: int

    @property
    def carrier(self) -> Carrier:
        return self.stage.carrier

    @property
    def service(self) -> Service:
        return self.stage.service

    @property
    def wire(self) -> Wire:
        return self.stage.wire

    # Who is who

    @property
    def ours(self) -> str:
        """A number of the range that Ofcom keeps for fiction."""
        return f"+447700900{self.number:03}"

    @property
    def endpoint_id(self) -> str:
        return f"endpoint-{self.number}"

    def theirs(self, person: int) -> str:
        return fictional(self.number * PEOPLE + person)

    def contact_id(self, person: int) -> str:
        return f"contact-{self.number}-{person}"

    def activity_id(self, person: int) -> str:
        return f"activity-{self.number}-{person}"

    def opening_id(self, person: int) -> str:
        return stable_id("intent", self.activity_id(person), 1, 0)

    def subject(self, **changes: Any) -> SubjectChanged:
        return subject(subject_id=f"subject-{self.number}", code=f"renewal-{self.number}").evolve(**changes)

    def endpoint(self, **changes: Any) -> EndpointChanged:
        return EndpointChanged(
            endpoint_id=EndpointId(self.endpoint_id),
            version=1,
            code=f"main-{self.number}",
            channel="sms",
            address=self.ours,
            segments_per_second=1000,
        ).evolve(**changes)

    def contact(self, person: int, **changes: Any) -> ContactChanged:
        return ContactChanged(
            contact_id=ContactId(self.contact_id(person)),
            version=1,
            contact_type="person",
            first_name="Ann",
            phones=(Phone(number=self.theirs(person)),),
            created_at=NOW,
            changed_at=NOW,
        ).evolve(**changes)

    def dispatched(self, person: int, **changes: Any) -> ActivityDispatched:
        return ActivityDispatched(
            activity_id=ActivityId(self.activity_id(person)),
            contact_id=ContactId(self.contact_id(person)),
            channel="sms",
            dispatch_number=1,
            endpoint_id=EndpointId(self.endpoint_id),
            destination=self.theirs(person),
            subject_id=SubjectId(f"subject-{self.number}"),
            dispatched_at=NOW,
        ).evolve(**changes)

    @property
    def campaign_id(self) -> CampaignId:
        return CampaignId(f"campaign-{self.number}")

    def recalled(self, person: int) -> ActivityRecalled:
        return ActivityRecalled(
            activity_id=ActivityId(self.activity_id(person)),
            contact_id=ContactId(self.contact_id(person)),
            channel="sms",
            reason="on second thoughts",
            recalled_at=NOW,
        )

    # What is done

    async def campaign_is(self, state: str, version: int, ends_at: datetime | None = None) -> None:
        """Tell the service, and wait until it acts on it."""
        await self.wire.publish(
            CampaignChanged(
                campaign_id=self.campaign_id,
                version=version,
                code=f"campaign-{self.number}",
                name="A campaign",
                channel="sms",
                state=CampaignState(state),
                ends_at=ends_at,
            )
        )
        await self.until("campaigns", {"_id": self.campaign_id, "version": version})

    async def know(self, people: Sequence[int], **subject_changes: Any) -> None:
        """Tell the service about the catalogue and the contacts, and wait until it knows."""
        catalogue = [self.subject(**subject_changes), self.endpoint(), *map(disposition, CODES)]
        await self.wire.publish(*catalogue, *map(self.contact, people))
        await self.until("contacts", {}, len(people))
        await self.until("dispositions", {}, len(CODES))
        await self.until("subjects", {"_id": f"subject-{self.number}"})
        await self.until("endpoints", {"_id": self.endpoint_id})

    async def dispatch(self, *people: int) -> None:
        await self.wire.publish(*map(self.dispatched, people))

    async def write(self, person: int, text: str) -> str:
        """A person writes to us, through the carrier."""
        return await self.carrier.network.say(self.theirs(person), self.ours, text)

    def behave(self, **behaviour: Any) -> None:
        """Change how the carrier and its people behave from now on."""
        self.carrier.network.behaviour = Behaviour(**{**CALM, **behaviour})

    async def webhook(
        self, path: str, form: dict[str, str], *, token: str = "simulated", signed: str | None = None
    ) -> int:
        url = f"{self.stage.url}{path}"
        headers = {"X-Twilio-Signature": signature(token, url, form) if signed is None else signed}
        async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=form) as answer:
            return answer.status

    def form(self, person: int, text: str) -> dict[str, str]:
        """What the webhook of a person's first text says."""
        sid = f"SM{self.number:016x}{person:016x}"
        return {"MessageSid": sid, "From": self.theirs(person), "To": self.ours, "Body": text}

    async def get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.stage.url + path) as answer:
            return await answer.json()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        url = self.stage.url + path
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            return answer.status, await answer.json()

    # What is seen

    def journal(self, kind: str = "accepted") -> list[dict[str, Any]]:
        """The judge: what the carrier wrote down about this scene."""
        lines = self.carrier.journal.path.read_text().splitlines()
        entries = [entry for entry in map(json.loads, lines) if entry["kind"] == kind]
        return [entry for entry in entries if self.ours in (entry["from"], entry["to"])]

    def references(self) -> Counter[str]:
        """How often the carrier accepted each intent."""
        return Counter(entry["reference"] for entry in self.journal())

    async def accepted(self, number: int) -> list[dict[str, Any]]:
        async def enough() -> list[dict[str, Any]]:
            found = self.journal()
            return found if len(found) >= number else []

        found: list[dict[str, Any]] = await eventually(enough, f"{number} messages at the carrier")
        return found

    async def messages(self, message_class: type[M]) -> list[M]:
        mine = f"contact-{self.number}-"
        return [m for m in await self.wire.messages(message_class) if m.key().startswith(mine)]

    async def expect(self, message_class: type[M], number: int) -> list[M]:
        """Wait until at least that many messages of the class are there for this scene."""

        async def enough() -> list[M]:
            found = await self.messages(message_class)
            return found if len(found) >= number else []

        found: list[M] = await eventually(enough, f"{number} {message_class.__name__}")
        return found

    async def find(self, collection: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        return [row async for row in self.service.mongo[collection].find(self._mine(collection, query))]

    async def until(
        self, collection: str, query: dict[str, Any], number: int = 1, within: float = 30
    ) -> None:
        mine = self._mine(collection, query)

        async def there() -> bool:
            return int(await self.service.mongo[collection].count_documents(mine)) >= number

        await eventually(there, f"{number} of {collection} with {query}", within)

    def _mine(self, collection: str, query: dict[str, Any]) -> dict[str, Any]:
        match collection:
            case "intents" | "conversations":
                return {"contact_id": {"$regex": f"^contact-{self.number}-"}, **query}
            case "contacts":
                return {"_id": {"$regex": f"^contact-{self.number}-"}, **query}
            case "inbound":
                return {"to": self.ours, **query}
            case _:
                return query


def sender_of(talk: Scene) -> SendDue:
    (run,) = [run for name, run in talk.service._backgrounds if name == "send"]
    sender: SendDue = run.__self__  # type: ignore[attr-defined]
    return sender


CALM = {
    **everybody("silent"),
    "latency_ms": 0,
    "reply_delay_seconds": 0,
    "receipt_delay_seconds": 0.05,
}


@dataclass
class Stage:
    engines: Engines
    namespace: str
    carrier: Carrier
    wire: Wire
    service: Service
    scenes: count[int] = field(default_factory=count)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    @asynccontextmanager
    async def scene(self, **behaviour: Any) -> AsyncIterator[Scene]:
        """New people on the same stage; the carrier is calm again afterwards."""
        scene = Scene(self, next(self.scenes))
        scene.behave(**behaviour)
        try:
            yield scene
        finally:
            scene.behave()


@asynccontextmanager
async def standing(engines: Engines, namespace: str, directory: Path, **service: Any) -> AsyncIterator[Stage]:
    """The carrier and the service, talking to each other."""
    async with AsyncExitStack() as stack:
        made = CarrierSettings(port=0, journal=directory / "carrier.jsonl", **CALM)  # type: ignore[arg-type]
        carrier = await stack.enter_async_context(Carrier(made).running())
        wire = Wire(engines, namespace)
        stack.push_async_callback(wire.close)
        told = {**QUICK, **service, "sms_provider_url": carrier.url}
        running_service = await stack.enter_async_context(
            running(build, Settings, engines, namespace, **told)
        )
        stage = Stage(engines, namespace, carrier, wire, running_service)
        carrier.network.inbound_url = f"{stage.url}/v1/webhooks/sms/inbound"
        yield stage
