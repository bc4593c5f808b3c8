"""Replicas come, leave and are killed, and every activity still has each of its effects once and in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from contracts.activities import ActivityChanged
from contracts.message import Message
from tests.activities import builders
from tests.activities.builders import NOON
from tests.replicas.processes import Replicas

pytestmark = [pytest.mark.kafka_groups, pytest.mark.slow]

CONTACTS = tuple(f"contact-{number}" for number in range(90))
THIRDS = (CONTACTS[:30], CONTACTS[30:60], CONTACTS[60:])
LIFE = (1, 2, 3, 4)
"""The versions of an activity that is due at once: dispatched, in progress, awaiting a reply, completed."""


def created(contacts: Sequence[str], **changes: object) -> list[Message]:
    return [builders.created(f"of-{each}", contact_id=each, **changes) for each in contacts]


def worked(contacts: Sequence[str]) -> list[Message]:
    """What a channel says about an activity, from the first message to the outcome."""
    return [
        message
        for each in contacts
        for message in (
            builders.progressed(f"of-{each}", "in_progress", contact_id=each),
            builders.progressed(f"of-{each}", "awaiting_reply", contact_id=each),
            builders.outcome(f"of-{each}", f"outcome-{each}", contact_id=each),
        )
    ]


async def assert_each_once_and_in_order(replicas: Replicas) -> None:
    dispatched = await replicas.dispatched(len(CONTACTS))
    assert dispatched == {f"of-{each}": 1 for each in CONTACTS}
    versions = await replicas.versions(len(CONTACTS), LIFE[-1])
    assert versions == {f"of-{each}": list(LIFE) for each in CONTACTS}


@pytest.mark.parametrize("names", [("one", "two"), ("one", "two", "three")], ids=["two", "three"])
async def test_a_killed_replica_costs_nothing(replicas: Replicas, names: tuple[str, ...]) -> None:
    await replicas.started_knowing(CONTACTS, *names)
    await replicas.shared_fairly("create-activities")
    first, second, third = THIRDS
    await replicas.wire.publish(*created(first))
    await replicas.database_has("activities", len(first), state="dispatched")
    await replicas.wire.publish(*worked(first), *created(second))
    replicas.kill("one")
    await replicas.wire.publish(*created(third))
    # Not started again: the others have its partitions and its leases.
    await replicas.database_has("activities", len(CONTACTS) - len(first), state="dispatched")
    await replicas.shared_fairly("create-activities")
    await replicas.wire.publish(*worked(second))
    await replicas.started("one")
    await replicas.shared_fairly("hear-outcomes")
    await replicas.wire.publish(*worked(third))
    await replicas.database_has("activities", len(CONTACTS), state="completed")
    await assert_each_once_and_in_order(replicas)


async def test_replicas_that_come_and_leave_under_load_repeat_nothing(replicas: Replicas) -> None:
    await replicas.started("one")
    await replicas.knows(*CONTACTS)
    first, second, third = THIRDS
    await replicas.wire.publish(*created(first))
    await replicas.started("two")
    await replicas.wire.publish(*created(second))
    await replicas.started("three")
    await replicas.wire.publish(*created(third))
    await replicas.database_has("activities", len(CONTACTS), state="dispatched")
    await replicas.shared_fairly("hear-outcomes")
    await replicas.wire.publish(*worked(first))
    replicas.stop("one")
    await replicas.wire.publish(*worked(second))
    replicas.stop("two")
    await replicas.wire.publish(*worked(third))
    await replicas.database_has("activities", len(CONTACTS), state="completed")
    await assert_each_once_and_in_order(replicas)
    # An orderly stop finishes what is in hand, so not even the wire has anything twice.
    assert len(await replicas.wire.messages(ActivityChanged)) == len(CONTACTS) * len(LIFE)


async def test_two_schedulers_dispatch_what_becomes_due_once(replicas: Replicas) -> None:
    await replicas.started_knowing(CONTACTS, "one", "two")
    await replicas.wire.publish(*created(CONTACTS, scheduled_at=NOON + timedelta(hours=1)))
    await replicas.database_has("activities", len(CONTACTS), state="scheduled")
    replicas.clock.set(NOON + timedelta(hours=1), rate=0)
    await replicas.database_has("activities", len(CONTACTS), state="dispatched", version=2)
    assert await replicas.dispatched(len(CONTACTS)) == {f"of-{each}": 1 for each in CONTACTS}
    moved = replicas.moved_on()
    assert sum(moved.values()) == len(CONTACTS)
    assert min(moved.values()) > 0, moved


async def test_what_a_killed_scheduler_had_taken_is_dispatched_by_the_other(replicas: Replicas) -> None:
    replicas.start("one", PARLEY_FAILPOINTS="activities.due_claimed=kill@1")
    await replicas.consuming("one")
    await replicas.knows(*CONTACTS)
    await replicas.wire.publish(*created(CONTACTS, scheduled_at=NOON + timedelta(hours=1)))
    await replicas.database_has("activities", len(CONTACTS), state="scheduled")
    await replicas.started("two")
    replicas.clock.set(NOON + timedelta(hours=1), rate=0)
    replicas.died("one")
    await replicas.database_has("activities", len(CONTACTS), state="dispatched", version=2)
    assert await replicas.dispatched(len(CONTACTS)) == {f"of-{each}": 1 for each in CONTACTS}
    assert replicas.moved_on() == {"one": 0, "two": len(CONTACTS)}
