"""State that others write too: conflicts are decided again, and older copies never overwrite newer ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from contracts.contacts import ContactChanged
from contracts.message import Message
from servicekit.conflicts import Conflict
from servicekit.delivery import Delivery, Tombstone
from servicekit.failpoints import FAILPOINTS, InjectedFault
from servicekit.mongo import Document, Mongo, difference, rows_behind
from servicekit.projection import Projection
from servicekit.refusals import TooLargeToAnnounce
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from servicekit.unit_of_work import Changes, Store
from servicekit.verdict import Become, TryAgain, Unchanged, Verdict, Write, following
from tests.engines import Engines
from tests.kit import Wire, running, settled
from tests.servicekit.conftest import HEARD, SAID, Ear, EarService, WordHeard, WordSaid, hear, said
from tests.servicekit.test_delivery import TOPICS


async def test_a_state_that_moved_meanwhile_is_decided_again(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    interfered: list[asyncio.Task[object]] = []
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:

        async def interfere() -> None:
            await ears.store.collection.update_one({"_id": "anna"}, {"$inc": {"version": 1}})

        def before() -> None:
            if len(interfered) < 3:
                interfered.append(asyncio.ensure_future(interfere()))

        await wire.publish(said("anna", 1))
        await wire.expect(WordHeard, 1)
        ears.before = before
        await wire.publish(*(said("anna", n) for n in range(2, 6)), *(said(f"b{n}", 1) for n in range(5)))
        await wire.expect(WordHeard, 10)
        await settled(service)
        ear = await ears.store.get("anna")
        assert ear is not None
        assert ear.words == ("hello",) * 5
        assert len(await wire.messages(WordHeard)) == 10


async def test_what_waits_after_a_conflict_holds_back_its_own_key_only(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    words = [said("anna", 1, "later"), said("anna", 2), said("berta", 1)]

    async def others_are_faster_than_many(messages: Sequence[WordSaid]) -> dict[str, bool]:
        if len(messages) > 1:
            raise Conflict("a version moved")
        return ears.patience

    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        hears = service.unit_of_work(
            "again",
            ears.store,
            aggregate_id=lambda word: word.name,
            decide=hear,
            facts=others_are_faster_than_many,
        )
        batch = [Delivery(word, {}, SimpleNamespace(key=word.name.encode())) for word in words]
        first, second, other = await hears(batch)
        assert (isinstance(first, TryAgain), isinstance(second, TryAgain), other) == (True, True, None)
        assert await ears.store.get("anna") is None
        ears.patience["arrived"] = True
        assert await hears(batch[:2]) == [None, None]
        ear = await ears.store.get("anna")
        assert ear is not None
        assert ear.words == ("later", "hello")


class Seat(BaseModel):
    model_config = ConfigDict(frozen=True)

    seat_id: str
    version: int
    taken_by: str
    notes: dict[str, Any] = {}


EMPTY = Seat(seat_id="a", version=1, taken_by="")
NOTES = {"$set": {"a.b": [1, {"$ref": "c"}]}, "": None}


def seating(settings: ServiceSettings) -> Service:
    service = Service("seats", settings)
    _ = service.outbox  # whoever asks for it has a relay
    return service


@asynccontextmanager
async def a_seat(engines: Engines, wire: Wire) -> AsyncIterator[tuple[Service, Store[Seat]]]:
    """A service with one seat, in version 1."""
    await wire.create_topics((SAID, HEARD))

    async with running(seating, ServiceSettings, engines, wire.namespace) as service:
        seats = service.store("seats", Seat, "seat_id")
        await service.committer.commit(Changes([(seats, None, EMPTY)]))
        yield service, seats


def sits(service: Service, seats: Store[Seat], who: str) -> Changes:
    """What somebody writes who saw the seat in version 1."""
    heard = WordHeard(name=who, number=1, words=("mine",))
    return Changes(
        [(seats, EMPTY, Seat(seat_id="a", version=2, taken_by=who))], service.committer.outbox.rows((heard,))
    )


async def test_what_was_decided_from_an_older_version_is_not_written(engines: Engines, wire: Wire) -> None:
    async with a_seat(engines, wire) as (service, seats):
        anna, berta = (sits(service, seats, who) for who in ("anna", "berta"))
        await service.committer.commit(anna)
        with pytest.raises(Conflict):
            await service.committer.commit(berta)
        await settled(service)
        assert await seats.get("a") == Seat(seat_id="a", version=2, taken_by="anna")
        assert [heard.name for heard in await wire.messages(WordHeard)] == ["anna"]


async def test_what_did_not_change_is_not_written_again(engines: Engines, wire: Wire) -> None:
    async with a_seat(engines, wire) as (service, seats):
        # What is nobody's here stays, and would not if the document was written anew.
        await seats.collection.update_one({"_id": "a"}, {"$set": {"newer_field": 1}})
        noted = EMPTY.model_copy(update={"version": 2, "notes": NOTES})
        await service.committer.commit(Changes([(seats, EMPTY, noted)]))
        left = noted.model_copy(update={"version": 3, "notes": {}})
        assert await seats.get("a") == noted
        await service.committer.commit(Changes([(seats, noted, left)]))
        assert await seats.get("a") == left
        stored = await seats.collection.find_one({"_id": "a"})
        assert stored == {"_id": "a", "version": 3, "taken_by": "", "notes": {}, "newer_field": 1}


_VALUES = st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2))
_DOCUMENTS = st.dictionaries(st.sampled_from("abcde"), _VALUES)


@given(before=_DOCUMENTS, after=_DOCUMENTS)
def test_a_difference_makes_one_of_the_other_and_says_nothing_else(before: Document, after: Document) -> None:
    update = difference(before, after)
    changed, gone = update.get("$set", {}), update.get("$unset", {})
    assert {name: value for name, value in (before | changed).items() if name not in gone} == after
    assert not any(name in before and before[name] == value for name, value in changed.items())
    assert {} not in update.values()


async def test_nothing_is_announced_of_a_transaction_that_failed(engines: Engines, wire: Wire) -> None:
    async with a_seat(engines, wire) as (service, seats):
        FAILPOINTS.arm("seats.before_commit=error@1")
        try:
            with pytest.raises(InjectedFault):
                await service.committer.commit(sits(service, seats, "anna"))
        finally:
            FAILPOINTS.disarm()
        assert await seats.get("a") == EMPTY
        await service.committer.commit(sits(service, seats, "berta"))
        await wire.expect(WordHeard, 1)
        await settled(service)
        assert [heard.name for heard in await wire.messages(WordHeard)] == ["berta"]


async def test_what_is_too_large_to_be_announced_is_refused_whoever_writes_it(
    engines: Engines, wire: Wire, ears: EarService
) -> None:
    await wire.create_topics(TOPICS)
    async with running(ears.build, ServiceSettings, engines, wire.namespace) as service:
        commands, half = service.commands(ears.store), "x" * 600_000

        async def tell(word: str, number: int) -> Verdict[Ear]:
            saying = WordSaid(name="anna", number=number, word=word)
            return (await commands.change("anna", lambda ear: hear(saying, ear, None)))[1]

        await tell(half, 1)
        with pytest.raises(TooLargeToAnnounce, match="1,040,384"):
            await tell(half, 2)
        await wire.publish(WordSaid(name="anna", number=3, word=half), said("anna", 4))
        await wire.expect(WordHeard, 2)
        await settled(service)
        ear = await ears.store.get("anna")
        assert ear is not None
        assert ear.words == (half, "hello")
        assert [letter["dlq_reason"] for letter in await wire.dead_letters("word-said")] == ["too_large"]


async def test_of_many_who_want_one_place_exactly_one_gets_it(engines: Engines, wire: Wire) -> None:
    await wire.create_topics((SAID, HEARD))

    async with running(seating, ServiceSettings, engines, wire.namespace) as service:
        seats = service.store("seats", Seat, "seat_id")
        await service.mongo.ensure_indexes({"seats": (), "places": ()})
        commands = service.commands(seats)

        async def sit(who: str) -> str:
            async def is_free(_: Seat | None) -> bool:
                return await service.mongo["places"].find_one({"_id": "the place"}) is None

            def decide(seat: Seat | None, free: bool) -> Verdict[Seat]:
                if not free:
                    return Unchanged("taken")
                place = Write.joining_empty("places", "the place", "holders", who)
                return Become(Seat(seat_id=who, version=1, taken_by=who), also=(place,))

            _, verdict = await commands.change(who, decide, facts=is_free)
            return "sat" if isinstance(verdict, Become) else "stood"

        results = await asyncio.gather(*(sit(f"person-{n}") for n in range(8)))
        place = await service.mongo["places"].find_one({"_id": "the place"})
        assert sorted(results) == ["sat"] + ["stood"] * 7
        assert len(place["holders"]) == 1
        assert await seats.collection.count_documents({}) == 1


async def test_who_changed_nothing_is_told_what_the_facts_have_seen_change(
    engines: Engines, wire: Wire
) -> None:
    async with a_seat(engines, wire) as (service, seats):

        async def berta_sits_down(seen: Seat | None) -> bool:
            assert seen == EMPTY
            await service.committer.commit(sits(service, seats, "berta"))
            return True

        def decide(_: Seat | None, taken: bool) -> Verdict[Seat]:
            assert taken
            return Unchanged("taken")

        seat, _ = await service.commands(seats).change("a", decide, facts=berta_sits_down)
        assert seat == Seat(seat_id="a", version=2, taken_by="berta")


async def test_what_is_decided_later_is_written_later(engines: Engines, wire: Wire) -> None:
    await wire.create_topics((SAID, HEARD))
    async with running(seating, ServiceSettings, engines, wire.namespace) as service:
        await service.mongo.ensure_indexes({"places": ()})

        def made(id_: str) -> Write:
            return Write.once("places", id_, free=True)

        def taken(id_: str) -> Write:
            return Write("places", {"_id": id_}, {"$set": {"free": False}}, must_match=False)

        await service.committer.commit(Changes(also=[taken("a"), made("b"), taken("b"), made("a")]))
        places = {row["_id"]: row["free"] async for row in service.mongo["places"].find()}
        assert places == {"a": True, "b": False}


Writes = Callable[..., Awaitable[Document | None]]


@pytest.fixture
async def written(engines: Engines, wire: Wire) -> AsyncIterator[Writes]:
    """Commits writes and gives back the place `a` as it then is."""
    await wire.create_topics((SAID, HEARD))
    async with running(seating, ServiceSettings, engines, wire.namespace) as service:
        await service.mongo.ensure_indexes({"places": ()})

        async def write(*also: Write) -> Document | None:
            await service.committer.commit(Changes(also=list(also)))
            found: Document | None = await service.mongo["places"].find_one({"_id": "a"})
            return found

        yield write


async def test_what_is_new_cannot_be_there_already(written: Writes) -> None:
    assert await written(Write.new("places", "a", sign=None, free=True)) == {
        "_id": "a",
        "sign": None,
        "free": True,
    }
    with pytest.raises(Conflict):
        await written(Write.new("places", "a", sign="north", free=False))
    with pytest.raises(Conflict):
        await written(Write.new("places", "b", sign="b"), Write.new("places", "a", sign="north"))
    assert await written(Write.new("places", "b", sign="free still")) == {
        "_id": "a",
        "sign": None,
        "free": True,
    }


async def test_what_is_kept_once_stays_as_it_was(written: Writes) -> None:
    for number in (1, 2):
        assert await written(Write.once("places", "a", number=number)) == {"_id": "a", "number": 1}


async def test_fields_are_set_where_there_is_something(written: Writes) -> None:
    with pytest.raises(Conflict):
        await written(Write.setting("places", "a", free=False))
    await written(Write.once("places", "a", free=True, sign="north"))
    for _ in range(2):
        assert await written(Write.setting("places", "a", free=False)) == {
            "_id": "a",
            "free": False,
            "sign": "north",
        }


async def test_who_wants_a_place_alone_finds_it_empty(written: Writes) -> None:
    async def holders(kind: Callable[[str, str, str, str], Write], who: str) -> list[str]:
        place = await written(kind("places", "a", "holders", who))
        return list(place["holders"]) if place is not None else []

    assert await holders(Write.leaving, "nobody") == []
    assert await holders(Write.joining_empty, "anna") == ["anna"]
    for again in ("anna", "berta"):
        with pytest.raises(Conflict):
            await holders(Write.joining_empty, again)
    assert await holders(Write.joining, "berta") == ["anna", "berta"]
    assert await holders(Write.joining, "anna") == ["anna", "berta"]
    assert await holders(Write.leaving, "anna") == ["berta"]
    assert await holders(Write.leaving, "anna") == ["berta"]
    with pytest.raises(Conflict):
        await holders(Write.joining_empty, "anna")
    assert await holders(Write.leaving, "berta") == []
    assert await holders(Write.joining_empty, "anna") == ["anna"]


@pytest.fixture
async def projection(engines: Engines, namespace: str) -> AsyncIterator[Projection]:
    mongo = Mongo(engines.mongo, f"{namespace}-copy")
    yield Projection(mongo, "contacts", fresh_for=0)
    await mongo.close()


def contact(id_: str, version: int, name: str) -> Delivery[Message]:
    moment = "2026-01-05T12:00:00Z"
    message = ContactChanged.model_validate(
        {
            "contact_id": id_,
            "version": version,
            "contact_type": "person",
            "first_name": name,
            "created_at": moment,
            "changed_at": moment,
        }
    )
    return Delivery(message, {"ce_id": b"id"}, SimpleNamespace(key=id_.encode()))


async def test_an_older_copy_never_overwrites_a_newer_one(projection: Projection) -> None:
    await projection([contact("a", 2, "second"), contact("a", 3, "third"), contact("b", 1, "first")])
    outcomes = await projection([contact("a", 1, "first"), contact("a", 2, "second"), contact("b", 2, "new")])
    assert outcomes.count(None) == 1
    known = await projection.get(["a", "b", "c", None])
    assert {id_: row["first_name"] for id_, row in known.items()} == {"a": "third", "b": "new"}


async def test_an_erased_one_does_not_come_back(projection: Projection) -> None:
    await projection([contact("a", 1, "first")])
    await projection([Tombstone("a", SimpleNamespace(key=b"a"))])
    await projection([contact("a", 2, "late")])
    assert await projection.get(["a"]) == {}
    assert await projection.get_cached(["a"]) == {}
    assert "first" not in str(await projection.collection.find_one({"_id": "a"}))


async def test_a_later_page_holds_to_what_was_asked_for(engines: Engines, namespace: str) -> None:
    mongo = Mongo(engines.mongo, f"{namespace}pages")
    try:
        rows = mongo["rows"]
        await rows.insert_many([{"_id": f"{n}", "kind": "odd" if n % 2 else "even"} for n in range(8)])

        async def ids(after: str | None, limit: int, wanted: Document | None = None) -> str:
            return "".join([row["_id"] for row in await rows_behind(rows, after, limit, wanted)])

        assert await ids(None, 3) == "012"
        assert await ids("2", 9) == "34567"
        assert await ids(None, 2, {"kind": "odd"}) == "13"
        assert await ids("3", 9, {"kind": "odd"}) == "57"
        assert await ids("3", 9, {}) == "4567"
        assert await ids("3", 9, {"_id": "1"}) == ""
    finally:
        await mongo.close()


def test_a_misspelt_field_is_no_change_of_a_state_or_a_message() -> None:
    ear = Ear(name="ann", version=3, words=(), last=0)
    assert following(ear, last=2) == Ear(name="ann", version=4, words=(), last=2)
    with pytest.raises(TypeError, match="Ear has no lats"):
        following(ear, lats=2)
    with pytest.raises(TypeError, match="WordHeard has no nmae"):
        WordHeard(name="ann", number=1, words=()).evolve(nmae="bob")
