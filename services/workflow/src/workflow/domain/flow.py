"""A flow: rules in versions. What was published is never changed, only followed by another version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.activities import ActivityCompleted
from contracts.campaigns import catalog_id
from contracts.message import copied, stable_id
from contracts.vocabulary import Code
from servicekit.verdict import Become, Unchanged, Verdict, following
from workflow.domain.actions import MOST_ACTIONS, Branch, Frozen, count_of, faults_of


class Rules(Frozen):
    """Disposition code -> ordered actions."""

    applies: Literal["created", "latest"] = "created"
    """Which version an activity finishes under: the one in force when it was created, or the latest."""
    when: dict[Code, Branch] = Field(min_length=1, max_length=200)

    def faults(self, place: str) -> Iterator[str]:
        for code, actions in self.when.items():
            yield from faults_of(actions, f"{place}.when.{code}")
            match count_of(actions):
                case 0:
                    yield f"{place}.when.{code}: an empty list says nothing; use finish if nothing follows"
                case count if count > MOST_ACTIONS:
                    yield f"{place}.when.{code}: {count} actions with all branches, at most {MOST_ACTIONS}"


class FlowSpec(Rules):
    """A flow as a bundle writes it. One of a campaign wins over that of the subject alone."""

    subject: Code
    campaign: Code | None = None

    @property
    def flow_id(self) -> str:
        campaign_id = catalog_id("campaign", self.campaign) if self.campaign else None
        return flow_id_of(catalog_id("subject", self.subject), campaign_id)

    @property
    def rules(self) -> Rules:
        return Rules(applies=self.applies, when=self.when)


class PublishedVersion(Frozen):
    number: int
    rules: Rules
    effective_from: datetime
    restores: int | None = None
    """The version that a roll-back brought back."""


class Flow(Frozen):
    flow_id: str
    version: int
    """Of this document, not of the rules."""
    subject: Code
    campaign: Code | None
    draft: Rules | None = None
    published: tuple[PublishedVersion, ...] = ()

    @property
    def latest(self) -> PublishedVersion | None:
        return self.published[-1] if self.published else None

    def numbered(self, number: int) -> PublishedVersion:
        """Raises NoSuchVersion."""
        if not 1 <= number <= len(self.published):
            raise NoSuchVersion(number, len(self.published))
        return self.published[number - 1]

    def in_force_at(self, moment: datetime) -> PublishedVersion | None:
        """The version that an activity created at that moment finishes under; null if there was none yet."""
        if self.latest and self.latest.rules.applies == "latest":
            return self.latest
        return next((each for each in reversed(self.published) if each.effective_from <= moment), None)

    def _becoming(
        self, draft: Rules | None, published: tuple[PublishedVersion, ...] | None = None
    ) -> Become[Flow]:
        return Become(following(self, draft=draft, published=published or self.published))

    def _publishing(self, rules: Rules, now: datetime, restores: int | None = None) -> Become[Flow]:
        # Never before the one it follows, so that a clock set back cannot reorder the versions.
        since = max(now, self.latest.effective_from) if self.latest else now
        fresh = PublishedVersion(
            number=len(self.published) + 1, rules=rules, effective_from=since, restores=restores
        )
        return self._becoming(None, (*self.published, fresh))


class NothingToPublish(Exception):
    """There is no draft."""


class NoSuchVersion(Exception):
    def __init__(self, number: int, count: int) -> None:
        known = f"there are 1 to {count}" if count else "nothing was published yet"
        super().__init__(f"Version {number} was never published; {known}.")


def flow_id_of(subject_id: str, campaign_id: str | None) -> str:
    return stable_id("flow", subject_id, campaign_id or "")


def save(flow: Flow | None, spec: FlowSpec, publish: bool, now: datetime) -> Verdict[Flow]:
    """Apply what a bundle says: the same again changes nothing."""
    standing = flow or Flow(flow_id=spec.flow_id, version=0, subject=spec.subject, campaign=spec.campaign)
    published = standing.latest.rules if standing.latest else None
    if not publish:
        same = spec.rules == (standing.draft or published)
        return Unchanged("the same rules") if same else standing._becoming(spec.rules)
    if spec.rules != published:
        return standing._publishing(spec.rules, now)
    return standing._becoming(None) if standing.draft else Unchanged("the same rules")


def publish(flow: Flow, now: datetime) -> Verdict[Flow]:
    if flow.draft is None:
        raise NothingToPublish
    return flow._publishing(flow.draft, now)


def roll_back(flow: Flow, number: int, now: datetime) -> Verdict[Flow]:
    """Publish what an earlier version said, as a version of its own; the draft stays."""
    old = flow.numbered(number)
    if flow.latest and flow.latest.rules == old.rules:
        return Unchanged("in force already")
    become = flow._publishing(old.rules, now, restores=number)
    return replace(become, state=copied(become.state, {"draft": flow.draft}))


def flow_ids_for(completed: ActivityCompleted) -> tuple[str, ...]:
    """The flows that may be meant, the one that wins first."""
    subject_only = flow_id_of(completed.subject_id, None)
    if completed.campaign_id is None:
        return (subject_only,)
    return flow_id_of(completed.subject_id, completed.campaign_id), subject_only


def choose(completed: ActivityCompleted, flows: Mapping[str, Flow]) -> tuple[Flow, PublishedVersion] | None:
    """The flow and version an activity finishes under: in force when it was created, else the first ever."""
    candidates = [flows[id_] for id_ in flow_ids_for(completed) if id_ in flows and flows[id_].published]
    for flow in candidates:
        if version := flow.in_force_at(completed.created_at):
            return flow, version
    return (candidates[0], candidates[0].published[0]) if candidates else None
