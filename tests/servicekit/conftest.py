"""A service with no business at all: it keeps the last word said to each name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from contracts.message import Message, Topic
from servicekit.bus import Bus
from servicekit.metrics import Metrics
from servicekit.producer import Producer
from servicekit.service import Service
from servicekit.settings import ServiceSettings
from servicekit.verdict import Become, GiveUp, TryAgain, Unchanged, Verdict
from tests.engines import Engines
from tests.kit import Wire

SAID = Topic("word-said")
HEARD = Topic("word-heard")


class WordSaid(
    Message,
    type="test.word.said.v1",
    topic=SAID,
    key="name",
    identity=("name", "number"),
    published_by=(),
    read_by=(),
):
    name: str
    number: int
    word: str


class WordHeard(
    Message,
    type="test.word.heard.v1",
    topic=HEARD,
    key="name",
    identity=("name", "number"),
    published_by=(),
    read_by=(),
):
    name: str
    number: int
    words: tuple[str, ...]


class Ear(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    words: tuple[str, ...]
    last: int


def hear(said: WordSaid, ear: Ear | None, patience: dict[str, bool] | None) -> Verdict[Ear]:
    match said.word:
        case "bug":
            raise KeyError("a bug")
        case "never":
            return GiveUp("never")
        case "later" if not (patience or {}).get("arrived"):
            return TryAgain("not yet", after=0.01)
    if ear is not None and said.number <= ear.last:
        return Unchanged()
    words = (*(ear.words if ear else ()), said.word)
    version = ear.version + 1 if ear else 1
    return Become(
        Ear(name=said.name, version=version, words=words, last=said.number),
        (WordHeard(name=said.name, number=said.number, words=words),),
    )


class EarService:
    """The composition root, and what a test may want to reach."""

    def __init__(self) -> None:
        self.patience = {"arrived": False}
        self.before: Callable[[], None] | None = None

    def build(self, settings: ServiceSettings) -> Service:
        service = Service("ears", settings)
        self.store = service.store("ears", Ear, "name")

        async def facts(_: Any) -> dict[str, bool]:
            if self.before is not None:
                self.before()
            return dict(self.patience)

        service.subscribe(
            "hear",
            WordSaid,
            service.unit_of_work(
                "hear", self.store, aggregate_id=lambda said: said.name, decide=hear, facts=facts
            ),
        )
        service.requires_topics((SAID, HEARD))
        return service


@pytest.fixture
def ears() -> EarService:
    return EarService()


def said(name: str, number: int, word: str = "hello") -> WordSaid:
    return WordSaid(name=name, number=number, word=word)


@asynccontextmanager
async def bus_alone(
    name: str, engines: Engines, wire: Wire, metrics: Metrics, **settings: Any
) -> AsyncIterator[Bus]:
    """No service around it, which would look after its subscribers as well."""
    chosen = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka, namespace=wire.namespace, instance="a", **settings
    )
    producer, stopping = Producer(engines.kafka, "test"), asyncio.Event()
    bus = Bus(name, chosen, producer, metrics, stopping)
    try:
        yield bus
    finally:
        stopping.set()
        await bus.stop()
        await producer.close()
