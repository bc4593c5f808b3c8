"""Owned by services/stats: how often, when, and in which direction somebody was contacted."""

from __future__ import annotations

from pydantic import Field

from contracts.message import Message, Record, Topic
from contracts.vocabulary import Code, Identifier, InteractionId, Time, Version

CONTACT_STATS_CHANGED = Topic("contact-stats-changed", compacted=True)
STATS_COMMANDS = Topic("stats-commands")


class AttemptCounters(Record):
    """count = in + out; last = max(in, out); nulls while never contacted."""

    contact_count: int = Field(default=0, ge=0)
    contact_count_in: int = Field(default=0, ge=0)
    contact_count_out: int = Field(default=0, ge=0)
    last_contact_at: Time | None = None
    last_contact_at_in: Time | None = None
    last_contact_at_out: Time | None = None


def counters_key(target_type: str, target_id: str) -> str:
    """The key of a target's counters: the topic is compacted, so two targets may not share one.

    >>> counters_key("contact", "42"), counters_key("account", "42")
    ('42', 'account/42')
    """
    return target_id if target_type == "contact" else f"{target_type}/{target_id}"


class ContactStatsChanged(
    Message,
    type="parley.contact-stats.changed.v1",
    topic=CONTACT_STATS_CHANGED,
    key="target_key",
    identity=("target_type", "target_id", "version"),
    published_by=("stats",),
    read_by=("batch-loader",),
):
    """The counters of one target, in total and per channel. A tombstone (null body): it was erased."""

    target_type: Code = "contact"
    target_id: Identifier
    version: Version
    total: AttemptCounters
    channels: dict[Code, AttemptCounters] = Field(default_factory=dict)
    """By channel, or by interaction type where an interaction names no channel."""
    changed_at: Time
    """When this was announced; the same version, told again, may have another."""

    @property
    def target_key(self) -> str:
        """`target_id` of the body for a contact, and `<target_type>/<target_id>` for any other target,
        which may have the id of a contact
        """
        return counters_key(self.target_type, self.target_id)


class SetTargetLink(
    Message,
    type="parley.stats.set-target-link.v1",
    topic=STATS_COMMANDS,
    key="target_id",
    identity=("command_id",),
    published_by=("stats",),
    read_by=("stats",),
):
    """Link an interaction to one more target, or (`linked` false) cut a link.

    Stands beside what the interaction's own source says about its targets, and outlives its later
    versions. The newest by `occurred_at` wins. May arrive before the interaction.
    """

    command_id: Identifier
    interaction_type: Code
    interaction_id: InteractionId
    target_type: Code = "contact"
    target_id: Identifier
    linked: bool = True
    occurred_at: Time


class MergeTargets(
    Message,
    type="parley.stats.merge-targets.v1",
    topic=STATS_COMMANDS,
    key="target_id",
    identity=("command_id",),
    published_by=("stats",),
    read_by=("stats",),
):
    """`target_id` was another record of `survivor_id`: what counts for it counts for the survivor, once."""

    command_id: Identifier
    target_type: Code = "contact"
    target_id: Identifier
    survivor_id: Identifier
    occurred_at: Time


class EraseTarget(
    Message,
    type="parley.stats.erase-target.v1",
    topic=STATS_COMMANDS,
    key="target_id",
    identity=("command_id",),
    published_by=("stats",),
    read_by=("stats",),
):
    """Nothing may lead to this target any more. An erased contact needs no command: its tombstone is one."""

    command_id: Identifier
    target_type: Code = "contact"
    target_id: Identifier
    occurred_at: Time


class SetParent(
    Message,
    type="parley.stats.set-parent.v1",
    topic=STATS_COMMANDS,
    key="target_id",
    identity=("command_id",),
    published_by=("stats",),
    read_by=("stats",),
):
    """The parent that a target's numbers roll up to; both null ends it. The newest by `occurred_at` wins."""

    command_id: Identifier
    target_type: Code = "contact"
    target_id: Identifier
    parent_type: Code | None = None
    parent_id: Identifier | None = None
    occurred_at: Time


class SetCounting(
    Message,
    type="parley.stats.set-counting.v1",
    topic=STATS_COMMANDS,
    key="target_type",
    identity=("command_id",),
    published_by=("stats",),
    read_by=("stats",),
):
    """Start or stop counting interactions of a type for targets of a type; starting catches up by itself."""

    command_id: Identifier
    target_type: Code
    interaction_type: Code | None = None
    """Null means every type that has no setting of its own."""
    enabled: bool
    occurred_at: Time


class Recalculate(
    Message,
    type="parley.stats.recalculate.v1",
    topic=STATS_COMMANDS,
    key="command_id",
    identity=("command_id",),
    published_by=(),
    read_by=("stats",),
):
    """Recount targets from the ledger and mend what differs. The command's id is the id of the run."""

    command_id: Identifier
    target_type: Code | None = None
    target_id: Identifier | None = None
    contacted_from: Time | None = None
    """Only targets with an attempt at or after this time."""
    contacted_to: Time | None = None
    """Only targets with an attempt before this time."""
    dry_run: bool = False
    targets_per_second: float | None = Field(default=None, gt=0)
    occurred_at: Time
