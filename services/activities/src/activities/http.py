"""Activities over REST: the worklist, and what people do with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from activities.adapters.mongo_activities import Filters, MongoActivities, Order
from activities.domain.activity import Activity, ActivityRecord, LastVerdict
from activities.domain.moves import IllegalMove, Taken
from activities.domain.outcomes import BadEnding
from activities.use_cases.create_activity import AnotherActivity, CreateActivity, Impossible, UnknownItem
from activities.use_cases.work_activity import HasPassed, WorkActivity
from contracts.activities import ActivityCreated
from contracts.message import stable_id
from contracts.vocabulary import (
    ActivityId,
    ActivityKind,
    ActivityState,
    AskedTime,
    CampaignId,
    ChannelName,
    Code,
    ContactId,
    Direction,
    EndpointId,
    Flag,
    Mode,
    OwnId,
    SubjectId,
    Time,
    Urgency,
)
from servicekit.clock import Clock
from servicekit.pages import (
    TAGGED,
    AnId,
    Cursor,
    IfMatch,
    Limit,
    Page,
    cursor_of,
    etag,
    made_before,
    made_or_found,
    moment,
    page_of,
    parts_of,
    text,
    version_of,
    whole,
)
from servicekit.problems import Problem, answered_by
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Store

Person = Annotated[str, Field(min_length=1, max_length=200)]
Notes = Annotated[str, Field(max_length=20_000)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NewActivity(_Request):
    """`activity_id` may be left out: then it is derived from the Idempotency-Key, or random."""

    activity_id: OwnId | None = None
    contact_id: Annotated[ContactId, Field(min_length=1, max_length=200)]
    kind: ActivityKind
    mode: Mode = Mode.MANUAL
    source: Literal["api", "manual", "automatic", "inbound", "callback"] = "api"
    """A batch and a flow speak for themselves, and are counted against what they made."""
    subject_id: SubjectId
    campaign_id: CampaignId | None = None
    channel: ChannelName | None = None
    endpoint_id: EndpointId | None = None
    destination: str | None = Field(default=None, max_length=320)
    agent_profile_id: str | None = None
    scheduled_at: Time | None = None
    """Null means now."""
    urgency: Urgency = Urgency.NORMAL
    instructions: Notes = ""
    owner: Person | None = None
    exclusive: Flag = False
    created_by: Person = "api"


class Claim(_Request):
    agent: Person


class Start(_Request):
    agent: Person


class Release(_Request):
    agent: Person | None = None
    """If given, it must be who has the activity."""


class Complete(_Request):
    disposition: Code
    actor: Person | None = None
    """Who completes it; null means whoever it is assigned to."""
    notes: Notes = ""
    captured: dict[str, Any] = {}
    preparation_notes: Notes = ""
    """Become the instructions of a follow-up."""
    follow_up_at: Time | None = None
    """A time agreed with the contact."""
    direction: Literal[Direction.INCOMING, Direction.OUTGOING] = Direction.OUTGOING
    """`incoming` when the contact called or wrote."""


class Cancel(_Request):
    reason: Annotated[str, Field(min_length=1, max_length=500)] = "cancelled"
    actor: Person = "api"


class Reschedule(_Request):
    scheduled_at: Time | None = None
    """Null means now."""
    urgency: Urgency | None = None
    actor: Person = "api"


class Correct(_Request):
    actor: Person
    disposition: Code | None = None
    notes: Notes | None = None


class Purge(_Request):
    actor: Person


class Worklist(BaseModel):
    items: list[ActivityRecord]


class Counts(BaseModel):
    total: int
    states: dict[ActivityState, int]


class Decision(BaseModel):
    activity_id: ActivityId
    state: ActivityState
    decision: LastVerdict | None
    """The newest verdict of the gate; null if it was never asked."""


def routes(
    clock: Clock,
    store: Store[Activity],
    activities: MongoActivities,
    create: CreateActivity,
    work: WorkActivity,
) -> APIRouter:
    api = APIRouter(prefix="/v1", tags=["activities"], route_class=answered_by(_problem_of))

    @api.post(
        "/activities",
        operation_id="create_activity",
        status_code=201,
        responses=made_before(ActivityRecord),
    )
    async def create_activity(
        new: NewActivity,
        response: Response,
        idempotency_key: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> ActivityRecord:
        """The same id again answers 200 with what there is; for another contact or subject, 409."""
        id_ = new.activity_id or id_for(new, idempotency_key)
        activity, made = await create(_request(new, ActivityId(id_), clock.now()))
        made_or_found(response, made, f"/v1/activities/{activity.activity_id}")
        return _tagged(activity, response)

    @api.get("/activities", operation_id="list_activities")
    async def list_activities(
        state: Annotated[list[ActivityState] | None, Query()] = None,
        mode: Mode | None = None,
        campaign_id: AnId = None,
        subject_id: AnId = None,
        contact_id: AnId = None,
        batch_id: AnId = None,
        owner: Annotated[str | None, Query(description="Who it is for, or assigned to")] = None,
        due_before: AskedTime | None = None,
        sort: Order = "due",
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[ActivityRecord]:
        filters = Filters(
            states=state,
            mode=mode,
            campaign_id=campaign_id,
            subject_id=subject_id,
            contact_id=contact_id,
            batch_id=batch_id,
            owner=owner,
            due_before=due_before,
        )
        after = None if cursor is None else parts_of(cursor, *_READ[sort])
        found = page_of(await activities.page(filters.query(), sort, limit + 1, after), limit, _PLACE[sort])
        return Page[ActivityRecord](items=list(found.items), next_cursor=found.next_cursor)

    @api.get("/activities/counts", operation_id="count_activities")
    async def count_activities(campaign_id: AnId = None, batch_id: AnId = None) -> Counts:
        found = await activities.counts(campaign_id, batch_id)
        return Counts(total=sum(found.values()), states={ActivityState(s): n for s, n in found.items()})

    @api.get("/next", operation_id="next_activities")
    async def next_activities(
        agent: Annotated[str, Query(min_length=1, max_length=200)],
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    ) -> Worklist:
        """What the agent has, and what anybody may claim: the urgent first, then by time."""
        return Worklist(items=list(await activities.worklist(agent, limit)))

    @api.get("/decisions", operation_id="get_decision")
    async def get_decision(activity_id: str) -> Decision:
        """Why the contact was or was not contacted; every verdict is on the topic activity-decided."""
        activity = await _standing(store, activity_id)
        return Decision(
            activity_id=activity.activity_id, state=activity.state, decision=activity.last_verdict
        )

    @api.get("/activities/{activity_id}", operation_id="get_activity", responses=TAGGED)
    async def get_activity(activity_id: str, response: Response) -> ActivityRecord:
        return _tagged(await _standing(store, activity_id), response)

    @api.post("/activities/{activity_id}/claim", operation_id="claim_activity", responses=TAGGED)
    async def claim_activity(
        activity_id: str, body: Claim, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        """Of two agents who claim it, one gets it and the other a 409 that names the first."""
        return _tagged(await work.claim(activity_id, body.agent, version_of(if_match)), response)

    @api.post("/activities/{activity_id}/release", operation_id="release_activity", responses=TAGGED)
    async def release_activity(
        activity_id: str, body: Release, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        return _tagged(await work.release(activity_id, body.agent, version_of(if_match)), response)

    @api.post("/activities/{activity_id}/start", operation_id="start_activity", responses=TAGGED)
    async def start_activity(
        activity_id: str, body: Start, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        return _tagged(await work.start(activity_id, body.agent, version_of(if_match)), response)

    @api.post("/activities/{activity_id}/complete", operation_id="complete_activity", responses=TAGGED)
    async def complete_activity(
        activity_id: str, body: Complete, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        activity = await work.complete(
            activity_id,
            body.disposition,
            body.actor,
            body.captured,
            version_of(if_match),
            notes=body.notes,
            preparation_notes=body.preparation_notes,
            follow_up_at=body.follow_up_at,
            incoming=body.direction is Direction.INCOMING,
        )
        return _tagged(activity, response)

    @api.post("/activities/{activity_id}/cancel", operation_id="cancel_activity", responses=TAGGED)
    async def cancel_activity(
        activity_id: str, body: Cancel, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        activity = await work.cancel(activity_id, body.reason, body.actor, version_of(if_match))
        return _tagged(activity, response)

    @api.post("/activities/{activity_id}/reschedule", operation_id="reschedule_activity", responses=TAGGED)
    async def reschedule_activity(
        activity_id: str, body: Reschedule, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        activity = await work.reschedule(
            activity_id, body.scheduled_at, body.actor, body.urgency, version_of(if_match)
        )
        return _tagged(activity, response)

    @api.post("/activities/{activity_id}/correct", operation_id="correct_activity", responses=TAGGED)
    async def correct_activity(
        activity_id: str, body: Correct, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        """Notes and disposition of a completed activity; no flow runs again."""
        if body.disposition is None and body.notes is None:
            raise Problem(422, "nothing-to-correct", "Nothing to correct", "Give `disposition` or `notes`.")
        activity = await work.correct(
            activity_id, body.actor, body.disposition, body.notes, version_of(if_match)
        )
        return _tagged(activity, response)

    @api.post("/activities/{activity_id}/purge", operation_id="purge_activity", responses=TAGGED)
    async def purge_activity(
        activity_id: str, body: Purge, response: Response, if_match: IfMatch = None
    ) -> ActivityRecord:
        """Forgets what was said, and keeps who did what when."""
        return _tagged(await work.purge(activity_id, body.actor, version_of(if_match)), response)

    return api


_READ: dict[Order, tuple[Callable[[Any], Any], ...]] = {
    "due": (moment, text),
    "urgency": (whole, moment, text),
}
_PLACE: dict[Order, Callable[[Activity], str]] = {
    "due": lambda last: cursor_of(last.due_at, last.activity_id),
    "urgency": lambda last: cursor_of(last.rank, last.due_at, last.activity_id),
}


def id_for(new: NewActivity, idempotency_key: str | None) -> str:
    """The request is in the id with its key: a key that is used every night makes every night's activity.
    Without what is at its default, so that fields a later version adds make no other one of a repeat."""
    if idempotency_key is None:
        return str(uuid4())
    return stable_id("activity", "request", idempotency_key, new.model_dump_json(exclude_defaults=True))


def _request(new: NewActivity, id_: ActivityId, now: datetime) -> ActivityCreated:
    spec = new.model_dump(exclude={"activity_id", "scheduled_at"})
    return ActivityCreated(**spec, activity_id=id_, scheduled_at=new.scheduled_at or now, created_at=now)


async def _standing(store: Store[Activity], activity_id: str) -> Activity:
    activity = await store.get(activity_id)
    if activity is None:
        raise NotFound("activity", activity_id)
    return activity


def _tagged(activity: Activity, response: Response) -> ActivityRecord:
    response.headers["ETag"] = etag(activity.version)
    return activity


def _problem_of(refusal: Exception) -> Problem | None:
    match refusal:
        case IllegalMove():
            return Problem(
                409,
                "illegal-move",
                "An activity cannot do that now",
                str(refusal),
                state=refusal.state,
                asked=refusal.move,
                legal_from=refusal.legal,
            )
        case Taken():
            return Problem(
                409, "taken", "Somebody else has this activity", str(refusal), taken_by=refusal.taken_by
            )
        case HasPassed():
            return Problem(422, "time-passed", "The time has passed", str(refusal))
        case BadEnding():
            code = refusal.code.replace("_", "-")
            return Problem(422, code, "The activity cannot end like this", str(refusal))
        case UnknownItem(kind=kind):
            return Problem(422, f"unknown-{kind}", f"No such {kind}", str(refusal))
        case Impossible():
            return Problem(422, "impossible-activity", "This could never be worked", str(refusal))
        case AnotherActivity():
            return Problem(409, "activity-exists", "The id is taken by another activity", str(refusal))
    return None
