"""Loading, on real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from batch_loader.adapters.kafka_copies import KafkaCopies, left_to_read, still_there
from batch_loader.adapters.mongo_audience import MongoAudience
from batch_loader.adapters.mongo_batches import MongoShelf
from batch_loader.adapters.mongo_open_activities import MongoOpenActivities
from batch_loader.domain.batch import Batch
from batch_loader.domain.copies import Copy
from batch_loader.domain.page import Reservation
from batch_loader.use_cases.await_copies import AwaitCopies
from batch_loader.use_cases.load_batches import LoadBatches
from contracts.message import stable_id
from contracts.vocabulary import ActivityState, BatchId, PreferenceKind
from servicekit.bus import Subscription
from servicekit.failpoints import FAILPOINTS
from servicekit.leases import Leases
from servicekit.resting import end
from servicekit.unit_of_work import Store
from tests.batch_loader.builders import SUBJECT, refused
from tests.batch_loader.line import Line, line
from tests.engines import Engines
from tests.kit import eventually, failed_where_told, settled


@pytest.fixture(autouse=True)
def no_failpoint_survives() -> Iterator[None]:
    yield
    FAILPOINTS.disarm()


def ids_of(here: Line, batch: dict[str, Any], numbers: range) -> set[str]:
    return {stable_id("activity", batch["batch_id"], here.id(number)) for number in numbers}


async def test_every_contact_gets_one_activity_and_every_other_a_reason(here: Line) -> None:
    everybody = [
        *(here.contact(number) for number in range(50)),
        *(here.contact(number, PreferenceKind.DO_NOT_SMS) for number in range(50, 55)),
        *(here.contact(number, phones=(), emails=("a@parley.example",)) for number in range(55, 58)),
        *(here.contact(number) for number in range(58, 60)),
        here.contact(60, lifecycle="draft"),
        here.contact(61, contact_type="supplier"),
    ]
    await here.knows(everybody)
    await here.wire.publish(
        here.changed(58, "theirs-1", 1, ActivityState.SCHEDULED),
        here.changed(59, "theirs-2", 1, ActivityState.SCHEDULED),
        here.changed(1, "theirs-3", 1, ActivityState.SCHEDULED),
        here.changed(1, "theirs-3", 2, ActivityState.COMPLETED, disposition="sold"),
        here.changed(2, "theirs-4", 1, ActivityState.SCHEDULED, subject_id="another-subject"),
    )
    theirs = {"_id": {"$regex": "^theirs-"}, "version": {"$gte": 1}}

    async def known() -> bool:
        return bool(await here.service.mongo["open_activities"].count_documents(theirs) == 4)

    await eventually(known, "their activities")
    await settled(here.service)
    batch = await here.draft(instructions="Be kind.", urgency="high")
    assert (batch["state"], batch["loaded"]) == ("draft", 0)
    assert (await here.tell(batch, "load"))["expected"] == 60
    shown = await here.becomes(batch, "loaded")
    assert shown["loaded"] == 50
    assert shown["skipped"] == {"opted_out": 5, "no_address": 3, "duplicate_open_activity": 2}
    made = await here.activities(batch)
    assert {one.activity_id for one in made} == ids_of(here, batch, range(50))
    one = made[0]
    assert (one.kind, one.mode, one.source) == ("sms", "automated", "batch")
    assert (one.exclusive, one.instructions, one.urgency) == (True, "Be kind.", "high")
    assert (one.subject_id, one.channel) == (SUBJECT, "sms")

    told = await here.progress(batch)
    assert [message.version for message in told] == list(range(1, shown["version"] + 1))
    assert {"draft", "loading", "loaded"} == {message.state for message in told}
    assert all(m.selected == m.loaded + sum(m.skipped.values()) for m in told)
    assert told[-1].loaded == 50


@pytest.mark.parametrize(
    "where",
    [
        "batch-loader.before_transaction",
        "batch-loader.before_commit",
        "batch-loader.after_transaction",
    ],
)
async def test_a_load_that_fails_between_two_effects_resumes_to_the_same_set(here: Line, where: str) -> None:
    await here.knows(here.contact(number) for number in range(95))
    batch = await here.draft()
    FAILPOINTS.arm(f"{where}=error@4")
    await here.tell(batch, "load")
    shown = await here.becomes(batch, "loaded")
    await failed_where_told()
    assert (shown["loaded"], shown["skipped"], shown["expected"]) == (95, {}, 95)
    assert {one.activity_id for one in await here.activities(batch)} == ids_of(here, batch, range(95))


async def test_a_load_that_is_cut_off_is_finished_by_the_next_process(
    engines: Engines, namespace: str
) -> None:
    async with line(engines, namespace, batch_loader_page_size=1) as here:
        await here.knows(here.contact(number) for number in range(300))
        batch = await here.draft()
        await here.tell(batch, "load")

        async def under_way() -> bool:
            return bool((await here.get(batch))["loaded"] >= 10)

        await eventually(under_way, "some pages")
        (loader,) = [task for task in here.service._tasks if task.get_name() == "loader"]
        await end(loader)
        assert (await here.get(batch))["state"] == "loading"
    async with line(engines, namespace) as again:
        shown = await again.becomes(batch, "loaded")
        assert shown["loaded"] == 300
        assert {one.activity_id for one in await again.activities(batch)} == ids_of(here, batch, range(300))


async def test_pause_stops_resume_goes_on_and_repeats_change_nothing(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(320))
    batch = await here.draft(source="manual", agent_profile=None, agents=["ann", "bob", "cy"])
    await here.tell(batch, "load")
    paused = await here.tell(batch, "pause")
    assert paused["state"] == "paused"
    assert paused["selected"] < 320
    seen = await here.tell(batch, "preview")
    assert (seen["count"], seen["skipped"]) == (320, {}), "its own activities are no duplicates"
    assert (await here.tell(batch, "pause"))["version"] == paused["version"]
    problem = await here.tell(batch, "load", 409)
    assert problem["detail"] == "This batch is paused and cannot be loaded; only one that is draft can."
    # A contact that appears after the load began is not of this batch, however long it is paused.
    made_meanwhile = here.service.clock.now()
    await here.wire.publish(
        here.contact(5000, created_at="2126-01-01T00:00:00Z"), here.contact(5001, created_at=made_meanwhile)
    )
    await settled(here.service)
    assert (await here.get(batch))["version"] == paused["version"]
    await here.tell(batch, "resume")
    await here.tell(batch, "resume")
    await here.becomes(batch, "loaded")
    done = await here.tell(batch, "load")
    assert done["loaded"] == 320
    made = await here.activities(batch)
    assert {one.activity_id for one in made} == ids_of(here, batch, range(320))
    in_order = sorted(made, key=lambda one: one.contact_id)
    assert [one.owner for one in in_order] == ["ann", "bob", "cy"] * 106 + ["ann", "bob"]
    assert await here.get(batch) == done


async def test_a_cancelled_batch_stays_as_it_is(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(200))
    batch = await here.draft()
    await here.tell(batch, "load")
    cancelled = await here.tell(batch, "cancel")
    assert cancelled["state"] == "cancelled"
    await settled(here.service)
    assert await here.get(batch) == cancelled
    for move in ("load", "pause", "resume"):
        await here.tell(batch, move, 409)


async def test_batches_that_race_over_the_same_people_never_both_get_one(here: Line) -> None:
    people = 300
    await here.knows(here.contact(number) for number in range(people))
    batches = [await here.draft(name) for name in ("First", "Second")]
    rivals = [rival(here, batch) for batch in batches]
    await asyncio.gather(*(here.tell(batch, "load") for batch in batches))
    await asyncio.gather(*(load_to_the_end(each, here, batches) for each in rivals))
    shown = [await here.becomes(batch, "loaded") for batch in batches]
    assert sum(one["loaded"] for one in shown) == people
    for one in shown:
        assert one["selected"] == people
        assert one["skipped"].get("duplicate_open_activity", 0) == people - one["loaded"]
    made = [activity for batch in batches for activity in await here.activities(batch)]
    assert len(made) == len({activity.contact_id for activity in made}) == people


class OneBatch(MongoShelf):
    """A shelf on which a loader sees a single batch."""

    def __init__(self, batches: Store[Batch], batch_id: str) -> None:
        super().__init__(batches)
        self._batch_id = batch_id

    async def loading(self) -> Sequence[BatchId]:
        return [id_ for id_ in await super().loading() if id_ == self._batch_id]


def awaiting(here: Line, servers: str) -> AwaitCopies:
    mongo = here.service.mongo
    store = Store(mongo, "batches", Batch, "batch_id")
    fed_by: dict[Copy, Subscription] = {
        "contacts": here.subscription("know-contacts"),
        "statistics": here.subscription("know-statistics"),
        "activities": here.subscription("follow-activities"),
    }
    return AwaitCopies(
        store,
        here.service.commands(store),
        KafkaCopies(servers, fed_by),
        MongoAudience(mongo),
        here.service.clock,
    )


def rival(here: Line, batch: dict[str, Any]) -> LoadBatches:
    """Another process that believes to hold every lease, as after a pause longer than they last."""
    mongo = here.service.mongo
    store = Store(mongo, "batches", Batch, "batch_id")
    return LoadBatches(
        store,
        OneBatch(store, batch["batch_id"]),
        MongoAudience(mongo),
        MongoOpenActivities(mongo),
        awaiting(here, here.service.settings.kafka_bootstrap_servers),
        Store(mongo, "open_activities", Reservation, "activity_id"),
        here.service.committer,
        Leases(mongo, f"load-{batch['batch_id']}", "rival"),
        here.service.clock,
        here.service.stopping,
        page_size=20,
    )


async def load_to_the_end(loader: LoadBatches, here: Line, batches: list[dict[str, Any]]) -> None:
    while any([(await here.get(batch))["state"] == "loading" for batch in batches]):
        await loader.step()


async def test_without_the_duplicate_rule_everybody_is_loaded_again(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(20))
    for rule, loaded in (("none", 20), ("none", 20), ("skip_open", 0)):
        batch = await here.draft(duplicate_rule=rule)
        await here.tell(batch, "load")
        assert (await here.becomes(batch, "loaded"))["loaded"] == loaded


async def test_an_ended_activity_gives_its_slot_back(here: Line) -> None:
    await here.knows([here.contact(1)])
    slots = here.service.mongo["open_activities"]
    for _ in range(2):
        batch = await here.draft()
        await here.tell(batch, "load")
        assert (await here.becomes(batch, "loaded"))["loaded"] == 1
        (made,) = await here.activities(batch)
        await here.wire.publish(
            here.changed(1, made.activity_id, 1, ActivityState.SCHEDULED, batch_id=batch["batch_id"]),
            here.changed(1, made.activity_id, 2, ActivityState.EXPIRED, batch_id=batch["batch_id"]),
            here.changed(1, made.activity_id, 1, ActivityState.SCHEDULED, batch_id=batch["batch_id"]),
        )
        freed = partial(slots.count_documents, {"_id": made.activity_id, "open": False})
        await eventually(freed, "the slot to be free")
        await settled(here.service)


async def test_a_refused_activity_moves_from_loaded_to_skipped_exactly_once(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(30))
    batch = await here.draft()
    await here.tell(batch, "load")
    await here.becomes(batch, "loaded")
    made = await here.activities(batch)
    losers = [refused(activity) for activity in made[:12]]
    purged = [loser.evolve(version=2, state=ActivityState.PURGED) for loser in losers[:3]]

    async def corrected() -> bool:
        return bool((await here.get(batch))["loaded"] == 18)

    FAILPOINTS.arm("batch-loader.after_open_activities=error,batch-loader.after_last_completed=error")
    await here.wire.publish(*losers, *losers[:4], *purged)
    await eventually(corrected, "the refusals to count")
    await failed_where_told()
    FAILPOINTS.disarm()
    shown = await here.get(batch)
    await here.wire.publish(*losers, *made, *purged, refused(made[0].evolve(batch_id="unknown")))
    await settled(here.service)
    assert await here.get(batch) == shown
    assert shown["skipped"] == {"duplicate_open_activity": 12}
    told = (await here.progress(batch))[-1]
    assert (told.state, told.loaded, told.skipped) == ("loaded", 18, {"duplicate_open_activity": 12})


@asynccontextmanager
async def unread(here: Line, name: str) -> AsyncIterator[None]:
    """A consumer that takes nothing, as one that has lost its broker."""
    consumer = here.subscription(name).consumer
    assert consumer is not None
    consumer.pause(*consumer.assignment())
    try:
        yield
    finally:
        consumer.resume(*consumer.assignment())


async def waits_for(here: Line, batch: dict[str, Any], word: str) -> dict[str, Any]:
    async def waiting() -> dict[str, Any] | None:
        shown = await here.get(batch)
        return shown if shown["waiting_for"] == word else None

    return await eventually(waiting, f"the load to wait for {word}")  # type: ignore[no-any-return]


async def test_a_load_waits_for_the_contacts_that_were_announced_before_it_began(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(5))
    await settled(here.service)
    batch = await here.draft()
    assert (await here.tell(batch, "preview"))["behind"] == 0
    async with unread(here, "know-contacts"):
        await here.wire.publish(*(here.contact(number) for number in range(5, 60)))
        seen = await here.tell(batch, "preview")
        assert (seen["count"], seen["behind"]) == (5, 55)
        assert (await here.tell(batch, "load"))["expected"] == 5
        shown = await waits_for(here, batch, "contacts")
        assert (shown["state"], shown["selected"]) == ("loading", 0)
        await here.tell(batch, "pause")
        assert (await here.tell(batch, "resume"))["waiting_for"] is None
        assert (await waits_for(here, batch, "contacts"))["selected"] == 0
    done = await here.becomes(batch, "loaded")
    assert (done["loaded"], done["skipped"], done["waiting_for"]) == (60, {}, None)
    assert done["expected"] == 60
    told = await here.progress(batch)
    assert [message.version for message in told] == list(range(1, done["version"] + 1))


def test_a_topic_that_is_shorter_now_is_read_to_the_end_that_it_has() -> None:
    ends, published = {0: 500, 1: 7}, {0: 10, 1: 9}
    assert still_there(ends, published) == {0: 10, 1: 7}
    assert left_to_read({0: 10, 1: 7}, published, {0: 500, 1: 7}) == 10
    assert left_to_read({0: 10, 1: 7}, published, {0: 10, 1: 5}) == 2
    assert left_to_read({0: 10, 1: 7}, published, {0: 10, 1: 9}) == 0


async def test_a_load_waits_for_those_copies_only_that_its_rules_look_at(here: Line) -> None:
    await here.knows([here.contact(1)])
    await settled(here.service)
    async with unread(here, "follow-activities"):
        await here.wire.publish(here.changed(1, "elsewhere", 1, ActivityState.SCHEDULED))
        heedless = await here.draft(duplicate_rule="none")
        await here.tell(heedless, "load")
        assert (await here.becomes(heedless, "loaded"))["loaded"] == 1
        careful = await here.draft()
        await here.tell(careful, "load")
        await waits_for(here, careful, "activities")
    done = await here.becomes(careful, "loaded")
    assert done["skipped"] == {"duplicate_open_activity": 1}


async def test_a_load_waits_for_kafka_to_say_how_far_the_copies_are(engines: Engines, namespace: str) -> None:
    async with line(engines, namespace) as here:
        await here.knows([here.contact(1)])
        batch = await here.draft()
        (loader,) = [task for task in here.service._tasks if task.get_name() == "loader"]
        await end(loader)
        await here.tell(batch, "load")
        asking = asyncio.create_task(awaiting(here, "127.0.0.1:1")(BatchId(batch["batch_id"])))
        try:
            await waits_for(here, batch, "kafka")
            assert not asking.done()
        finally:
            await end(asking)
        # What a process that was killed left behind is taken back by the next that has an answer.
        await awaiting(here, engines.kafka)(BatchId(batch["batch_id"]))
        shown = await here.get(batch)
        assert (shown["state"], shown["waiting_for"], shown["expected"]) == ("loading", None, 1)


async def test_a_batch_that_keeps_failing_says_so_and_can_be_resumed(here: Line) -> None:
    await here.knows(here.contact(number) for number in range(10))
    await here.service.mongo["contacts"].update_one({"_id": here.id(7)}, {"$set": {"opted_out": None}})
    batch = await here.draft()
    await here.tell(batch, "load")
    failed = await here.becomes(batch, "failed")
    assert failed["error"] == "Loading failed 5 times in a row with TypeError; see the log."
    assert failed["loaded"] == 0
    await here.service.mongo["contacts"].update_one({"_id": here.id(7)}, {"$set": {"opted_out": []}})
    await here.tell(batch, "resume")
    assert (await here.becomes(batch, "loaded"))["loaded"] == 10
