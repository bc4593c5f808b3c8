"""What follows a completed activity. Pure: the same flow version and completion give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from contracts import contacts
from contracts.activities import ActivityCompleted, ActivityCreated
from contracts.campaigns import catalog_id
from contracts.message import Message, copied, stable_id
from contracts.vocabulary import ActivityId, CampaignId, EndpointId, Source, SubjectId
from servicekit.verdict import Become, Unchanged, Verdict
from workflow.domain.actions import (
    Action,
    Finish,
    FollowUp,
    Frozen,
    NewActivity,
    Preference,
    Retry,
    SetPreference,
    TryAgain,
)
from workflow.domain.delay import due_at
from workflow.domain.flow import Flow, PublishedVersion, choose

CHAIN_LIMIT = 50
"""How many activities may follow one another; whatever a flow says, the chain ends there."""

ActionName = Literal["finish", "try_again", "new_activity", "set_preference"]


class Taken(Frozen):
    """One action of a branch and what came of it."""

    path: str
    """Where it stands: `no-answer/0/exhausted/1`."""
    action: ActionName
    outcome: Literal["finished", "activity", "preference", "exhausted", "chain_limit"]
    produced_id: str | None = None
    """Of the activity or of the command that was made."""
    scheduled_at: datetime | None = None
    reason: str = ""


class Decision(Frozen):
    """Made once per completed activity, and kept."""

    activity_id: str
    version: int = 1
    contact_id: str
    subject_id: str
    campaign_id: str | None
    disposition: str
    result: Literal["decided", "no_flow"]
    flow_id: str | None = None
    flow_version: int | None = None
    actions: tuple[Taken, ...] = ()
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    taken: Taken
    message: Message | None = None


def decide(
    completed: ActivityCompleted, made: Decision | None, flows: Mapping[str, Flow]
) -> Verdict[Decision]:
    if made is not None:
        return Unchanged("already decided")
    return Become(*decided(completed, flows))


def decided(completed: ActivityCompleted, flows: Mapping[str, Flow]) -> tuple[Decision, tuple[Message, ...]]:
    """The decision, and the messages that make it true."""
    chosen = choose(completed, flows)
    return conclude(completed, *chosen) if chosen else (_undecided(completed), ())


def conclude(
    completed: ActivityCompleted, flow: Flow, version: PublishedVersion
) -> tuple[Decision, tuple[Message, ...]]:
    """What that version of the flow makes of it."""
    if completed.disposition.code not in version.rules.when:
        under = {"flow_id": flow.flow_id, "flow_version": version.number}
        return copied(_undecided(completed), under), ()
    code = completed.disposition.code
    effects = list(_run(version.rules.when[code], completed, code))
    decision = copied(
        _undecided(completed),
        {
            "result": "decided",
            "flow_id": flow.flow_id,
            "flow_version": version.number,
            "actions": tuple(effect.taken for effect in effects),
        },
    )
    return decision, tuple(effect.message for effect in effects if effect.message is not None)


def _run(actions: tuple[Action, ...], completed: ActivityCompleted, path: str) -> Iterator[Effect]:
    for index, action in enumerate(actions):
        place = f"{path}/{index}"
        match action:
            case Finish(finish=ending):
                yield Effect(Taken(path=place, action="finish", outcome="finished", reason=ending.reason))
            case TryAgain(try_again=retry) if completed.attempt_number >= retry.max_attempts:
                yield Effect(_exhausted(retry, place))
                yield from _run(retry.exhausted, completed, f"{place}/exhausted")
            case TryAgain() | NewActivity() if completed.chain_depth >= CHAIN_LIMIT:
                yield Effect(_chain_ended(action, completed, place))
            case TryAgain(try_again=retry):
                yield _activity("try_again", place, _once_more(retry, completed, place))
            case NewActivity(new_activity=wanted):
                yield _activity("new_activity", place, _something_else(wanted, completed, place))
            case SetPreference(set_preference=wish):
                yield _preferred(wish, completed, place)
            case _:
                assert_never(action)


def _undecided(completed: ActivityCompleted) -> Decision:
    return Decision(
        activity_id=completed.activity_id,
        contact_id=completed.contact_id,
        subject_id=completed.subject_id,
        campaign_id=completed.campaign_id,
        disposition=completed.disposition.code,
        result="no_flow",
        completed_at=completed.completed_at,
    )


def _exhausted(retry: Retry, place: str) -> Taken:
    reason = f"all {retry.max_attempts} attempts were made"
    return Taken(path=place, action="try_again", outcome="exhausted", reason=reason)


def _chain_ended(action: TryAgain | NewActivity, completed: ActivityCompleted, place: str) -> Taken:
    reason = f"{completed.chain_depth} activities led here, and a chain ends after {CHAIN_LIMIT}"
    name: ActionName = "try_again" if isinstance(action, TryAgain) else "new_activity"
    return Taken(path=place, action=name, outcome="chain_limit", reason=reason)


def _activity(action: ActionName, place: str, created: ActivityCreated) -> Effect:
    taken = Taken(
        path=place,
        action=action,
        outcome="activity",
        produced_id=created.activity_id,
        scheduled_at=created.scheduled_at,
    )
    return Effect(taken, created)


def _once_more(retry: Retry, completed: ActivityCompleted, place: str) -> ActivityCreated:
    return ActivityCreated(
        activity_id=_follow_up_id(completed, place),
        contact_id=completed.contact_id,
        kind=completed.kind,
        mode=completed.mode,
        source=Source.WORKFLOW,
        subject_id=completed.subject_id,
        campaign_id=completed.campaign_id,
        channel=completed.channel,
        endpoint_id=completed.endpoint_id,
        destination=completed.destination,
        agent_profile_id=completed.agent_profile_id,
        scheduled_at=due_at(completed, retry.delay),
        urgency=retry.urgency or completed.urgency,
        instructions=completed.preparation_notes or completed.instructions,
        owner=_owner(retry.owner, completed),
        attempt_number=completed.attempt_number + 1,
        parent_id=completed.activity_id,
        root_id=completed.root_id or completed.activity_id,
        chain_depth=completed.chain_depth + 1,
        created_at=completed.completed_at,
        created_by="workflow",
    )


def _something_else(wanted: FollowUp, completed: ActivityCompleted, place: str) -> ActivityCreated:
    stays = wanted.channel is not None and wanted.channel == completed.channel and wanted.endpoint is None
    return ActivityCreated(
        activity_id=_follow_up_id(completed, place),
        contact_id=completed.contact_id,
        kind=wanted.kind,
        mode=wanted.mode,
        source=Source.WORKFLOW,
        subject_id=SubjectId(catalog_id("subject", wanted.subject))
        if wanted.subject
        else completed.subject_id,
        campaign_id=_campaign(wanted, completed),
        channel=wanted.channel,
        endpoint_id=completed.endpoint_id if stays else _endpoint(wanted),
        agent_profile_id=_profile(wanted) or (completed.agent_profile_id if stays else None),
        scheduled_at=due_at(completed, wanted.delay),
        urgency=wanted.urgency,
        instructions="\n\n".join(filter(None, (completed.preparation_notes, wanted.instructions))),
        owner=_owner(wanted.owner, completed),
        parent_id=completed.activity_id,
        root_id=completed.root_id or completed.activity_id,
        chain_depth=completed.chain_depth + 1,
        created_at=completed.completed_at,
        created_by="workflow",
    )


def _preferred(wish: Preference, completed: ActivityCompleted, place: str) -> Effect:
    command = contacts.SetPreference(
        command_id=stable_id("preference", completed.activity_id, place),
        contact_id=completed.contact_id,
        preference=wish.preference,
        opted_out=wish.opted_out,
        source="workflow",
        actor=completed.completed_by,
        occurred_at=completed.completed_at,
    )
    taken = Taken(path=place, action="set_preference", outcome="preference", produced_id=command.command_id)
    return Effect(taken, command)


def _follow_up_id(completed: ActivityCompleted, place: str) -> ActivityId:
    return ActivityId(stable_id("activity", completed.activity_id, place))


def _campaign(wanted: FollowUp, completed: ActivityCompleted) -> CampaignId | None:
    match wanted.campaign:
        case "same":
            return completed.campaign_id
        case "none":
            return None
        case code:
            return CampaignId(catalog_id("campaign", code))


def _endpoint(wanted: FollowUp) -> EndpointId | None:
    return EndpointId(catalog_id("endpoint", wanted.endpoint)) if wanted.endpoint else None


def _profile(wanted: FollowUp) -> str | None:
    return catalog_id("agent-profile", wanted.agent_profile) if wanted.agent_profile else None


def _owner(owner: str, completed: ActivityCompleted) -> str | None:
    match owner:
        case "same":
            return completed.owner or None
        case "none":
            return None
        case name:
            return name
