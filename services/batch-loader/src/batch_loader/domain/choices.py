"""What a batch is to do with the contacts it finds, checked against the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from batch_loader.domain.filters import Filters
from batch_loader.domain.schedule import LocalTime, Now, Schedule
from contracts.catalogue import CHANNELS
from contracts.channels import KIND_OF_CHANNEL
from contracts.message import copied
from contracts.vocabulary import (
    ActivityKind,
    CampaignId,
    ChannelName,
    EndpointId,
    Identifier,
    Mode,
    SubjectId,
    Urgency,
)

DuplicateRule = Literal["skip_open", "none"]
Agent = Annotated[str, StringConstraints(min_length=1, max_length=200)]

NO_CHANNEL = "none"
_MOST_NAMED = 20


class Wanted(BaseModel):
    """What somebody asks for: codes or ids, and what may be left to the campaign."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    campaign: Identifier
    """Code or id."""
    subject: Identifier
    """Code or id."""
    channel: ChannelName | None = None
    """The campaign's when left out; `none` for manual work that uses no channel."""
    endpoint: Identifier | None = None
    """Code or id; the campaign's when left out."""
    source: Literal["manual", "automatic"]
    """manual: people do it. automatic: the channel's service does it."""
    agents: tuple[Agent, ...] | None = Field(default=None, min_length=1, max_length=10_000)
    """Manual work goes to these people in turn; left out, anybody may take it."""
    agent_profile: Identifier | None = None
    """Code or id of the automated agent; automatic work needs one."""
    schedule: Schedule = Now()
    instructions: str = Field(default="", max_length=20_000)
    urgency: Urgency = Urgency.NORMAL
    duplicate_rule: DuplicateRule = "skip_open"
    """skip_open: no activity for a contact who has an open one of the same subject."""

    @model_validator(mode="before")
    @classmethod
    def _says_its_source(cls, told: Any) -> Any:
        if isinstance(told, dict) and "source" not in told:
            raise ValueError("source is missing; say manual (people do it) or automatic (a service does it)")
        return told

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        if self.source == "manual" and self.agent_profile is not None:
            raise ValueError("a manual batch takes agents (people), not an agent_profile")
        if self.source == "automatic" and self.agents is not None:
            raise ValueError("an automatic batch takes an agent_profile, not agents (people)")
        if self.source == "automatic" and self.agent_profile is None:
            raise ValueError("an automatic batch needs an agent_profile")
        if self.source == "automatic" and self.channel == NO_CHANNEL:
            raise ValueError("an automatic batch needs a channel; only manual work can do without")
        return self


class Choices(BaseModel):
    """The same with every reference resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign_id: CampaignId
    subject_id: SubjectId
    channel: str | None = None
    endpoint_id: EndpointId | None = None
    source: Literal["manual", "automatic"]
    agents: tuple[str, ...] = ()
    agent_profile_id: str | None = None
    schedule: Schedule = Now()
    instructions: str = ""
    urgency: Urgency = Urgency.NORMAL
    duplicate_rule: DuplicateRule = "skip_open"

    @property
    def mode(self) -> Mode:
        return Mode.MANUAL if self.source == "manual" else Mode.AUTOMATED

    @property
    def kind(self) -> ActivityKind:
        return KIND_OF_CHANNEL.get(self.channel or NO_CHANNEL, ActivityKind.TASK)

    @property
    def exclusive(self) -> bool:
        return self.duplicate_rule == "skip_open"

    def owner(self, position: int) -> str | None:
        """Round robin: the activity at this position belongs to this agent."""
        return self.agents[position % len(self.agents)] if self.agents else None


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of the catalogue."""

    id: str
    code: str
    channel: str | None = None
    endpoint_id: str | None = None
    stopped: bool = False
    """Of a campaign: for good."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What is known of the catalogue now."""

    campaigns: tuple[Item, ...] = ()
    subjects: tuple[Item, ...] = ()
    endpoints: tuple[Item, ...] = ()
    agent_profiles: tuple[Item, ...] = ()
    channels: frozenset[str] = frozenset(CHANNELS)
    """That automated activities may use: those somebody works."""

    def stopped(self, campaign_id: CampaignId) -> Item | None:
        """The campaign, if it is known to be."""
        return next((item for item in self.campaigns if item.id == campaign_id and item.stopped), None)


class WrongChoice(ValueError):
    """The batch cannot be made as asked; the message is a sentence for the person who asked."""


class UnknownItem(WrongChoice):
    def __init__(self, kind: str, wanted: str, known: Iterable[Item]) -> None:
        codes = sorted(item.code for item in known)
        named = ", ".join(codes[:_MOST_NAMED]) or "none yet"
        more = f" and {len(codes) - _MOST_NAMED} more" if len(codes) > _MOST_NAMED else ""
        super().__init__(f"There is no {kind} {wanted!r}; known: {named}{more}.")


class StoppedCampaign(WrongChoice):
    def __init__(self, campaign: Item) -> None:
        super().__init__(f"Campaign {campaign.code!r} is stopped for good; draft one for another campaign.")


class PastSchedule(WrongChoice):
    def __init__(self, schedule: Schedule) -> None:
        when = (
            f"{schedule.date} {schedule.time}"
            if isinstance(schedule, LocalTime)
            else getattr(schedule, "at", "")
        )
        super().__init__(f"The schedule {when} has passed; leave it out to begin when the batch is loaded.")


class WrongEndpoint(WrongChoice):
    def __init__(self, endpoint: Item, channel: str | None) -> None:
        super().__init__(
            f"Endpoint {endpoint.code!r} is for {endpoint.channel}, but the batch "
            + (f"uses {channel}." if channel else "uses no channel.")
        )


class UnconnectedChannel(WrongChoice):
    def __init__(self, channel: str, channels: Iterable[str]) -> None:
        super().__init__(f"No channel {channel!r} is connected here; there is {', '.join(sorted(channels))}.")


class NoEndpoint(WrongChoice):
    def __init__(self, campaign: Item, channel: str | None) -> None:
        super().__init__(
            f"An automatic batch needs an endpoint, and campaign {campaign.code!r} has none for {channel}: "
            "give the campaign one, or name one (choices.endpoint, --endpoint)."
        )


def resolve(wanted: Wanted, catalog: Catalog) -> Choices:
    """Raises WrongChoice."""
    campaign = _find("campaign", wanted.campaign, catalog.campaigns)
    if campaign.stopped:
        raise StoppedCampaign(campaign)
    subject = _find("subject", wanted.subject, catalog.subjects)
    channel = None if wanted.channel == NO_CHANNEL else wanted.channel or campaign.channel
    profile = wanted.agent_profile and _find("agent profile", wanted.agent_profile, catalog.agent_profiles).id
    if wanted.source == "automatic" and channel is not None and channel not in catalog.channels:
        raise UnconnectedChannel(channel, catalog.channels)
    return Choices(
        campaign_id=CampaignId(campaign.id),
        subject_id=SubjectId(subject.id),
        channel=channel,
        endpoint_id=_endpoint(wanted, channel, campaign, catalog),
        source=wanted.source,
        agents=wanted.agents or (),
        agent_profile_id=profile,
        schedule=wanted.schedule,
        instructions=wanted.instructions,
        urgency=wanted.urgency,
        duplicate_rule=wanted.duplicate_rule,
    )


def resolve_filters(filters: Filters, catalog: Catalog) -> Filters:
    """Subjects by id. Raises UnknownItem."""
    subjects = tuple(_find("subject", name, catalog.subjects).id for name in filters.last_subjects)
    return copied(filters, {"last_subjects": subjects})


def resolve_subject(wanted: str, catalog: Catalog) -> SubjectId:
    """Raises UnknownItem."""
    return SubjectId(_find("subject", wanted, catalog.subjects).id)


def _endpoint(wanted: Wanted, channel: str | None, campaign: Item, catalog: Catalog) -> EndpointId | None:
    if wanted.endpoint is not None:
        endpoint = _find("endpoint", wanted.endpoint, catalog.endpoints)
        if endpoint.channel != channel:
            raise WrongEndpoint(endpoint, channel)
        return EndpointId(endpoint.id)
    if channel == campaign.channel and campaign.endpoint_id:
        return EndpointId(campaign.endpoint_id)
    if wanted.source == "automatic":
        raise NoEndpoint(campaign, channel)
    return None


def _find(kind: str, wanted: str, known: tuple[Item, ...]) -> Item:
    for item in known:
        if wanted in (item.code, item.id):
            return item
    raise UnknownItem(kind, wanted, known)
