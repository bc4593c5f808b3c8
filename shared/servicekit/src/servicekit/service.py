"""The life of a service process: settings, database, HTTP, topics, relay, consumers; and the way back."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

import structlog
from aiokafka.errors import KafkaError
from fastapi import APIRouter
from pymongo import IndexModel
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from contracts.message import Message, Topic
from servicekit import idempotency, leases, outbox
from servicekit.backoff import backoff
from servicekit.bus import Bus, Subscription
from servicekit.clock import Clock, clock_from, real_now
from servicekit.failpoints import FAILPOINTS, InjectedFault, UnknownFailpoint, UnknownFailpointAction
from servicekit.http import PortTaken, create_app, http_server, serve
from servicekit.logs import configure_logs
from servicekit.metrics import Metrics
from servicekit.mongo import Mongo, is_unavailable
from servicekit.outbox import Outbox, Relay
from servicekit.pipeline import TRIES, Handler, Stopping
from servicekit.producer import Producer
from servicekit.projection import Projection
from servicekit.resting import end, rest
from servicekit.settings import BadSettings, ServiceSettings
from servicekit.topics import Topics, WrongTopics
from servicekit.tracing import configure_tracing
from servicekit.unit_of_work import Commands, Committer, Decide, Store, UnitOfWork
from servicekit.verdict import Versioned

log = structlog.get_logger()

_LONGEST_LOOK_AT_TOPICS = 5.0
_LOOK_AGAIN_EVERY = 60.0
_COMPARE_CLOCKS_EVERY = 30.0
CLOCKS_MAY_DIFFER = 5.0
"""Seconds; the alert says the same."""
_COUNT_SECONDS = 5.0

M = TypeVar("M", bound=Message)
S = TypeVar("S", bound=Versioned)
F = TypeVar("F")
Settings = TypeVar("Settings", bound=ServiceSettings)

ILL_AFTER = 5
"""Failures in a row of a background task, for reasons of its own, that no further start will mend."""

_DEPENDENCIES = (PyMongoError, KafkaError, OSError, TimeoutError, InjectedFault)

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: starting again will not help until somebody changes something."""


class Service:
    """Everything a composition root composes. Nothing connects before `running`."""

    def __init__(self, name: str, settings: ServiceSettings, clock: Clock | None = None) -> None:
        self.name = name
        self.settings = settings
        self.stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.consuming = asyncio.Event()
        self.clock = clock or clock_from(settings.clock_file)
        self.metrics = Metrics()
        self.mongo = Mongo(settings.mongo_url, settings.database(name), settings.mongo_driver)
        self.producer = Producer(
            settings.kafka_bootstrap_servers,
            f"{name}-{settings.instance}",
            settings.kafka_compression,
            settings.lease_seconds,
        )
        self.bus = Bus(name, settings, self.producer, self.metrics, self.stopping)
        self.port = settings.port
        self._topics_found = Topics(settings.kafka_bootstrap_servers, settings.namespace)
        self.asyncapi: Mapping[str, Any] = {}
        self._relay: Relay | None = None
        self._routers: list[APIRouter] = []
        self._streamed: list[str] = []
        self._topics: list[Topic] = []
        self._retired_indexes: dict[str, Sequence[str]] = {}
        self._indexes: dict[str, Sequence[IndexModel]] = {
            idempotency.COLLECTION: idempotency.INDEXES,
            leases.COLLECTION: (),
        }
        self._backgrounds: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        self._looks: list[Callable[[], Awaitable[None]]] = []
        self._look_every = _LOOK_AGAIN_EVERY
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.calm_seconds = 30.0
        """A background task that ran for so long was well in between."""
        self._own_failures: Counter[str] = Counter()
        self.failure: BaseException | None = None

    # What a composition root says

    @cached_property
    def outbox(self) -> Outbox:
        """The way out for messages; only a service that asks for it, before it runs, has a relay."""
        if self.ready.is_set():
            raise RuntimeError(f"{self.name} runs without a relay; ask for its outbox where it is composed")
        made = Outbox(self.mongo, self.settings, self.clock, self.name)
        self.indexes(outbox.COLLECTION, outbox.INDEXES)
        self._relay = Relay(self.mongo, made, self.producer, self.settings, self.metrics)
        return made

    @cached_property
    def committer(self) -> Committer:
        return Committer(self.mongo, self.outbox, self.name)

    def store(
        self, collection: str, model: type[S], id_field: str, indexes: Sequence[IndexModel] = ()
    ) -> Store[S]:
        self.indexes(collection, indexes)
        return Store(self.mongo, collection, model, id_field)

    def projection(
        self, collection: str, *args: Any, indexes: Sequence[IndexModel] = (), **kwargs: Any
    ) -> Projection:
        self.indexes(collection, indexes)
        return Projection(self.mongo, collection, *args, **kwargs)

    def commands(self, store: Store[S]) -> Commands[S]:
        return Commands(self.committer, store)

    def unit_of_work(
        self,
        name: str,
        store: Store[S],
        *,
        aggregate_id: Callable[[M], str],
        decide: Decide[M, S, F],
        facts: Callable[[Sequence[M]], Awaitable[F]] | None = None,
    ) -> UnitOfWork[M, S, F]:
        """A batch handler from one pure decision; see UnitOfWork."""
        return UnitOfWork(
            f"{self.name}.{name}",
            self.committer,
            store,
            aggregate_id=aggregate_id,
            decide=decide,
            facts=facts,
            metrics=self.metrics,
        )

    def indexes(self, collection: str, indexes: Sequence[IndexModel], retired: Sequence[str] = ()) -> None:
        """retired: names of indexes that an earlier version made and that would be wrong now."""
        if retired:
            self._retired_indexes[collection] = retired
        self._indexes[collection] = [*self._indexes.get(collection, ()), *indexes]

    def subscribe(
        self,
        name: str,
        reads: type[M] | tuple[type[M], ...],
        handler: Handler[M],
        *,
        topic: str | None = None,
        tries: int = TRIES,
        batch_size: int | None = None,
        unhurried: bool = False,
        consumer: int = 1,
    ) -> Subscription:
        reads = reads if isinstance(reads, tuple) else (reads,)
        return self.bus.subscribe(
            name,
            reads,
            handler,
            topic=topic,
            tries=tries,
            batch_size=batch_size,
            unhurried=unhurried,
            consumer=consumer,
        )

    def routes(self, *routers: APIRouter, streamed: Iterable[str] = ()) -> None:
        self._routers.extend(routers)
        self._streamed.extend(streamed)

    def requires_topics(self, topics: Iterable[Topic]) -> None:
        """Topics that must exist as declared before this service consumes."""
        self._topics.extend(topics)

    def background(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """A loop beside the consumers. If it ends before the service stops, or fails for reasons of its
        own, it is started again with backoff. It must watch `self.stopping`."""
        self._backgrounds.append((name, run))

    def counted_gauge(self, name: str, help_: str, count: Callable[[], Awaitable[int]]) -> None:
        """A gauge that is counted anew every few seconds; every replica counts all there is."""
        gauge = self.metrics.gauge(name, help_)

        async def keep_counting() -> None:
            while not self.stopping.is_set():
                gauge.set(await count())
                await rest(self.stopping, _COUNT_SECONDS)

        self.background(f"count {name}", keep_counting)

    def requires(self, look: Callable[[], Awaitable[None]], every: float = _LOOK_AGAIN_EVERY) -> None:
        """Once the database answers, before anything is made in it, and each minute (or `every` seconds)
        after that: a look that raises BadSettings ends the process."""
        self._looks.append(look)
        self._look_every = min(self._look_every, every)

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        self._closers.append(close)

    # What the process does

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Serve until the block ends, then drain."""
        app = create_app(self, tuple(self._routers), self.asyncapi, tuple(self._streamed))
        server = http_server(app, self.settings.host, self.settings.port)
        http = await serve(server)
        self.port = server.bound_port
        starting = asyncio.create_task(self._start(), name="start")
        try:
            yield self
        finally:
            await self._drain(starting, server, http)

    async def _start(self) -> None:
        try:
            await self._prepare()
            loops = [*self._relaying(), ("clock", self._compare_clocks), *self._backgrounds]
            if self._looks:
                loops.append(("look again", self._look_again))
            self._tasks = [asyncio.create_task(self._keep(name, run), name=name) for name, run in loops]
            self.ready.set()
            log.info("ready", port=self.port)
            self.bus.begin()
            await self._verify_topics()
            if not self.stopping.is_set():
                await self.bus.start()
                self.consuming.set()
                log.info("consuming", subscribers=[s.name for s in self.bus.subscriptions])
                await self.bus.watch()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failure = error
            self.stopping.set()

    async def _prepare(self) -> None:
        """Look at what is there and make what is missing; from the beginning if the database goes away."""
        for attempt in range(2**31):
            await self.mongo.wait(self.stopping)
            try:
                await self._refuse_wrong_topics()
                for look in self._looks:
                    await look()
                await self.mongo.ensure_indexes(self._indexes, self._retired_indexes)
                return
            except PyMongoError as error:
                if not is_unavailable(error) or self.stopping.is_set():
                    raise
                log.warning("waiting for the database", error=type(error).__name__, detail=str(error)[:200])
                await asyncio.sleep(backoff(attempt, 0.2, 5.0))

    async def _refuse_wrong_topics(self) -> None:
        """Before anything is made in the database of a service that is set up wrongly. Kafka may be away."""
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(_LONGEST_LOOK_AT_TOPICS):
                await self._topics_found.verify(self._topics)

    async def _verify_topics(self) -> None:
        for attempt in range(2**31):
            if self.stopping.is_set():
                return
            try:
                if less := await self._topics_found.verify(self._topics):
                    log.warning("topics keep less than the contracts say", topics=less)
                return
            except (KafkaError, OSError) as error:
                await self.bus.tell_away(error)
                await asyncio.sleep(backoff(attempt, 0.2))

    def _relaying(self) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
        relay = self._relay
        return [] if relay is None else [("relay", lambda: relay.run(self.stopping))]

    def observe(self) -> None:
        """What is measured when somebody asks."""
        self.bus.observe()
        if self._relay is not None:
            self._relay.observe()

    async def _compare_clocks(self) -> None:
        """Who does not agree on the time texts people at night, and holds leases that others think over."""
        ahead = self.metrics.clock_ahead
        while not self.stopping.is_set():
            asked = real_now()
            theirs = await self.mongo.server_time()
            seconds = surely_ahead(asked, theirs, real_now())
            ahead.set(seconds)
            if abs(seconds) > CLOCKS_MAY_DIFFER:
                log.warning("this machine's clock is not the database's", ahead_seconds=round(seconds, 1))
            await rest(self.stopping, _COMPARE_CLOCKS_EVERY)

    async def _look_again(self) -> None:
        while not self.stopping.is_set():
            await rest(self.stopping, self._look_every)
            try:
                for look in self._looks:
                    await look()
            except BadSettings as wrong:
                self.failure = wrong
                self.stopping.set()

    def failing(self) -> list[str]:
        """Background tasks that keep failing for reasons of their own, not while a dependency is away."""
        return sorted(name for name, failures in self._own_failures.items() if failures >= ILL_AFTER)

    async def _keep(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        gauge = self.metrics.background_failures.labels(name)
        gauge.set(0)
        starts = 0
        while not self.stopping.is_set():
            watch = asyncio.create_task(self._calm(name))
            began = asyncio.get_running_loop().time()
            try:
                await run()
                if self.stopping.is_set():
                    return
            except Stopping:
                return
            except _DEPENDENCIES as error:
                log.warning("a background task waits", task=name, error=repr(error)[:200])
                self.metrics.waits.labels(name, type(error).__name__).inc()
            except Exception:
                self._own_failures[name] += 1
                gauge.set(self._own_failures[name])
                log.exception("a background task failed", task=name, in_a_row=self._own_failures[name])
            finally:
                watch.cancel()
            starts = 0 if asyncio.get_running_loop().time() - began > self.calm_seconds else starts + 1
            await rest(self.stopping, backoff(starts))

    async def _calm(self, name: str) -> None:
        """Forget the failures of a task once it has run long enough without another."""
        await asyncio.sleep(self.calm_seconds)
        self._own_failures[name] = 0
        self.metrics.background_failures.labels(name).set(0)

    async def _drain(self, starting: asyncio.Task[None], server: Any, http: asyncio.Task[None]) -> None:
        """Stop taking, finish what is in hand, publish what was written, close."""
        began = asyncio.get_running_loop().time()
        self.stopping.set()
        await end(starting)
        server.should_exit = True
        await self.bus.stop()
        await asyncio.gather(http, return_exceptions=True)
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=self.settings.drain_seconds)
            for task in left:
                log.warning("a background task did not stop in time", task=task.get_name())
            await end(*self._tasks)
        for close in self._closers:
            await close()
        await self.producer.close()
        await self.mongo.close()
        log.info("stopped", seconds=round(asyncio.get_running_loop().time() - began, 2))


def surely_ahead(asked: datetime, theirs: datetime, answered: datetime) -> float:
    """Seconds by which our clock is ahead (negative: behind) wherever between asking and being answered
    theirs was read: a slow machine or a slow database is no wrong clock. Theirs comes cut to milliseconds."""
    if theirs + timedelta(milliseconds=1) <= asked:
        return (asked - theirs).total_seconds()
    return min((answered - theirs).total_seconds(), 0.0)


def run_service(name: str, settings_class: type[Settings], build: Callable[[Settings], Service]) -> None:
    """The entry point of a service process: exit 0 after a drain, 78 for what only a person can mend."""
    try:
        settings = settings_class.from_environment()
        FAILPOINTS.arm(settings.failpoints, settings.failpoint_journal)
    except (BadSettings, UnknownFailpointAction) as wrong:
        sys.exit(_say(name, wrong))
    configure_logs(name, settings.instance, settings.log_format, settings.log_level)
    configure_tracing(name, settings.instance)

    async def main() -> BaseException | None:
        service = build(settings)
        FAILPOINTS.announce()
        spare_the_collector()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, service.stopping.set)
        async with service.running():
            await service.stopping.wait()
        return service.failure

    try:
        import uvloop

        failure = uvloop.run(main())
    except (BadSettings, PortTaken, UnknownFailpoint) as wrong:
        failure = wrong
    match failure:
        case None:
            return
        case OperationFailure():
            sys.exit(
                _say(name, f"MongoDB at MONGO_URL refuses: {(failure.details or {}).get('errmsg', failure)}")
            )
        case BadSettings() | WrongTopics() | ConfigurationError() | PortTaken() | UnknownFailpoint():
            sys.exit(_say(name, failure))
        case _:
            log.error("the service failed", exc_info=failure)
            sys.exit(1)


def spare_the_collector() -> None:
    """A batch is thousands of young objects that die together: at the default threshold the collector
    walks them a hundred times a second and finds nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _say(name: str, wrong: object) -> int:
    sys.stderr.write(f"parley-{name}: {wrong}\n")
    return EXIT_CONFIGURATION
