"""What the environment may say stands in one document, and the document is what the classes say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.settings_document import (
    FILE,
    meaning_of,
    settings_document,
    settings_of,
    variable_of,
    write_settings,
)
from tests.services import ROOT, SERVICES

every_service = pytest.mark.parametrize("service", SERVICES)


def test_the_committed_document_is_up_to_date() -> None:
    assert (ROOT / "docs" / FILE).read_text() == settings_document(), "run: make docs"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert write_settings(tmp_path) == [tmp_path / FILE]
    assert write_settings(tmp_path) == []


@every_service
def test_every_setting_is_there_and_says_what_it_is(service: str) -> None:
    document = settings_document()
    assert f"\n## {service}\n" in document
    for name, field in settings_of(service).model_fields.items():
        assert f"\n| `{variable_of(name, field)}` | " in document
        assert meaning_of(name, field), f"{name} has no docstring"


@every_service
def test_no_secret_is_shown(service: str) -> None:
    document = settings_document()
    for name, field in settings_of(service).model_fields.items():
        if not field.repr:
            shown = "not shown" if field.default else "none"
            assert f"| `{variable_of(name, field)}` | {shown} |" in document


@every_service
def test_its_readme_says_where_they_are(service: str) -> None:
    assert f"docs/{FILE}" in (ROOT / "services" / service / "README.md").read_text()
