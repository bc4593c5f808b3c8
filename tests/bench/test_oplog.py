"""What the log of a database has is written again, and comes out the same."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne

from bench.oplog import Written, bulks, end_of_log, written_between
from tests.engines import Engines

NAMES = st.sampled_from("abc")
VALUES = st.one_of(
    st.integers(0, 9),
    st.lists(st.integers(0, 9), max_size=4),
    st.dictionaries(NAMES, st.integers(0, 9), max_size=3),
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 4), DOCUMENTS),
        st.tuples(st.just("set"), st.integers(0, 4), NAMES, VALUES),
        st.tuples(st.just("within"), st.integers(0, 4), NAMES, st.integers(0, 9)),
        st.tuples(st.just("unset"), st.integers(0, 4), NAMES),
        st.tuples(st.just("cut"), st.integers(0, 4), NAMES),
        st.tuples(st.just("delete"), st.integers(0, 4)),
    ),
    max_size=30,
)


def do(collection: Any, command: tuple[Any, ...]) -> None:
    match command:
        case "put", id_, document:
            collection.replace_one({"_id": id_}, document, upsert=True)
        case "set", id_, name, value:
            collection.update_one({"_id": id_}, {"$set": {name: value}}, upsert=True)
        case "within", id_, name, value:
            collection.update_one(
                {"_id": id_, name: {"$type": "object"}},
                {"$set": {f"{name}.b": value}, "$unset": {f"{name}.a": ""}},
            )
        case "unset", id_, name:
            collection.update_one({"_id": id_}, {"$unset": {name: ""}})
        case "cut", id_, name:
            collection.update_one({"_id": id_, name: {"$type": "array"}}, {"$pop": {name: 1}})
        case "delete", id_:
            collection.delete_one({"_id": id_})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=COMMANDS, then=COMMANDS)
def test_what_was_written_is_written_again(
    engines: Engines, namespace: str, first: list[Any], then: list[Any]
) -> None:
    database, copy = f"{namespace}written", f"{namespace}again"
    with MongoClient[dict[str, Any]](engines.mongo) as client:
        client.drop_database(database)
        client.drop_database(copy)
        with client.start_session() as session:
            for command in first:
                do(client[database].things, command)
            before = list(client[database].things.find())
            since = end_of_log(client)
            with session.start_transaction():
                client[database].others.insert_one({"_id": 0}, session=session)
                client[database].things.update_many({}, {"$set": {"seen": True}}, session=session)
            for command in then:
                do(client[database].things, command)
        writes = list(written_between(client, since, end_of_log(client), lambda place: place[0] == database))
        if before:
            client[copy].things.insert_many(before)
        for bulk in bulks(iter(writes), lambda place: (copy, place[1])):
            client[bulk.place[0]][bulk.place[1]].bulk_write(bulk.operations, ordered=bulk.ordered)
        for collection in ("things", "others"):
            wanted = list(client[database][collection].find().sort("_id"))
            assert list(client[copy][collection].find().sort("_id")) == wanted


def test_commands_are_few_and_keep_the_order_of_each_document() -> None:
    place = ("a", "b")
    writes = [Written(place, n, (InsertOne({"_id": n}),)) for n in range(3)]
    writes += [Written(place, n % 3, (UpdateOne({"_id": n % 3}, {"$set": {"n": n}}),)) for n in range(9)]
    writes += [Written(place, 0, (DeleteOne({"_id": 0}),)), Written(place, 0, (InsertOne({"_id": 0}),))]
    made = [(type(b.operations[0]).__name__, len(b.operations)) for b in bulks(iter(writes), lambda p: p)]
    assert made == [("InsertOne", 3), ("UpdateOne", 9), ("DeleteOne", 1), ("InsertOne", 1)]
