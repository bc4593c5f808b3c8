"""Settings, logs, clock, topics: what a process needs before it does anything."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gaierror
from typing import Literal

import pytest
import uvloop
from pydantic import Field
from pymongo.errors import AutoReconnect

import activities.settings
import batch_loader.settings
from contracts.catalogue import CHANNELS
from contracts.message import DAY_MS, Topic
from servicekit.brokers import why_away
from servicekit.clock import DrivenClock, SystemClock, real_now
from servicekit.failpoints import Failpoints, InjectedFault, UnknownFailpoint, UnknownFailpointAction
from servicekit.logs import Repeats, mask, mask_personal_data
from servicekit.mongo import Mongo
from servicekit.producer import Outgoing, Producer
from servicekit.service import Service, surely_ahead
from servicekit.settings import BadSettings, Listed, Names, ServiceSettings, brokers_named, without_login
from servicekit.topics import Topics, WrongTopics
from tests.engines import Engines
from tests.kit import eventually

NOWHERE = f"{'x' * 64}.example"
"""A name that has no address, whatever the names of this machine come from."""


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ("127.0.0.1:9,localhost:9", "ConnectionError"),
        (f"{NOWHERE}:9092", f"ConnectionError; there is no address for {NOWHERE}"),
        (f"127.0.0.1:9,{NOWHERE}:9,{NOWHERE}:1", f"ConnectionError; there is no address for {NOWHERE}"),
    ],
)
async def test_names_of_brokers_without_an_address_are_told(servers: str, why: str) -> None:
    assert await why_away(servers, ConnectionError()) == why


def test_an_unknown_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_MONGO_DRVER", "motor")
    with pytest.raises(BadSettings, match=r"unknown setting PARLEY_MONGO_DRVER; this service knows PARLEY_"):
        ServiceSettings.from_environment()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PARLEY_PORT", "abc", "PARLEY_PORT='abc'"),
        ("PARLEY_PORT", "70000", "less than or equal to 65535"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka", "KAFKA_BOOTSTRAP_SERVERS='kafka': brokers as HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,", "KAFKA_BOOTSTRAP_SERVERS='kafka:9092,'"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:99999", "='kafka:99999': brokers as HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:65536", "='a:9092,b:65536': brokers as HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:0", "='kafka:0': brokers as HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092; b:9092 ", "KAFKA_BOOTSTRAP_SERVERS='a:9092; b:9092 '"),
        ("KAFKA_BOOTSTRAP_SERVERS", "ann:secret@kafka:9092", "KAFKA_BOOTSTRAP_SERVERS='***@kafka:9092'"),
        ("MONGO_URL", "http://somewhere:27017/x", "MONGO_URL='http://somewhere:27017/x': it is an"),
        ("MONGO_URL", "http://ann:secret@somewhere", "MONGO_URL='***@somewhere'"),
        ("MONGO_URL", "mongodb:/ann:secret@somewhere", "MONGO_URL='***@somewhere'"),
        ("MONGO_URL", "mongo://ann:secret/r@t@somewhere", "MONGO_URL='***@somewhere'"),
        ("MONGO_URL", "ann:secret@somewhere", "MONGO_URL='***@somewhere'"),
        ("MONGO_URL", "mongodb://ann:secret/x@somewhere", "MONGO_URL='***@somewhere': it is an address such"),
        ("MONGO_URL", "mongodb://ann:secret%ret@somewhere", "is escaped, as %2F for a slash"),
        ("MONGO_URL", "mongodb://ann:secret@", "MONGO_URL='***@'"),
        ("MONGO_URL", "mongodb://ann:secret%2Fret/@somewhere", "MONGO_URL='***@somewhere'"),
        ("MONGO_URL", "mongodb://ann:secret%40somewhere:27017/", "MONGO_URL='***'"),
        ("MONGO_URL", "mongodb://ann:secret#somewhere:27017", "MONGO_URL='***'"),
        ("MONGO_URL", "mongodb://ann:secret", "MONGO_URL='***'"),
        ("MONGO_URL", "mongodb:/ann:secret", "MONGO_URL='***'"),
        ("MONGO_URL", "mongodb://ann:12!secret", "MONGO_URL='***'"),
        ("MONGO_URL", "mongodb://there:99999/?tlsCertificateKeyFilePassword=secret", "there:99999/?tls"),
        ("MONGO_URL", "http://ann:s@h/?authMechanismProperties=TOKEN:secret&w=1", "Properties=***&w=1"),
        ("MONGO_URL", "mongodb://somewhere/?tlsCAFile=/not/there", "No such file or directory: '/not/there'"),
        ("MONGO_URL", "mongodb://ann:secret?ret@there/?w=1", "MONGO_URL='***@there/?w=1'"),
        ("PARLEY_NAMESPACE", "Big_One", "at most 40 small letters, digits and hyphens"),
        ("PARLEY_MONGO_DRIVER", "mongoose", "'motor' or 'pymongo'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=r"^[^\n]+$") as refused:
        ServiceSettings.from_environment()
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


class Settings(ServiceSettings):
    words: Names = ("sms",)
    keys: Listed = Field(default=(), repr=False)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("sms,postcard", ("sms", "postcard")),
        ("sms", ("sms",)),
        ("", ()),
        ('["sms","postcard"]', ("sms", "postcard")),
        ('[ "sms", "postcard" ]', ("sms", "postcard")),
        ("[]", ()),
        ("sms, postcard", ("sms", "postcard")),
        (" sms ,\tpostcard\n", ("sms", "postcard")),
        (' ["sms ", " postcard"]', ("sms", "postcard")),
        (" ", ()),
    ],
)
def test_a_list_has_commas_and_may_be_json(
    monkeypatch: pytest.MonkeyPatch, told: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PARLEY_WORDS", told)
    assert Settings.from_environment().words == words


@pytest.mark.parametrize("service", [activities.settings.Settings, batch_loader.settings.Settings])
@pytest.mark.parametrize(
    ("told", "channels"),
    [("", CHANNELS), (" ", CHANNELS), ("[]", CHANNELS), ("postcard, e-mail", ("postcard", "e-mail"))],
)
def test_who_is_told_of_no_channel_has_those_of_the_catalogue(
    monkeypatch: pytest.MonkeyPatch,
    service: type[activities.settings.Settings | batch_loader.settings.Settings],
    told: str,
    channels: tuple[str, ...],
) -> None:
    monkeypatch.setenv("PARLEY_CHANNELS", told)
    assert service.from_environment().channels == channels


@pytest.mark.parametrize("service", [activities.settings.Settings, batch_loader.settings.Settings])
@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("sms, post_card", "sms, post_card"),
        ("sms," + "x" * 32, "sms," + "x" * 32),
        ("sms,", "sms,"),
        ("[1]", "[1]"),
        ("sms,ann:secret@there", "***@there"),
    ],
)
def test_a_channel_that_no_message_could_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, service: type[ServiceSettings], told: str, shown: str
) -> None:
    monkeypatch.setenv("PARLEY_CHANNELS", told)
    with pytest.raises(BadSettings, match=r"^[^\n]+$") as refused:
        service.from_environment()
    rule = "names with commas between them, each of at most 31 small letters, digits and hyphens"
    assert str(refused.value).startswith(f"PARLEY_CHANNELS={shown!r}: {rule}")


@pytest.mark.parametrize(
    ("told", "keys"),
    [
        (" a, b", (" a", " b")),
        ('[" a"]', (" a",)),
        (" ", (" ",)),
        ("", ()),
        ("[" * 60_000, ("[" * 60_000,)),
    ],
)
def test_a_list_of_secrets_keeps_its_blanks(
    monkeypatch: pytest.MonkeyPatch, told: str, keys: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PARLEY_KEYS", told)
    assert Settings.from_environment().keys == keys


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("sms,Postcard", "sms,Postcard"),
        ("sms,", "sms,"),
        ('["sms"', '["sms"'),
        ("[1]", "[1]"),
        ('["sms",{"a":1}]', '["sms",{"a":1}]'),
        ('{"a":1}', '{"a":1}'),
        ("sms, post card", "sms, post card"),
        ("sms post$card", "sms post$card"),
        (" , ", " , "),
        ("ann:secret@there", "***@there"),
        ("sms, ann:secret@there", "***@there"),
        ("[" * 60_000, "[" * 60_000),
    ],
)
def test_what_is_no_list_is_one_sentence_with_the_rule(
    monkeypatch: pytest.MonkeyPatch, told: str, shown: str
) -> None:
    monkeypatch.setenv("PARLEY_WORDS", told)
    with pytest.raises(BadSettings, match=r"^[^\n]+$") as refused:
        Settings.from_environment()
    assert str(refused.value).startswith(f"PARLEY_WORDS={shown!r}: names with commas between them, such as ")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PARLEY_CHANNELS", '{"a":1}', "PARLEY_CHANNELS='{\"a\":1}': names with commas between them"),
        ("PARLEY_FAILPOINTS", "outbox.sent=kil", "failpoint 'outbox.sent=kil': expected name="),
        ("PARLEY_FAILPOINTS", "outbox.sent=kill@\u00b2", "kill|stop|error, optionally with @hit"),
    ],
)
def test_a_process_that_is_told_nonsense_says_so_and_ends(name: str, value: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from activities.main import run; run()"],
        env={name: value, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert said in done.stderr


@pytest.mark.parametrize("servers", ["kafka:1", "a:9092,b:19092", "kafka.test:65535", "a:60000,b:59999"])
def test_every_port_is_taken(monkeypatch: pytest.MonkeyPatch, servers: str) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    assert ServiceSettings.from_environment().kafka_bootstrap_servers == brokers_named() == servers


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "mongodb://[::1]:27017,b/?readPreferenceTags=dc:n",
            "mongodb://[::1]:27017,b/?readPreferenceTags=dc:n",
        ),
        ("mongodb+srv://ann:p%2Fq@there.test/x?w=1", "mongodb+srv://***@there.test/x?w=1"),
        ("mongodb://there/?sslPassword=p&w=1", "mongodb://there/?sslPassword=***&w=1"),
        ("mongodb://ann:12345/pa:ss", "***"),
        ("mongodb://ann:12345/pa$s", "***"),
        ("mongodb://ann:12345/pa s", "***"),
    ],
)
def test_an_address_is_shown_without_its_login(url: str, shown: str) -> None:
    assert without_login(url) == shown


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mongodb+srv://ann:secret%ret@somewhere", "='mongodb+srv://***@somewhere': it is an address"),
        ("mongodb+srv://somewhere.test/?tlsCAFile=/not/there", "cannot be used: "),
    ],
)
async def test_an_address_of_which_no_client_can_be_made_is_one_sentence(
    url: str, said: str, driver: Literal["motor", "pymongo"]
) -> None:
    with pytest.raises(BadSettings, match=r"^MONGO_URL[^\n]+$") as refused:
        Mongo(url, "ears", driver)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_what_is_written_is_on_the_disks_of_most_before_it_is_called_written(
    engines: Engines, driver: Literal["motor", "pymongo"]
) -> None:
    mongo = Mongo(engines.mongo, "ears", driver)
    for written_to in (mongo.database, mongo["ears"]):
        assert written_to.write_concern.document == {"w": "majority", "j": True}
    await mongo.close()


def test_a_process_that_lost_a_consumer_ends_so_that_it_is_started_again(engines: Engines) -> None:
    program = """
from servicekit.bus import LostConsumer
from servicekit.service import Service, run_service
from servicekit.settings import ServiceSettings

def build(settings):
    service = Service("ears", settings)
    service.failure = LostConsumer("ears.hear took nothing for 120 s")
    service.stopping.set()
    return service

run_service("ears", ServiceSettings, build)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"KAFKA_BOOTSTRAP_SERVERS": engines.kafka, "MONGO_URL": engines.mongo, "PARLEY_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, "neither a success nor a configuration that only a person can mend"
    assert "ears.hear took nothing for 120 s" in done.stdout + done.stderr


def test_logs_show_no_personal_data() -> None:
    event = {
        "event": "sent",
        "text": "secret words",
        "error": "refused for +15550100123 and ann@example.org at mongodb://me:pass@host/",
        "nested": {"phone": "+15550100123", "fine": 1},
    }
    shown = str(mask_personal_data(None, "info", event))
    assert "secret" not in shown
    assert "0100123" not in shown
    assert "ann@" not in shown
    assert "pass" not in shown
    assert mask("call 12345") == "call 12345"


def test_a_library_that_repeats_itself_is_heard_once_and_then_how_often() -> None:
    def said(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
        wrong = (ValueError, ValueError("a bug"), None) if error else None
        return logging.LogRecord("aiokafka", logging.ERROR, "file", 1, message, arguments, wrong)

    repeats = Repeats(seconds=0.2)
    away, bug = said("Unable connect to node with id %s: %s", 1, "refused"), said("Unable to decode")
    assert repeats.filter(away)
    assert repeats.filter(bug)
    assert (away.levelname, bug.levelname) == ("WARNING", "ERROR")
    lost = said("Heartbeat session expired - marking coordinator dead")
    assert repeats.filter(lost)
    assert lost.levelname == "WARNING"
    heard = [repeats.filter(said("no node %s", number)) for number in range(5)]
    assert heard == [True, False, False, False, False]
    assert repeats.filter(said("something else"))
    assert all(repeats.filter(said("no node %s", 1, error=True)) for _ in range(2))
    unmade = logging.LogRecord(
        "asyncio", 40, "file", 1, "never retrieved", (), (OSError, OSError("dns"), None)
    )
    assert [repeats.filter(unmade) for _ in range(2)] == [True, False]
    assert unmade.exc_info is None
    task = "Task exception was never retrieved"
    assert repeats.filter(
        logging.LogRecord("asyncio", 40, "file", 1, task, (), (gaierror, gaierror(-2, "dns"), None))
    )
    time.sleep(0.25)
    again = said("no node %s", 5)
    assert repeats.filter(again)
    assert vars(again)["left_out"] == 4


def test_a_lookup_that_was_given_up_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever gives up says so; in an outage of a broker whose name is gone with it, that is everybody."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(Repeats())

    async def give_up() -> None:
        producer = Producer("nowhere.invalid:9092", "test")
        assert await producer.publish([Outgoing("word-said", None, b"word", [])], timeout=0)
        await producer.close()

        async def complained() -> bool:
            gc.collect()
            return "Future exception was never retrieved" in caplog.text

        await eventually(complained, "asyncio to complain of the lookup")

    logging.getLogger("asyncio").addHandler(handler)
    try:
        uvloop.run(give_up())
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert "gaierror" in caplog.text
    assert written.getvalue() == ""


async def test_a_driven_clock_is_the_same_in_every_hand(tmp_path: Path) -> None:
    mine, theirs = DrivenClock(tmp_path / "clock"), DrivenClock(tmp_path / "clock")
    assert abs(mine.now() - SystemClock().now()) < timedelta(seconds=5)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    mine.set(noon, rate=0)
    theirs.look_every = 0
    assert mine.now() == theirs.now() == noon
    mine.set(noon - timedelta(days=1), rate=0)
    assert theirs.now() == noon - timedelta(days=1)
    mine.set(noon, rate=3600)
    await theirs.sleep(60)
    assert theirs.now() >= noon + timedelta(minutes=1)


def test_failpoints_act_at_the_named_hit_only(tmp_path: Path) -> None:
    points = Failpoints()
    points.arm("a.b=error@2", tmp_path / "journal")
    points.reach("a.b")
    points.reach("other")
    assert points.waiting() == ["a.b"]
    with pytest.raises(InjectedFault):
        points.reach("a.b")
    assert points.waiting() == []
    points.reach("a.b")
    assert (tmp_path / "journal").read_text().split("\n") == ["a.b reached", "other reached", "a.b error", ""]
    with pytest.raises(UnknownFailpointAction, match=r"expected name=kill"):
        points.arm("a.b=explode")


def test_a_process_says_which_failpoints_it_has_and_refuses_others(tmp_path: Path) -> None:
    points = Failpoints()
    points.declared |= {"b.c", "a.b"}
    points.arm("a.b=kill", tmp_path / "journal")
    points.announce()
    assert (tmp_path / "journal").read_text().splitlines() == ["a.b declared", "b.c declared"]
    points.arm("misspelled=kill")
    with pytest.raises(UnknownFailpoint, match="no failpoint misspelled"):
        points.announce()
    points.disarm()
    assert points.declared == {"a.b", "b.c"}


async def test_topics_that_differ_are_named(engines: Engines, namespace: str) -> None:
    topics = Topics(engines.kafka, namespace)
    await topics.create([Topic("right"), Topic("few", partitions=3), Topic("state", compacted=True)])
    assert await topics.create([Topic("right")]) == []
    assert await topics.verify([Topic("right"), Topic("state", compacted=True)]) == []
    assert await topics.verify([Topic("right", retention_days=8)]) == [
        f"topic {namespace}.right has retention.ms={7 * DAY_MS} instead of {8 * DAY_MS}"
    ]
    assert await topics.verify([Topic("right", retention_days=6)]) == []
    await topics.create([Topic("small")], retention_bytes=1024**3)
    assert await topics.verify([Topic("small")], {"retention.bytes": str(1024**3)}) == []
    assert await topics.verify([Topic("small"), Topic("right")], {"retention.bytes": "-1"}) == [
        f"topic {namespace}.small has retention.bytes={1024**3} instead of -1"
    ]
    with pytest.raises(WrongTopics) as wrong:
        await topics.verify([Topic("few"), Topic("absent"), Topic("state")])
    faults = sorted(wrong.value.faults)
    assert f"topic {namespace}.absent does not exist; create it as `parley setup --help` says" in faults
    assert f"topic {namespace}.few has 3 partitions instead of 12" in faults
    assert f"topic {namespace}.state has cleanup.policy=compact instead of delete" in faults


async def test_a_service_that_lacks_what_its_database_needs_ends(engines: Engines, namespace: str) -> None:
    settings = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, port=0, namespace=namespace
    )
    service = Service("keyless", settings)

    async def look() -> None:
        raise BadSettings("a key is missing")

    service.requires(look)
    async with service.running(), asyncio.timeout(30):
        await service.stopping.wait()
    assert isinstance(service.failure, BadSettings)
    assert not service.ready.is_set()


async def test_a_service_that_loses_its_database_while_it_starts_waits(
    engines: Engines, namespace: str
) -> None:
    settings = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, port=0, namespace=namespace
    )
    service = Service("keyless", settings)
    answers = iter((AutoReconnect("operation cancelled"), None))

    async def look() -> None:
        if lost := next(answers):
            raise lost

    service.requires(look)
    async with service.running(), asyncio.timeout(30):
        await service.ready.wait()
    assert service.failure is None


async def test_a_service_that_comes_to_lack_it_ends_too(engines: Engines, namespace: str) -> None:
    settings = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, port=0, namespace=namespace
    )
    service = Service("keyless", settings)

    async def look() -> None:
        if service.ready.is_set():
            raise BadSettings("a key is missing")

    service.requires(look, every=0.05)
    async with service.running(), asyncio.timeout(30):
        await service.stopping.wait()
    assert isinstance(service.failure, BadSettings)


async def test_a_service_without_its_topics_leaves_the_database_as_it_was(
    engines: Engines, namespace: str
) -> None:
    settings = ServiceSettings(
        kafka_bootstrap_servers=engines.kafka, mongo_url=engines.mongo, port=0, namespace=namespace
    )
    service = Service("lost", settings)
    service.indexes("things", ())
    service.requires_topics([Topic("nowhere")])
    async with service.running(), asyncio.timeout(30):
        await service.stopping.wait()
    assert isinstance(service.failure, WrongTopics)
    mongo = Mongo(engines.mongo, service.settings.database("lost"))
    assert await mongo.database.list_collection_names() == []
    await mongo.close()


async def test_how_far_its_clock_is_ahead_of_the_databases_is_measured() -> None:
    service = Service("clocked", ServiceSettings(port=0))

    async def an_hour_ago() -> datetime:
        return real_now() - timedelta(hours=1)

    service.mongo.server_time = an_hour_ago  # type: ignore[method-assign]
    comparing = asyncio.create_task(service._compare_clocks())

    async def told() -> bool:
        return round(service.metrics.registry.get_sample_value("parley_clock_ahead_seconds") or 0) == 3600

    await eventually(told)
    comparing.cancel()
    await service.mongo.close()


def test_only_a_clock_that_surely_differs_is_told_to() -> None:
    asked = datetime(2026, 1, 5, 12, tzinfo=UTC)

    def ahead(theirs: float, answered: float) -> float:
        return surely_ahead(asked, asked + timedelta(seconds=theirs), asked + timedelta(seconds=answered))

    assert ahead(theirs=20, answered=40) == 0, "a slow answer is no wrong clock"
    assert ahead(theirs=0, answered=0.01) == 0
    assert ahead(theirs=-7, answered=0.01) == 7
    assert ahead(theirs=9, answered=1) == -8
