"""structlog, once: JSON for machines, colours on a terminal, personal data masked in both."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from socket import gaierror
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PERSONAL_KEYS = frozenset(
    {
        "address", "addresses", "body", "captured", "destination", "display_name", "email", "emails",
        "fields", "first_name", "from_address", "last_name", "name_of_person", "notes", "number",
        "password", "phone", "phones", "recipient", "sender", "text", "to_address", "token",
    }
)  # fmt: skip
_PHONE = re.compile(r"\+[1-9]\d{3,14}\b")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_DIFFERENT_SAYINGS = 1000
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


def mask(text: str) -> str:
    """Hide what looks like a phone number, an address, or credentials in a URL.

    >>> mask("no answer from +15550100123")
    'no answer from +1…23'
    """
    if "@" in text:
        text = _CREDENTIALS.sub("://…@", text)
        text = _EMAIL.sub("…@…", text)
    if "+" in text:
        text = _PHONE.sub(lambda found: f"{found[0][:2]}…{found[0][-2:]}", text)
    return text


def _masked(value: Any) -> Any:
    match value:
        case str():
            return mask(value)
        case dict():
            return {k: "…" if k in PERSONAL_KEYS and v else _masked(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_masked(item) for item in value]
        case _:
            return value


def mask_personal_data(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        event[key] = "…" if key in PERSONAL_KEYS and value else _masked(value)
    return event


_WITHOUT_A_BROKER = (
    "Unable connect to",
    "Unable to update metadata",
    "Group Coordinator Request failed",
    "Failed fetch messages",
    "Heartbeat session expired",
    "Heartbeat failed",
    "Unclosed AIOKafkaConnection",
)
"""How what aiokafka says in an outage begins; each is tried again, or was given up for another one."""


class Repeats(logging.Filter):
    """Lets a library say the same thing once in so many seconds, and then how often it was left out.

    Without its broker a service's consumers complain a hundred times a second, and the log of what went
    before is rotated away within minutes. What comes with a traceback is never left out, but for a connection
    that was not made and nobody waited for any more. Of a name whose lookup was given up nothing is said at
    all: whoever gave it up tells of its broker, and at a service's end this would be the log's last line.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            if not (record.name == "asyncio" and isinstance(record.exc_info[1], OSError)):
                return True
            if _is_lookup_given_up(record):
                return False
            record.exc_info = None
            _lower(record)
        elif _of_a_client(record) and str(record.msg).startswith(_WITHOUT_A_BROKER):
            _lower(record)
        key, now = (record.name, str(record.msg)), time.monotonic()
        said_at, left_out = self._said.get(key, (-math.inf, 0))
        if now - said_at < self._seconds:
            self._said[key] = (said_at, left_out + 1)
            return False
        if left_out:
            record.left_out = left_out
        if len(self._said) >= _DIFFERENT_SAYINGS:
            self._said.clear()
        self._said[key] = (now, 0)
        return True


def _of_a_client(record: logging.LogRecord) -> bool:
    return record.name.startswith(("aiokafka", "asyncio"))


def _is_lookup_given_up(record: logging.LogRecord) -> bool:
    """uvloop leaves its future of the name's address behind when a connection is cancelled meanwhile."""
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, gaierror) and str(record.msg).startswith("Future exception was never retrieved")


def _lower(record: logging.LogRecord) -> None:
    """It stands in every outage, and whoever counts errors would be misled."""
    record.levelno, record.levelname = logging.WARNING, "WARNING"


def _to_json(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logs(
    service: str,
    instance: str,
    format_: Literal["auto", "json", "console"] = "auto",
    level: str = "info",
) -> None:
    """Route structlog and the standard library's loggers to one stream, with one shape."""
    console = format_ == "console" or (format_ == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    closing: list[Processor] = [structlog.processors.format_exc_info, mask_personal_data]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(_to_json)
    )
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, *closing, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(allow=["left_out"]),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *closing,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(threshold, logging.WARNING))
