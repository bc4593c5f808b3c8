"""AsyncAPI 3 documents, derived from the catalogue: one per service, and one for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from contracts import catalogue
from contracts.message import REQUIRED_HEADERS, Message, Topic, wire_headers
from contracts.samples import sample, sample_body
from contracts.schemas import shared_schemas

Part = dict[str, Any]

KAFKA_BINDING = "0.5.0"
SAMPLE_TIME = "2026-11-23T15:04:05Z"
SAMPLE_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_ABOUT = (
    "Derived from the message catalogue. Envelopes: CloudEvents 1.0 in Kafka binary mode. Bodies: JSON. "
    "Within a version only optional fields are added; readers ignore fields they do not know. "
    "Delivery is at least once: two deliveries of one fact have the same `ce_id`. "
    "Order holds for each key, if all who publish choose its partition by Kafka's murmur2, as the Java "
    "client, aiokafka and kafkajs do by themselves; librdkafka needs `partitioner=murmur2_random`. "
    "A deployment with a namespace puts `<namespace>.` in front of every address."
)

_PARTITION = "Its partition is Kafka's murmur2 of it (librdkafka: `partitioner=murmur2_random`)."


def asyncapi_document(service: str) -> Part:
    """What one service sends and receives. Raises ValueError for a service nobody knows."""
    if service not in catalogue.services():
        raise ValueError(f"no message names the service {service!r}: {', '.join(catalogue.services())}")
    return _document(f"Parley {service}", f"urn:parley:{service}", (service,))


def merged_document() -> Part:
    """Every service and every topic in one document."""
    return _document("Parley", "urn:parley", catalogue.services())


def _document(title: str, id_: str, services: Sequence[str]) -> Part:
    messages = [m for m in catalogue.MESSAGES if _concerns(m, services)]
    read = _by_topic(m for m in messages if set(services) & set(m.wire.read_by))
    return {
        "asyncapi": "3.0.0",
        "id": id_,
        "info": {
            "title": title,
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port"}},
            }
        },
        "channels": {
            **{_id(topic): _channel(topic, listed) for topic, listed in _by_topic(messages).items()},
            **{_id(catalogue.dead_letters_of(topic)): _dead_letter_channel(topic) for topic in read},
        },
        "operations": {
            name: operation for service in services for name, operation in _operations(service).items()
        },
        "components": {
            "messages": {
                **{m.__name__: _message(m) for m in messages},
                **({"Tombstone": _tombstone()} if any(m.wire.topic.compacted for m in messages) else {}),
                **({"DeadLetter": _dead_letter()} if read else {}),
            },
            "schemas": {
                **shared_schemas(messages, "#/components/schemas/{model}"),
                "CloudEventHeaders": _cloud_event_headers(),
                **({"DeadLetterHeaders": _dead_letter_headers()} if read else {}),
            },
        },
    }


def _concerns(message: type[Message], services: Sequence[str]) -> bool:
    return bool(set(services) & {*message.wire.read_by, *message.wire.published_by})


def _by_topic(messages: Iterable[type[Message]]) -> dict[Topic, list[type[Message]]]:
    by_topic: dict[Topic, list[type[Message]]] = {}
    for message in messages:
        by_topic.setdefault(message.wire.topic, []).append(message)
    return by_topic


def _channel(topic: Topic, messages: Sequence[type[Message]]) -> Part:
    kept = (
        "Compacted: the last state of each key is kept; a tombstone means that it was erased."
        if topic.compacted
        else f"Kept for {topic.retention_days} days."
    )
    channel: Part = {
        "address": topic.name,
        "description": kept,
        "messages": {m.__name__: {"$ref": f"#/components/messages/{m.__name__}"} for m in messages},
        "bindings": {"kafka": _topic_binding(topic)},
    }
    if topic.compacted:
        channel["messages"]["Tombstone"] = {"$ref": "#/components/messages/Tombstone"}
    return _with_parameters(channel, topic)


def _dead_letter_channel(topic: Topic) -> Part:
    letters = catalogue.dead_letters_of(topic)
    channel: Part = {
        "address": letters.name,
        "description": f"What could not be handled from {topic.name}, with where it came from and why.",
        "messages": {"DeadLetter": {"$ref": "#/components/messages/DeadLetter"}},
        "bindings": {"kafka": _topic_binding(letters)},
    }
    return _with_parameters(channel, letters)


def _with_parameters(channel: Part, topic: Topic) -> Part:
    if topic.is_template:
        channel["parameters"] = {
            "channel": {
                "description": "One topic per channel; these ship with Parley, others are configuration.",
                "examples": list(catalogue.CHANNELS),
                "default": catalogue.CHANNELS[0],
            }
        }
    return channel


def _topic_binding(topic: Topic) -> Part:
    settings = topic.settings()
    configuration: Part = {"cleanup.policy": [settings["cleanup.policy"]]}
    for name in ("retention.ms", "delete.retention.ms", "max.message.bytes"):
        if name in settings:
            configuration[name] = int(settings[name])
    binding: Part = {
        "partitions": topic.partitions,
        "topicConfiguration": configuration,
        "bindingVersion": KAFKA_BINDING,
    }
    return binding if topic.is_template else {"topic": topic.name, **binding}


def _operations(service: str) -> dict[str, Part]:
    read, published = _by_topic(catalogue.read_by(service)), _by_topic(catalogue.published_by(service))
    listed = [
        *(_operation("receive", topic, _names(topic, messages)) for topic, messages in read.items()),
        *(_operation("send", topic, _names(topic, messages)) for topic, messages in published.items()),
        *(_operation("send", catalogue.dead_letters_of(topic), ["DeadLetter"]) for topic in read),
    ]
    return {f"{service}-{name}": operation for name, operation in listed}


def _names(topic: Topic, messages: Iterable[type[Message]]) -> list[str]:
    return [m.__name__ for m in messages] + (["Tombstone"] if topic.compacted else [])


def _operation(action: Literal["send", "receive"], topic: Topic, messages: Iterable[str]) -> tuple[str, Part]:
    channel = f"#/channels/{_id(topic)}"
    return f"{action}-{_id(topic)}", {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in messages],
    }


def _id(topic: Topic) -> str:
    """`activity-dispatched.{channel}` as a name that needs no escape in a reference."""
    return topic.name.replace(".", "-").replace("{", "").replace("}", "")


def _message(message: type[Message]) -> Part:
    wire = message.wire
    return {
        "name": wire.type,
        "title": message.__name__,
        "summary": _summary(message),
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEventHeaders"},
                {"type": "object", "properties": {"ce_type": {"const": wire.type}}},
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
        "bindings": {"kafka": _key_binding(f"Equals {message.key_rule()}. {_PARTITION}")},
        "examples": [_example(message)],
    }


def _summary(message: type[Message]) -> str:
    """The first paragraph of what the class says of itself, however its lines are broken."""
    return " ".join((message.__doc__ or message.__name__).strip().partition("\n\n")[0].split())


def _example(message: type[Message]) -> Part:
    source = (message.wire.published_by or ("another-system",))[0]
    headers = wire_headers(sample(message.wire.type), f"parley/{source}", SAMPLE_TIME, SAMPLE_TRACE)
    return {
        "name": "golden-sample",
        "headers": {name: value.decode() for name, value in headers},
        "payload": sample_body(message.wire.type),
    }


def _key_binding(description: str) -> Part:
    return {"key": {"type": "string", "description": description}, "bindingVersion": KAFKA_BINDING}


def _tombstone() -> Part:
    return {
        "name": "tombstone",
        "title": "Tombstone",
        "summary": "The aggregate with this key was erased.",
        "payload": {"type": "null"},
        "bindings": {"kafka": _key_binding("The id of the aggregate.")},
    }


def _dead_letter() -> Part:
    return {
        "name": "dead-letter",
        "title": "DeadLetter",
        "summary": "A record as it was, byte for byte, with its origin and the reason in its headers.",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {},
        "bindings": {"kafka": _key_binding("The key the record had.")},
    }


def _cloud_event_headers() -> Part:
    return {
        "type": "object",
        "required": list(REQUIRED_HEADERS),
        "properties": {
            "ce_specversion": {"type": "string", "minLength": 1, "examples": ["1.0"]},
            "ce_id": {
                "type": "string",
                "minLength": 1,
                "description": "Equal for two deliveries of the same fact.",
            },
            "ce_type": {"type": "string", "minLength": 1},
            "ce_source": {"type": "string", "minLength": 1, "examples": ["parley/activities"]},
            "ce_time": {"type": "string", "format": "date-time"},
            "content-type": {"type": "string", "examples": ["application/json"]},
            "traceparent": {
                "type": "string",
                "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "W3C Trace Context.",
            },
        },
    }


def _dead_letter_headers() -> Part:
    told = {
        "dlq_topic": "The topic it was read from.",
        "dlq_partition": "And its partition.",
        "dlq_offset": "And its offset.",
        "dlq_timestamp": "Kafka's time of the record, milliseconds since 1970.",
        "dlq_subscriber": "Who could not handle it.",
        "dlq_reason": "A stable word for why.",
        "dlq_detail": "A sentence for people.",
        "dlq_attempts": "How often it was tried.",
        "dlq_failed_at": "Milliseconds since 1970.",
    }
    sometimes = {
        "dlq_body_left_out": "The size of a body, in bytes, that did not fit beside these headers; "
        "it is still where it came from.",
    }
    return {
        "type": "object",
        "description": "The headers the record had, and these. All values are text.",
        "required": list(told),
        "properties": {
            name: {"type": "string", "description": text} for name, text in (told | sometimes).items()
        },
    }
