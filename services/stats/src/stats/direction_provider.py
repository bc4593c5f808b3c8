"""How an interaction type becomes a contacting activity: the interface for this package and for others'.

A provider decides only what the event leaves open: an event that states its direction needs none.
Another package adds one with an entry point of the group `parley.direction_providers`, whose value is a
class without arguments; `stats.direction_provider_contract` has the tests that it must pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import Direction

ENTRY_POINTS = "parley.direction_providers"


@dataclass(frozen=True, slots=True)
class TargetView:
    """What a provider may know of a target.

    addresses: every address of the contact, e-mails in lower case and phones in E.164. A target that is
    no contact has those of the interaction's contact.
    """

    type: str
    id: str
    addresses: frozenset[str] = frozenset()


@runtime_checkable
class DirectionProvider(Protocol):
    """Pure: the same interaction and target always give the same answer."""

    @property
    def interaction_type(self) -> str:
        """The type it decides for, as in the event: `call`, `email`..."""
        ...

    @property
    def priority(self) -> int:
        """Of two providers for one type the higher wins. Those of Parley have 0."""
        ...

    @property
    def reads_addresses(self) -> bool:
        """Whether it looks at the target's addresses. If so, it is not asked before they are known."""
        ...

    def direction(self, interaction: InteractionRecorded, target: TargetView) -> Direction:
        """incoming: the contact wrote or called us. outgoing: we wrote or called. Else unknown."""
        ...

    def occurred_at(self, interaction: InteractionRecorded) -> datetime | None:
        """When the contact took place; None means the time of the event."""
        ...


class BadProvider(ValueError):
    """A provider cannot be used; the message says which, and why."""


def choose(providers: Iterable[Any]) -> Mapping[str, DirectionProvider]:
    """One provider for each interaction type. Raises BadProvider for two of equal priority."""
    chosen: dict[str, DirectionProvider] = {}
    for provider in providers:
        if not isinstance(provider, DirectionProvider) or not provider.interaction_type:
            raise BadProvider(f"{provider!r} is not a direction provider: it names no interaction type")
        standing = chosen.get(provider.interaction_type)
        if standing is not None and standing.priority == provider.priority:
            raise BadProvider(
                f"two direction providers for {provider.interaction_type!r} have priority "
                f"{provider.priority}: {type(standing).__qualname__} and {type(provider).__qualname__}"
            )
        if standing is None or provider.priority > standing.priority:
            chosen[provider.interaction_type] = provider
    return chosen


def installed() -> list[DirectionProvider]:
    """The providers of every installed package. Raises BadProvider for one that cannot be loaded."""
    found: list[DirectionProvider] = []
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            found.append(entry.load()())
        except Exception as error:
            raise BadProvider(f"direction provider {entry.name!r} ({entry.value}): {error}") from error
    return found
