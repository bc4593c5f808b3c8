"""What a flow can do: a closed union, written in a bundle as `{try_again: {max_attempts: 3}}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from contracts.vocabulary import ActivityKind, ChannelName, Code, Flag, Mode, PreferenceKind, Urgency, Whole
from workflow.domain.delay import DelayText

MOST_ACTIONS = 20

Owner = Annotated[str, Field(min_length=1, max_length=200)]
"""`same` keeps the owner, `none` lets anybody claim it, anything else names one."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Ending(Frozen):
    reason: str = Field(default="", max_length=500)


class Retry(Frozen):
    """Keeps channel, endpoint, profile, kind, mode, campaign and instructions."""

    max_attempts: Whole = Field(ge=1, le=50)
    """All attempts together, the first one included."""
    delay: DelayText | None = None
    """Null means one day."""
    urgency: Urgency | None = None
    """Null keeps it."""
    owner: Owner = "same"
    exhausted: tuple[Action, ...] = Field(default=(), max_length=MOST_ACTIONS)
    """What happens instead when there is no attempt left."""


class FollowUp(Frozen):
    """References are codes of the catalogue."""

    subject: Code | None = None
    """Null means the same subject."""
    campaign: Code | Literal["same", "none"] = "same"
    kind: ActivityKind = ActivityKind.TASK
    mode: Mode = Mode.MANUAL
    channel: ChannelName | None = None
    endpoint: Code | None = None
    """Null keeps endpoint and profile if the channel stays the same."""
    agent_profile: Code | None = None
    delay: DelayText | None = None
    """Null means one day."""
    owner: Owner = "none"
    urgency: Urgency = Urgency.NORMAL
    instructions: str = Field(default="", max_length=5000)
    """Stand below what the agent noted for the follow-up."""


class Preference(Frozen):
    preference: PreferenceKind
    opted_out: Flag


class Finish(Frozen):
    """Nothing more follows."""

    finish: Ending = Ending()

    @field_validator("finish", mode="before")
    @classmethod
    def _nothing_said(cls, said: Any) -> Any:
        return {} if said is None else said


class TryAgain(Frozen):
    """The same once more, until the attempts are used up."""

    try_again: Retry


class NewActivity(Frozen):
    """Something else, with a first attempt of its own."""

    new_activity: FollowUp


class SetPreference(Frozen):
    """Opts the contact out of something, or back in."""

    set_preference: Preference


def _name_of(action: Any) -> str | None:
    if isinstance(action, Frozen):
        return next(iter(type(action).model_fields))
    match action:
        case dict() if len(action) == 1:
            return str(next(iter(action)))
        case _:
            return None


Action = Annotated[
    Annotated[Finish, Tag("finish")]
    | Annotated[TryAgain, Tag("try_again")]
    | Annotated[NewActivity, Tag("new_activity")]
    | Annotated[SetPreference, Tag("set_preference")],
    Discriminator(_name_of),
]
Branch = Annotated[tuple[Action, ...], Field(max_length=MOST_ACTIONS, json_schema_extra={"minItems": 1})]

ACTION_NAMES = ("finish", "try_again", "new_activity", "set_preference")

Retry.model_rebuild()
TryAgain.model_rebuild()


def count_of(actions: tuple[Action, ...]) -> int:
    inner = (action.try_again.exhausted for action in actions if isinstance(action, TryAgain))
    return len(actions) + sum(map(count_of, inner))


def faults_of(actions: tuple[Action, ...], place: str, attempts: int = 0) -> Iterator[str]:
    """What no single field is wrong with: actions that can never run, or would multiply."""
    retries = 0
    for index, action in enumerate(actions):
        here = f"{place}[{index}]"
        match action:
            case Finish() if index < len(actions) - 1:
                yield f"{here}: nothing runs after finish, so it must be the last action of its list"
            case TryAgain(try_again=retry):
                retries += 1
                if retries > 1:
                    yield f"{here}: a second try_again in one list would double the attempts"
                if retry.max_attempts <= attempts:
                    yield (
                        f"{here}.max_attempts: {retry.max_attempts} is never reached here, "
                        f"since {attempts} attempts are already used up; use more"
                    )
                yield from faults_of(retry.exhausted, f"{here}.exhausted", retry.max_attempts)
            case NewActivity(new_activity=wanted) if wanted.mode is Mode.AUTOMATED and not wanted.channel:
                yield f"{here}.channel: an automated activity needs a channel"
            case NewActivity(new_activity=wanted) if wanted.endpoint and not wanted.channel:
                yield f"{here}.channel: an endpoint needs its channel"
            case _:
                pass
