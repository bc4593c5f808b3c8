"""docs/settings.md: what the environment may say, drawn from the classes that read it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from cli.line.members import SERVICES
from servicekit.settings import ServiceSettings

FILE = "settings.md"
_HEAD = """\
# Settings

Every setting is a variable of the environment. One that begins with `PARLEY_` and that the service does not
know ends it at once, with the names of those it knows; so does a value that cannot be used. Several
values have commas between them. `make docs` draws this page from the classes that read them. How a deployment
sets them is in [deployment.md](deployment.md);
those of the command are in [its README](../cli/README.md), and the carrier names its own where one is wrong;
those that steer its behaviour are in [its README](../simulators/carrier/README.md). Beside these each service
exports spans over OTLP if `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and knows the variables of OpenTelemetry.
"""
_TABLE = "| variable | default | what it is |\n|---|---|---|"


def settings_document() -> str:
    shared = ServiceSettings.model_fields
    parts = [_HEAD, "## Of every service\n", *_table(shared.items())]
    for service in SERVICES:
        settings = settings_of(service)
        parts += [f"\n## {service}\n", *_table(_own(settings))]
    return "\n".join(parts) + "\n"


def settings_of(service: str) -> type[ServiceSettings]:
    """By the name that every service gives its class, so that nobody has to list them once more."""
    found: type[ServiceSettings] = importlib.import_module(f"{service.replace('-', '_')}.settings").Settings
    return found


def write_settings(directory: Path) -> list[Path]:
    """The path, if what is there differs."""
    path, fresh = directory / FILE, settings_document()
    if path.is_file() and path.read_text(encoding="utf-8") == fresh:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(fresh, encoding="utf-8")
    return [path]


def variable_of(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"PARLEY_{name.upper()}"


def _own(settings: type[ServiceSettings]) -> Iterator[tuple[str, FieldInfo]]:
    """What it adds, and what it has another default for."""
    for name, field in settings.model_fields.items():
        shared = ServiceSettings.model_fields.get(name)
        if shared is None or shared.default != field.default:
            yield name, field


def _table(fields: Iterable[tuple[str, FieldInfo]]) -> list[str]:
    rows = [
        f"| `{variable_of(name, field)}` | {_default(field)} | {meaning_of(name, field)} |"
        for name, field in fields
    ]
    return [_TABLE, *rows]


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default" in extra:
        return str(extra["default"])
    if field.default in (None, "", ()):
        return "none"
    if not field.repr:
        return "not shown"
    default: Any = field.default
    match default:
        case str():
            shown = default
        case tuple():
            shown = ",".join(default)
        case _:
            shown = json.dumps(default, default=str)
    return f"`{shown}`".replace("|", r"\|")


def meaning_of(name: str, field: FieldInfo) -> str:
    """Its docstring; one that only has another default says what every service's does."""
    documented = field if field.description else ServiceSettings.model_fields.get(name, field)
    told = " ".join((documented.description or "").split()).replace("|", r"\|")
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return f"{told} One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else told
