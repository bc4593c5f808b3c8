"""Show what a completion would lead to, by the very code that will decide it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from contracts.activities import ActivityCompleted, ActivityCreated
from contracts.campaigns import catalog_id
from contracts.contacts import SetPreference
from contracts.message import Message
from contracts.vocabulary import (
    ActivityKind,
    ChannelName,
    Code,
    Identifier,
    Mode,
    Source,
    Time,
    Urgency,
    Whole,
    to_millisecond,
)
from servicekit.clock import Clock
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Store
from workflow.domain.actions import Frozen
from workflow.domain.decision import Decision, conclude, decided
from workflow.domain.flow import Flow, FlowSpec, NothingToPublish, PublishedVersion, flow_ids_for
from workflow.use_cases.apply_flows import InvalidFlows


class Completion(Frozen):
    """A completion that has not happened; only the disposition must be said."""

    disposition: Code
    subject: Code | None = None
    campaign: Code | None = None
    subject_id: Identifier | None = None
    """Instead of the code."""
    campaign_id: Identifier | None = None
    activity_id: Identifier = "preview"
    """With the real one the ids are those that will be made."""
    contact_id: Identifier = "preview"
    contact_time_zone: str | None = Field(default=None, examples=["America/New_York"])
    kind: ActivityKind = ActivityKind.TASK
    mode: Mode = Mode.MANUAL
    channel: ChannelName | None = None
    endpoint_id: Identifier | None = None
    agent_profile_id: Identifier | None = None
    owner: str | None = None
    urgency: Urgency = Urgency.NORMAL
    instructions: str = ""
    preparation_notes: str = ""
    follow_up_at: Time | None = None
    attempt_number: Whole = Field(default=1, ge=1, le=1000)
    chain_depth: Whole = Field(default=0, ge=0, le=1000)
    root_id: Identifier | None = None
    created_at: Time | None = None
    """Null means just now: under the version in force."""
    completed_at: Time | None = None
    """Null means now."""
    completed_by: str = "preview"

    def completed(self, subject: str | None, campaign: str | None, now: datetime) -> ActivityCompleted:
        """The message as it would be; the subject and campaign are those of a flow, where none is said."""
        subject_id = self.subject_id or catalog_id("subject", self.subject or subject or "")
        campaign_code = self.campaign or campaign
        campaign_id = self.campaign_id or (campaign_code and catalog_id("campaign", campaign_code))
        told = self.model_dump(exclude={"disposition", "subject", "campaign", "created_at", "completed_at"})
        completed_at = to_millisecond((self.completed_at or now).astimezone(UTC))
        return ActivityCompleted.model_validate(
            told
            | {
                "subject_id": subject_id,
                "campaign_id": campaign_id,
                "disposition": {"code": self.disposition},
                "source": Source.MANUAL,
                "created_at": self.created_at or now,
                "scheduled_at": completed_at,
                "completed_at": completed_at,
            }
        )


class PreviewRequest(Frozen):
    """The flow is the one written here, or the stored one named, or the one that would be chosen."""

    completion: Completion
    flow: FlowSpec | None = None
    flow_id: Identifier | None = None
    version: Annotated[Whole, Field(ge=1)] | Literal["draft"] | None = None
    """Of the flow named; null means the one in force."""

    @model_validator(mode="after")
    def _one_flow(self) -> Self:
        if self.flow and self.flow_id:
            raise ValueError("give flow or flow_id, not both")
        if self.version and not self.flow_id:
            raise ValueError("a version needs the flow_id it belongs to")
        if not (self.flow or self.flow_id or self.completion.subject or self.completion.subject_id):
            raise ValueError("say which flow: by flow, flow_id, or the subject of the completion")
        return self


class Preview(BaseModel):
    decision: Decision
    activities: list[ActivityCreated]
    preferences: list[SetPreference]


class PreviewCompletion:
    def __init__(self, flows: Store[Flow], clock: Clock) -> None:
        self._flows = flows
        self._clock = clock

    async def __call__(self, request: PreviewRequest) -> Preview:
        """Writes nothing. Raises InvalidFlows, NotFound, NoSuchVersion or NothingToPublish."""
        now = self._clock.now()
        if request.flow:
            return _of_unsaved(request.completion, request.flow, now)
        if request.flow_id:
            flow = await self._flows.get(request.flow_id)
            if flow is None:
                raise NotFound("flow", request.flow_id)
            return _of_stored(request, flow, now)
        completed = request.completion.completed(None, None, now)
        flows = await self._flows.load(flow_ids_for(completed))
        return _preview(*decided(completed, flows))


def _of_unsaved(completion: Completion, spec: FlowSpec, now: datetime) -> Preview:
    if faults := list(spec.rules.faults("flow")):
        raise InvalidFlows(faults)
    flow = Flow(flow_id=spec.flow_id, version=0, subject=spec.subject, campaign=spec.campaign)
    only = PublishedVersion(number=1, rules=spec.rules, effective_from=now)
    return _preview(*conclude(completion.completed(spec.subject, spec.campaign, now), flow, only))


def _of_stored(request: PreviewRequest, flow: Flow, now: datetime) -> Preview:
    completed = request.completion.completed(flow.subject, flow.campaign, now)
    match request.version:
        case None:
            in_force = flow.in_force_at(completed.created_at) or flow.numbered(1)
            return _preview(*conclude(completed, flow, in_force))
        case "draft":
            if flow.draft is None:
                raise NothingToPublish
            draft = PublishedVersion(number=len(flow.published) + 1, rules=flow.draft, effective_from=now)
            return _preview(*conclude(completed, flow, draft))
        case number:
            return _preview(*conclude(completed, flow, flow.numbered(number)))


def _preview(decision: Decision, messages: Sequence[Message]) -> Preview:
    return Preview(
        decision=decision,
        activities=[message for message in messages if isinstance(message, ActivityCreated)],
        preferences=[message for message in messages if isinstance(message, SetPreference)],
    )
