"""What a preview and a load say while the batch-loader has not read everything."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app

PREVIEW = {"count": 5, "selected": 5, "skipped": {}, "sample": [], "as_of": "2026-01-05T12:00:00Z"}
BATCH = {"name": "Spring", "state": "loading", "expected": 5, "selected": 0, "loaded": 0, "skipped": {}}


@contextmanager
def answering(answer: dict[str, Any]) -> Iterator[str]:
    """A batch-loader that has one answer to everything it is told."""

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"batch-loader=http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def said(answer: dict[str, Any], *words: str) -> str:
    with answering(answer) as against:
        done = CliRunner().invoke(app, ["batch", *words, "--against", against], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"behind": 1421}, "1,421 messages are still to be read and may change this; a load waits for them."),
        ({"behind": 1}, "1 message is still to be read and may change this; a load waits for it."),
        ({"count": 1, "selected": 1}, "1 contact matches, 1 would be selected."),
        ({"behind": None}, "Kafka does not say whether all contacts are known: there may be others."),
    ],
)
def test_a_preview_says_what_it_may_not_know(told: dict[str, Any], sentence: str) -> None:
    assert sentence in said(PREVIEW | told, "preview", "b1")


@pytest.mark.parametrize("told", [{"behind": 0}, {}])
def test_a_preview_that_knows_everything_says_nothing_of_it(told: dict[str, Any]) -> None:
    shown = said(PREVIEW | told, "preview", "b1")
    assert "5 contacts match" in shown
    assert "read" not in shown
    assert "Kafka" not in shown


def test_a_preview_says_who_would_be_skipped_and_of_whom_it_does_not_know() -> None:
    duplicate = "duplicate_open_activity"
    person = {"contact_id": "c1", "contact_type": "customer", "time_zone": None, "phone": None}
    told = PREVIEW | {"skipped": {duplicate: 2}, "sample": [person | {"skipped": duplicate}], "looked_at": 4}
    shown = said(told, "preview", "b1")
    assert f"2 would be skipped: {duplicate}" in shown
    assert duplicate in shown.partition("A sample")[2]
    assert "Only the first 4 were looked at for an open activity of the subject;" in shown
    assert "Only the first" not in said(told | {"looked_at": 5}, "preview", "b1")
    assert "skipped" not in said(PREVIEW | {"looked_at": None, "sample": [person]}, "preview", "b1")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("contacts", "It is waiting until all contacts are known."),
        ("kafka", "It is waiting for Kafka, which does not say whether all contacts are known."),
        ("something-newer", "It is waiting for something-newer."),
    ],
)
def test_a_load_says_what_it_waits_for(word: str, sentence: str) -> None:
    assert sentence in said(BATCH | {"waiting_for": word}, "load", "b1", "--no-watch")
    assert "waiting" not in said(BATCH | {"waiting_for": None}, "load", "b1", "--no-watch")
    assert "waiting" not in said(BATCH, "load", "b1", "--no-watch")
