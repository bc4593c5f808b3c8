"""Conversations, intents and counts over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoInbound
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_suppressions import MongoSuppressions
from channel_sms.domain.conversation import Conversation, ConversationState
from channel_sms.domain.intent import Intent, IntentState
from channel_sms.use_cases.resolve_by_person import NotInDoubt, ResolveByPerson
from contracts.vocabulary import Flag
from servicekit.pages import IdCursor, Limit, Page, page_by_id
from servicekit.problems import Problem, answered_by
from servicekit.refusals import NotFound


class Line(BaseModel):
    """One message of a transcript."""

    message_id: str
    direction: Literal["incoming", "outgoing"]
    text: str
    at: datetime
    status: str
    purpose: str | None = None


class Transcript(Conversation):
    lines: list[Line]


class IntentView(BaseModel):
    intent_id: str
    state: IntentState
    status: str | None
    purpose: str
    contact_id: str
    activity_id: str | None
    endpoint_id: str
    sender: str
    to: str
    text: str
    segments: int
    attempts: int
    send_at: datetime
    claimed_at: datetime | None
    provider_message_id: str | None
    error: str | None
    reported_unknown: bool
    resolved_by: str | None
    version: int


class Resolution(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sent: Flag
    actor: str = Field(min_length=1, max_length=200)


class Counts(BaseModel):
    outgoing: dict[str, int]
    """By delivery status; messages that were not sent by the state of their intent."""
    incoming: dict[str, int]
    """`worked`, `unmatched`, or `new` while nobody has looked."""
    led_to_nobody: dict[str, int]
    """Those of `incoming` that no contact is known of, so that no message is recorded: `unmatched` (also
    with an `error`, whoever wrote it), or `worked` if a stranger's STOP, START or HELP was done."""


class UnmatchedView(BaseModel):
    message_id: str
    sender: str
    to: str
    text: str
    received_at: datetime
    contact_id: str | None = None
    error: str | None = None
    """Why it could not be worked, if that is why it is here."""


class SuppressionView(BaseModel):
    address: str
    state: str
    since: datetime | None = None
    contact_ids: list[str] = []


def routes(
    conversations: MongoConversations,
    intents: MongoIntents,
    inbound: MongoInbound,
    suppressions: MongoSuppressions,
    resolve: ResolveByPerson,
) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=answered_by(_problem_of))

    @router.get("/conversations", operation_id="list_conversations", tags=["conversations"])
    async def list_conversations(
        activity_id: str | None = None,
        contact_id: str | None = None,
        state: ConversationState | None = None,
        limit: Limit = 100,
        cursor: IdCursor = None,
    ) -> Page[Conversation]:
        found = await conversations.listed(activity_id, contact_id, state, cursor, limit + 1)
        return page_by_id(found, limit, lambda last: last.activity_id)

    @router.get("/conversations/{activity_id}", operation_id="get_conversation", tags=["conversations"])
    async def read_conversation(activity_id: str) -> Transcript:
        """The conversation with everything that was said, oldest first."""
        conversation = await conversations.get(activity_id)
        if conversation is None:
            raise NotFound("conversation", activity_id)
        lines = [_said(intent) for intent in await intents.of_activity(activity_id)]
        lines += [_heard(row) for row in await inbound.of_activity(activity_id)]
        lines.sort(key=lambda line: (line.at, line.direction == "outgoing"))
        return Transcript(**conversation.model_dump(), lines=lines)

    @router.get("/intents", operation_id="list_intents", tags=["intents"])
    async def list_intents(
        state: IntentState | None = None,
        activity_id: str | None = None,
        limit: Limit = 100,
        cursor: IdCursor = None,
    ) -> Page[IntentView]:
        """Messages we mean to send; `?state=unknown` is what people may have to decide."""
        found = await intents.listed(state, activity_id, cursor, limit + 1)
        return page_by_id([_intent(intent) for intent in found], limit, lambda last: last.intent_id)

    @router.get("/intents/{intent_id}", operation_id="get_intent", tags=["intents"])
    async def read_intent(intent_id: str) -> IntentView:
        found = (await intents.load([intent_id])).get(intent_id)
        if found is None:
            raise NotFound("intent", intent_id)
        return _intent(found)

    @router.post("/intents/{intent_id}/resolve", operation_id="resolve_intent", tags=["intents"])
    async def resolve_intent(intent_id: str, resolution: Resolution) -> IntentView:
        """Say whether an unknown message was sent. One that was not is sent now, as the same intent."""
        return _intent(await resolve(intent_id, sent=resolution.sent, actor=resolution.actor))

    @router.get("/messages/counts", operation_id="count_messages", tags=["messages"])
    async def count_messages() -> Counts:
        incoming, nobodys = await inbound.counts()
        return Counts(outgoing=dict(await intents.counts()), incoming=incoming, led_to_nobody=nobodys)

    @router.get("/unmatched", operation_id="list_unmatched", tags=["messages"])
    async def list_unmatched(limit: Limit = 100, cursor: IdCursor = None) -> Page[UnmatchedView]:
        """Messages of people that led to nothing: no conversation knows them, or they could not be worked."""
        rows = await inbound.unmatched(cursor, limit + 1)
        items = [UnmatchedView(message_id=row["_id"], **_fields(UnmatchedView, row)) for row in rows]
        return page_by_id(items, limit, lambda last: last.message_id)

    @router.get("/suppressions", operation_id="list_suppressions", tags=["suppressions"])
    async def list_suppressions(
        address: str | None = None, limit: Limit = 100, cursor: IdCursor = None
    ) -> Page[SuppressionView]:
        """Addresses that opted out, and those that came back."""
        rows = await suppressions.listed(address, cursor, limit + 1)
        items = [SuppressionView(address=row["_id"], **_fields(SuppressionView, row)) for row in rows]
        return page_by_id(items, limit, lambda last: last.address)

    return router


def _problem_of(refusal: Exception) -> Problem | None:
    match refusal:
        case NotInDoubt():
            return Problem(409, "not-in-doubt", "This send is not in doubt", str(refusal))
    return None


def _fields(view: type[BaseModel], row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in view.model_fields if name in row}


def _intent(intent: Intent) -> IntentView:
    return IntentView(**{name: getattr(intent, name) for name in IntentView.model_fields})


def _said(intent: Intent) -> Line:
    return Line(
        message_id=intent.intent_id,
        direction="outgoing",
        text=intent.text,
        at=intent.occurred_at,
        status=intent.status or intent.state.value,
        purpose=intent.purpose.value,
    )


def _heard(row: dict[str, Any]) -> Line:
    return Line(
        message_id=row["_id"],
        direction="incoming",
        text=row["text"],
        at=row["received_at"],
        status="received",
    )
