"""Topics are made on purpose, with their settings, and found as they were made; or the service says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from contracts.message import Topic

_CHECKED = ("cleanup.policy",)
_LEAST = ("retention.ms", "delete.retention.ms", "retention.bytes", "max.message.bytes")
_UNLIMITED = -1

_KNOWN_WITHIN_SECONDS = 30.0


class WrongTopics(Exception):
    """Topics are missing or differ from what the contracts say."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Topics:
    """The topics of one deployment on one cluster."""

    def __init__(self, bootstrap_servers: str, namespace: str = "") -> None:
        self._servers = bootstrap_servers
        self._prefix = f"{namespace}." if namespace else ""

    async def create(
        self, topics: Iterable[Topic], replication: int = 1, retention_bytes: int | None = None
    ) -> list[str]:
        """Create what is missing; returns the names created. An existing topic is left as it is.

        retention_bytes: the most of a partition of what is not compacted; what is older goes then, even if
        nobody has read it. None: as much as comes in its days.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            wanted = {self._prefix + topic.name: topic for topic in topics}
            missing = {name: topic for name, topic in wanted.items() if name not in existing}
            if not missing:
                return []
            settings = {"min.insync.replicas": "2"} if replication >= 3 else {}
            limit = {} if retention_bytes is None else {"retention.bytes": str(retention_bytes)}
            answer = await admin.create_topics(
                [
                    NewTopic(
                        name=name,
                        num_partitions=topic.partitions,
                        replication_factor=replication,
                        topic_configs=topic.settings() | settings | ({} if topic.compacted else limit),
                    )
                    for name, topic in missing.items()
                ]
            )
            faults = []
            for name, code, *rest in answer.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    faults.append(f"topic {name} was not created: {error.__name__} {rest[0] if rest else ''}")
            if faults:
                raise WrongTopics(faults)
            await _until_known(admin, missing.keys())
            return sorted(missing)
        finally:
            await admin.close()

    async def verify(self, topics: Iterable[Topic], limits: dict[str, str] | None = None) -> list[str]:
        """Raises WrongTopics naming each difference that cannot be lived with.

        Returns, in words, which topics keep less, or shorter, than the contracts say: somebody's choice, or
        from before a release. limits: what was asked for beside the contracts, of what is not compacted.
        """
        wanted = {self._prefix + topic.name: topic for topic in topics}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            faults = [
                f"topic {name} does not exist; create it as `parley setup --help` says"
                for name in sorted(wanted.keys() - existing)
            ]
            present = sorted(wanted.keys() & existing)
            for described in await admin.describe_topics(present) if present else ():
                expected, found = wanted[described["topic"]].partitions, len(described["partitions"])
                if found != expected:
                    faults.append(f"topic {described['topic']} has {found} partitions instead of {expected}")
            expected_of = {
                name: wanted[name].settings() | ({} if wanted[name].compacted else limits or {})
                for name in present
            }
            wrong, less = await self._unlike(admin, expected_of)
            if faults := faults + wrong:
                raise WrongTopics(faults)
            return less
        finally:
            await admin.close()

    async def _unlike(
        self, admin: AIOKafkaAdminClient, expected_of: Mapping[str, Mapping[str, str]]
    ) -> tuple[list[str], list[str]]:
        """Topic -> settings. What is wrong, and what is less than expected."""
        wrong: list[str] = []
        less: list[str] = []
        if not expected_of:
            return wrong, less
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in expected_of]
        for answer in await admin.describe_configs(resources):
            for _, _, _, name, entries in answer.resources:
                found = {entry[0]: entry[1] for entry in entries}
                expected = expected_of[name]
                differing = [key for key in expected if key in found and found[key] != expected[key]]
                for key in differing:
                    said = f"topic {name} has {key}={found[key]} instead of {expected[key]}"
                    if key in _CHECKED:
                        wrong.append(said)
                    elif key in _LEAST and _is_less(int(found[key]), int(expected[key])):
                        less.append(said)
        return wrong, less


def _is_less(found: int, expected: int) -> bool:
    return found != _UNLIMITED and (expected == _UNLIMITED or found < expected)


async def existing_topics(servers: str) -> set[str]:
    """The names of all topics that the cluster has."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def partitions_of(servers: str, topics: Iterable[str]) -> list[TopicPartition]:
    """Of those topics that exist. A consumer cannot be asked: Kafka tells it of subscribed topics only."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], number)
        for topic in described
        for number in sorted(partition["partition"] for partition in topic["partitions"])
    ]


async def _until_known(admin: AIOKafkaAdminClient, names: Collection[str]) -> None:
    """The controller has made them; a broker hears of it a little later, and until then denies them."""
    until = time.monotonic() + _KNOWN_WITHIN_SECONDS
    while missing := set(names) - set(await admin.list_topics()):
        if time.monotonic() > until:
            raise WrongTopics([f"topic {name} was created and is not to be seen" for name in sorted(missing)])
        await asyncio.sleep(0.05)
