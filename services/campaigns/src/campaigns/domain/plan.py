"""What applying a configuration changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from campaigns.domain.bundle import Item
from campaigns.domain.kinds import CAMPAIGN, ENDPOINT, POLICY, Catalog, Kind
from contracts.vocabulary import CampaignState, to_millisecond


@dataclass(frozen=True, slots=True)
class Change:
    kind: Kind
    standing: Any | None
    """None for an item that is new."""
    state: Any


@dataclass(slots=True)
class Plan:
    """Items by name, `<list>/<code>`, and the changes that make it so."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    """As they stand once it is done."""


def planned(items: Sequence[Item], standing: Catalog) -> Plan:
    plan = Plan()
    for item in items:
        name = f"{item.kind.plural}/{item.written.code}"
        old = standing.get(item.kind.plural, {}).get(item.written.code)
        version = 1 if old is None else old.version + 1
        new = item.kind.made(item.written, version, **_resolved(item, old))
        if old is not None and new.evolve(version=old.version) == old:
            plan.unchanged.append(name)
            plan.items.append(old)
            continue
        (plan.created if old is None else plan.changed).append(name)
        plan.changes.append(Change(item.kind, old, new))
        plan.items.append(new)
    return plan


def _resolved(item: Item, old: Any) -> dict[str, Any]:
    written: Any = item.written
    if item.kind is not CAMPAIGN:
        return {}
    standing_state = CampaignState.DRAFT if old is None else old.state
    return {
        "endpoint_id": None if written.endpoint is None else ENDPOINT.id_of(written.endpoint),
        "policy_id": None if written.policy is None else POLICY.id_of(written.policy),
        "state": written.state or standing_state,
        "starts_at": _utc(written.starts_at),
        "ends_at": _utc(written.ends_at),
    }


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else to_millisecond(moment.astimezone(UTC))
