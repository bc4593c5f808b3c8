"""What is published about the topics is what the catalogue says, and is up to date."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from contracts import catalogue
from contracts.asyncapi import asyncapi_document, merged_document
from contracts.documents import documents, to_text, write_documents
from contracts.message import Topic
from contracts.message_map import BEGIN, END, message_map, with_message_map

DOCS = Path(__file__).parents[2] / "docs"
every_service = pytest.mark.parametrize("service", catalogue.services())


@pytest.mark.parametrize("path", [path for path, _ in documents()], ids=str)
def test_the_committed_documents_are_up_to_date(path: Path) -> None:
    assert (DOCS / path).read_text() == to_text(dict(documents())[path]), "run: make docs"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert len(write_documents(tmp_path)) == len(list(documents()))
    assert write_documents(tmp_path) == []


@every_service
def test_a_service_receives_what_it_reads_and_sends_what_it_publishes(service: str) -> None:
    document = asyncapi_document(service)
    received = _messages(document, "receive") - {"Tombstone"}
    sent = _messages(document, "send") - {"Tombstone", "DeadLetter"}
    assert received == {message.__name__ for message in catalogue.read_by(service)}
    assert sent == {message.__name__ for message in catalogue.published_by(service)}


@every_service
def test_a_document_names_the_topics_of_its_service(service: str) -> None:
    assert _addresses(asyncapi_document(service)) == {topic.name for topic in catalogue.topics_of(service)}


def test_the_merged_document_has_every_topic() -> None:
    unread = {topic.name + ".dlq" for topic in _topics_nobody_reads()}
    assert _addresses(merged_document()) == {topic.name for topic in catalogue.topics()} - unread


@pytest.mark.parametrize("document", [asyncapi_document("activities"), merged_document()], ids=["one", "all"])
def test_every_example_fits_its_schemas(document: dict[str, Any]) -> None:
    schemas = {"components": {"schemas": document["components"]["schemas"]}}
    for message in document["components"]["messages"].values():
        for example in message.get("examples", ()):
            Draft202012Validator(schemas | message["payload"]).validate(example["payload"])
            Draft202012Validator(schemas | message["headers"]).validate(example["headers"])


@pytest.mark.parametrize("document", dict(documents()).values(), ids=map(str, dict(documents())))
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in _references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, reference
            place = place[step]


def test_every_message_says_in_whole_sentences_what_it_is() -> None:
    messages = merged_document()["components"]["messages"]
    summaries = {name: message["summary"] for name, message in messages.items()}
    assert {name for name, summary in summaries.items() if summary == name} == set()
    assert {name for name, summary in summaries.items() if not summary.endswith(".")} == set()


def test_a_schema_has_a_name_of_its_own() -> None:
    ids = [document["$id"] for path, document in documents() if path.parent.name == "schemas"]
    assert len(ids) == len(set(ids)) == len(catalogue.MESSAGES)


def test_an_unknown_service_has_no_document() -> None:
    with pytest.raises(ValueError, match="no message names the service 'weather'"):
        asyncapi_document("weather")


@every_service
def test_a_service_needs_the_dead_letters_of_what_it_reads(service: str) -> None:
    names = {topic.name for topic in catalogue.topics_of(service)}
    read = {name for message in catalogue.read_by(service) for name in catalogue.names_of(message.wire.topic)}
    assert {f"{name}.dlq" for name in read} == {name for name in names if name.endswith(".dlq")}
    assert names <= {topic.name for topic in catalogue.topics()}


def test_the_map_shows_every_reader_and_every_writer() -> None:
    lines = message_map().splitlines()
    for message in catalogue.MESSAGES:
        node = "topic_" + message.wire.topic.name.partition(".")[0].replace("-", "_")
        for service in message.wire.published_by:
            assert f"    {service.replace('-', '_')} --> {node}" in lines
        for service in message.wire.read_by:
            assert f"    {node} --> {service.replace('-', '_')}" in lines


def test_the_map_is_put_between_its_markers_and_nowhere_else() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    drawn = with_message_map(text)
    assert message_map() in drawn
    assert "old" not in drawn
    assert with_message_map(drawn) == drawn
    assert with_message_map("no markers") == "no markers"


def _addresses(document: dict[str, Any]) -> set[str]:
    """The topics that a document names, with every channel that ships."""
    topics = [Topic(channel["address"]) for channel in document["channels"].values()]
    return {name for topic in topics for name in catalogue.names_of(topic)}


def _messages(document: dict[str, Any], action: str) -> set[str]:
    operations = [each for each in document["operations"].values() if each["action"] == action]
    return {
        reference["$ref"].rsplit("/", 1)[1] for operation in operations for reference in operation["messages"]
    }


def _topics_nobody_reads() -> list[Any]:
    read = {message.wire.topic for message in catalogue.MESSAGES if message.wire.read_by}
    return [message.wire.topic for message in catalogue.MESSAGES if message.wire.topic not in read]


def _references(part: Any) -> list[str]:
    match part:
        case {"$ref": str(reference), **rest}:
            return [reference, *_references(rest)]
        case dict():
            return [found for value in part.values() for found in _references(value)]
        case list():
            return [found for value in part for found in _references(value)]
        case _:
            return []
