"""Apache Kafka and MongoDB in containers, on ports that are the same inside and outside.

`KAFKA_IMAGE` and `MONGO_IMAGE` name other images. The containers are removed when the suite ends; set
`TESTCONTAINERS_RYUK_DISABLED=false` to have them removed even when it is killed (needs the image of Ryuk).
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from cli.engines import ports

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_PATIENCE = 120.0


@contextmanager
def kafka() -> Iterator[str]:
    """A broker that is its own controller; gives its bootstrap servers."""
    port = ports.choose("broker")
    container = _container(os.environ.get("KAFKA_IMAGE") or "apache/kafka:4.1.0", port)
    for name, value in _kafka_settings(port).items():
        container = container.with_env(name, value)
    with container:
        _wait(lambda: _kafka_answers(port), "Kafka", container)
        yield f"{ports.LOOPBACK}:{port}"


@contextmanager
def mongo() -> Iterator[str]:
    """A replica set of one; gives its URL."""
    port = ports.choose("database")
    command = (
        f"--replSet rs0 --bind_ip_all --port {port} --wiredTigerCacheSizeGB 1"
        " --setParameter transactionLifetimeLimitSeconds=15"
    )
    container = _container(os.environ.get("MONGO_IMAGE") or "mongo:6.0", port).with_command(command)
    with container, _direct_client(port) as client:
        _wait(lambda: _mongo_answers(client), "MongoDB", container)
        members = [{"_id": 0, "host": f"{ports.LOOPBACK}:{port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        _wait(lambda: _mongo_is_primary(client), "the primary of MongoDB", container)
        yield f"mongodb://{ports.LOOPBACK}:{port}/?replicaSet=rs0"


def _container(image: str, port: int) -> "DockerContainer":
    # testcontainers reads these when it is imported.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", ports.LOOPBACK)
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image)
    # `with_bind_ports` takes no address, and would offer an engine without a password to the whole network.
    container.ports[str(port)] = (ports.LOOPBACK, port)  # type: ignore[assignment]
    return container


def _kafka_settings(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{ports.LOOPBACK}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_HEAP_OPTS": "-Xms256m -Xmx768m",
    }


def _direct_client(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient(ports.LOOPBACK, port, directConnection=True, serverSelectionTimeoutMS=500)


def _wait(ready: Callable[[], bool], what: str, container: "DockerContainer") -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            output = b"\n".join(container.get_logs()).decode(errors="replace")
            raise TimeoutError(
                f"{what} did not answer within {_PATIENCE:.0f} s; its last output: {output[-2000:]}"
            )
        time.sleep(0.2)


def _kafka_answers(port: int) -> bool:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    with suppress(KafkaError, OSError):
        admin = KafkaAdminClient(bootstrap_servers=f"{ports.LOOPBACK}:{port}", request_timeout_ms=2000)
        admin.close()
        return True
    return False


def _mongo_answers(client: MongoClient[dict[str, Any]]) -> bool:
    with suppress(PyMongoError):
        client.admin.command("ping")
        return True
    return False


def _mongo_is_primary(client: MongoClient[dict[str, Any]]) -> bool:
    with suppress(PyMongoError):
        return bool(client.admin.command("hello")["isWritablePrimary"])
    return False
