"""What the catalogue says about the services is what their composition roots do."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faststream import AckPolicy

from contracts import catalogue
from contracts.message import DEAD_LETTER_SUFFIX, Message
from servicekit.http import create_app
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from tests.services import ROOT, SERVICES


def settings_of(name: str) -> type[ServiceSettings]:
    settings: type[ServiceSettings] = importlib.import_module(f"{name.replace('-', '_')}.settings").Settings
    return settings


def built(name: str) -> Service:
    service: Service = importlib.import_module(f"{name.replace('-', '_')}.main").build(
        settings_of(name)(port=0)
    )
    assert service.name == name
    return service


def openapi_of(service: Service) -> dict[str, Any]:
    app = create_app(service, tuple(service._routers), service.asyncapi, tuple(service._streamed))
    return app.openapi()


@pytest.fixture(params=SERVICES)
async def service(request: pytest.FixtureRequest) -> Service:
    return built(request.param)


async def test_it_reads_exactly_what_the_catalogue_says(service: Service) -> None:
    read = {message for subscription in service.bus.subscriptions for message in subscription.reads}
    assert read == set(catalogue.read_by(service.name))


async def test_it_never_acknowledges_before_the_effect(service: Service) -> None:
    for subscription in service.bus.subscriptions:
        assert subscription.subscriber.ack_policy is AckPolicy.NACK_ON_ERROR
        arguments = subscription.subscriber._connection_args
        assert arguments["enable_auto_commit"] is False
        assert arguments["auto_offset_reset"] == "earliest"
        assert arguments["group_instance_id"].endswith(service.settings.instance)


async def test_its_groups_are_its_own(service: Service) -> None:
    subscriptions = service.bus.subscriptions
    members = [each.subscriber._connection_args["group_instance_id"] for each in subscriptions]
    assert len(members) == len(set(members))
    topics = {each.group: each.topic for each in subscriptions}
    assert all(topics[each.group] == each.topic for each in subscriptions), "a group reads from one topic"
    # The second consumer of a subscriber shares the work of the first.
    assert [each.group for each in subscriptions] == [
        re.sub(r"-\d$", "", each.name) for each in subscriptions
    ]
    assert all(group.startswith(f"{service.name}.") for group in topics)


async def test_it_requires_every_topic_it_touches(service: Service) -> None:
    required = {topic.name for topic in service._topics}
    read = {each.topic for each in service.bus.subscriptions}
    assert read | {name + DEAD_LETTER_SUFFIX for name in read} <= required
    for message in catalogue.published_by(service.name):
        assert not required.isdisjoint(catalogue.names_of(message.wire.topic)), message.wire.type


@pytest.mark.parametrize("name", SERVICES)
def test_it_has_a_use_for_every_message_that_the_catalogue_says_it_publishes(name: str) -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "services" / name / "src").rglob("*.py")]
    used = {found for tree in trees for found in _values_in(tree)}
    # What it tells itself are commands that it takes over REST as they are.
    to_others = {*catalogue.published_by(name)} - {*catalogue.read_by(name)}
    assert {message.__name__ for message in to_others} - used == set()


def _values_in(node: ast.AST) -> Iterator[str]:
    """Names that stand for a value; as a type of something they prove nothing."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    for field, child in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for each in child if isinstance(child, list) else [child]:
            if isinstance(each, ast.AST):
                yield from _values_in(each)


async def test_its_operations_are_named_alike(service: Service) -> None:
    names = [
        operation["operationId"]
        for path in openapi_of(service)["paths"].values()
        for operation in path.values()
    ]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    assert [name for name in names if name.startswith("read_")] == []


async def test_every_request_that_a_document_names_can_be_made() -> None:
    made = [
        re.compile(f"{method.upper()} {re.sub('{[^}]*}', '[^/]+', path)}")
        for name in SERVICES
        for path, operations in openapi_of(built(name))["paths"].items()
        for method in operations
    ]
    told = re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE) /v1/(?!webhooks/)(?:[\w/-]|{[^}]*})+")
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md")]
    named = [(request, path.name) for path in documents for request in told.findall(path.read_text())]
    assert named
    assert [
        (request, document)
        for request, document in named
        if not any(each.fullmatch(re.sub("{[^}]*}", "x", request)) for each in made)
    ] == []


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_link_between_documents_leads_somewhere() -> None:
    link = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md")]
    found = [(page, *place) for page in documents for place in link.findall(page.read_text())]
    assert found
    assert [
        f"{page.relative_to(ROOT)}: {path}#{anchor}"
        for page, path, anchor in found
        if not (to := page.parent / path if path else page).exists() or (anchor and anchor not in anchors(to))
    ] == []


def sources() -> Iterator[Path]:
    for folder in ("services", "cli", "simulators"):
        yield from (ROOT / folder).rglob("*.py")


def test_no_topic_is_spelled_outside_the_contracts() -> None:
    names = {message.wire.topic.name.removesuffix(".{channel}") for message in catalogue.MESSAGES}
    spelled = re.compile(r'["\'](' + "|".join(map(re.escape, sorted(names))) + r')(\.[a-z]+)?["\']')
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sources()
        for match in spelled.finditer(path.read_text())
    ]
    assert found == []


def unchecked_copies(source: str) -> int:
    """How many copies are changed by pydantic itself, which takes a misspelt name for one more field."""
    return sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "model_copy"
        and any(keyword.arg in ("update", None) for keyword in node.keywords)
        for node in ast.walk(ast.parse(source))
    )


def test_whoever_changes_a_copy_has_its_names_checked() -> None:
    """By `copied` or `following`."""
    assert [
        str(path.relative_to(ROOT))
        for path in (ROOT / "services").rglob("*.py")
        if unchecked_copies(path.read_text())
    ] == []


@pytest.mark.parametrize("planted", ["model_copy(update={'a': 1})", "evolve().model_copy(**{'update': {}})"])
def test_an_unchecked_copy_is_found(planted: str) -> None:
    assert unchecked_copies(f"def decide(state):\n    return state.{planted}, state.model_copy(deep=True)\n")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_the_same_skeleton(name: str) -> None:
    package = ROOT / "services" / name / "src" / name.replace("-", "_")
    assert {"main.py", "settings.py"} <= {path.name for path in package.iterdir()}
    for part in ("domain", "use_cases", "http"):
        assert (package / part).is_dir() or (package / f"{part}.py").is_file(), part
    readme = (ROOT / "services" / name / "README.md").read_text()
    for heading in ("Owns", "Reacts to", "Announces", "Stores", "Fails how"):
        assert heading in readme, heading


def test_no_name_hides_what_is_in_the_room() -> None:
    hiding = re.compile(r"^(utils?|helpers?|common|core|base|misc|manager)\.py$")
    assert [str(path) for path in sources() if hiding.match(path.name)] == []


def unnamed_in(readme: str, messages: Iterable[type[Message]]) -> set[str]:
    """Topics of these messages that a README does not name."""
    named = set(re.findall(r"`([a-z-]+)", readme))
    return {message.wire.topic.named(channel="").rstrip(".") for message in messages} - named


@pytest.mark.parametrize("name", SERVICES)
def test_its_readme_names_what_it_reads_and_announces(name: str) -> None:
    readme = (ROOT / "services" / name / "README.md").read_text()
    published = [message for message in catalogue.MESSAGES if name in message.wire.published_by]
    assert unnamed_in(readme, [*catalogue.read_by(name), *published]) == set()


def test_a_topic_that_a_readme_leaves_out_is_found() -> None:
    told = "**Announces** `stats-commands-of-old` and activity-changed."
    read = catalogue.read_by("stats")
    assert {"activity-changed", "stats-commands"} <= unnamed_in(told, read)
    assert "contact-changed" not in unnamed_in("**Reacts to** `contact-changed`.", read)
