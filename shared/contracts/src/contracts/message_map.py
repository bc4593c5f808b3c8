"""Who tells whom what: a picture drawn from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from contracts import catalogue
from contracts.message import Message, Topic

BEGIN, END = "<!-- message map -->", "<!-- /message map -->"


def message_map() -> str:
    """A mermaid flowchart: boxes are services, rounded nodes topics, thick ones compacted state."""
    topics = {message.wire.topic.name: message.wire.topic for message in catalogue.MESSAGES}
    boxes = [f'    {_node(service)}["{service}"]' for service in catalogue.services()]
    rounded = [f'    {_topic_node(topic)}(["{topic.name}"])' for topic in topics.values()]
    arrows = dict.fromkeys(arrow for message in catalogue.MESSAGES for arrow in _arrows(message))
    compacted = ",".join(_topic_node(topic) for topic in topics.values() if topic.compacted)
    style = ["    classDef state stroke-width:3px", f"    class {compacted} state"]
    return "\n".join(["flowchart LR", *boxes, *rounded, *arrows, *style, ""])


def with_message_map(text: str) -> str:
    """The text with the map between its two markers; unchanged if it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n```mermaid\n{message_map()}```\n{end}{after}" if begin and end else text


def _arrows(message: type[Message]) -> Iterator[str]:
    topic = _topic_node(message.wire.topic)
    yield from (f"    {_node(service)} --> {topic}" for service in message.wire.published_by)
    yield from (f"    {topic} --> {_node(service)}" for service in message.wire.read_by)


def _node(service: str) -> str:
    return service.replace("-", "_")


def _topic_node(topic: Topic) -> str:
    return "topic_" + topic.name.partition(".")[0].replace("-", "_")
