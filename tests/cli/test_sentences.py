"""What goes wrong is one sentence and an exit code, and leaves everything as it was."""

from __future__ import annotations

import csv
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.demo.contact_list import write_contact_list
from cli.engines import EmbeddedEngines

FICTIONAL = re.compile(
    r"^\+1[2-9]\d\d55501\d\d$|^\+447700900\d{3}$|^\+493023125\d{3}$|^\+61491570\d{3}$|^\+336399800\d\d$"
)


def parley(*words: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "COLUMNS": "200", **environment},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("apply", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("contacts", "import", "nowhere.csv", "--type", "customer"), 2, "nowhere.csv"),
        (("batch", "list"), 69, "is `parley up` running"),
        (("stats", "show", "nobody"), 69, "is `parley up` running"),
        (("reconcile",), 69, "is `parley up` running"),
        (("frobnicate",), 2, "No such command"),
        (("demo", "--contacts", "-5"), 2, "-5"),
    ],
)
def test_a_mistake_is_one_sentence_with_an_exit_code(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    where = () if words[0] in ("frobnicate", "demo") else ("--data-dir", str(tmp_path / "none"))
    told, text = parley(*words, *where)
    assert (told, said in text) == (code, True), text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "words",
    [("topics", "--create"), ("dlq", "list"), ("dlq", "replay", "--all"), ("dlq", "show", "a.dlq:0:0")],
)
def test_without_a_broker_nothing_else_is_said(words: tuple[str, ...]) -> None:
    code, text = parley(*words, "--against", "127.0.0.1", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    why = "is it running, and is KAFKA_BOOTSTRAP_SERVERS right?"
    assert (code, text) == (69, f"parley: No Kafka broker answers at 127.0.0.1:9: {why}\n")


def test_a_broken_file_is_told_with_its_line(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.yaml"
    bundle.write_text("subjects:\n  - code: [unclosed\n")
    code, text = parley("apply", str(bundle), "--data-dir", str(tmp_path))
    assert code == 2
    assert "line" in text
    assert "Traceback" not in text


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = parley("up", "--data-dir", str(tmp_path / "data"), "--kafka-port", str(port))
    assert code == 78
    assert str(port) in text
    assert "Traceback" not in text


def test_a_data_directory_has_one_user(tmp_path: Path) -> None:
    with EmbeddedEngines(tmp_path / "data"):
        code, text = parley("up", "--data-dir", str(tmp_path / "data"))
    assert code == 78
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) <= 3


def test_every_generated_number_belongs_to_nobody(tmp_path: Path) -> None:
    made = write_contact_list(tmp_path / "list.csv", 5000, seed=1)
    again = write_contact_list(tmp_path / "again.csv", 5000, seed=1)
    assert (tmp_path / "list.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    assert made.rows == again.rows == 5000
    assert made.rejected.total() > 0
    assert len(made.countries) >= 3
    with made.path.open(newline="", encoding="utf-8") as file:
        phones = [re.sub(r"[^+\d]", "", row["phone"]) for row in csv.DictReader(file)]
    international = [phone for phone in phones if len(phone) >= 11 and phone.startswith("+")]
    assert len(international) > 2500
    odd = [p for p in international if not FICTIONAL.match(p)]
    assert len(odd) <= made.rejected["bad_phone"]


def test_the_catalogue_is_printed(tmp_path: Path) -> None:
    code, text = parley("topics", "--json")
    assert code == 0
    assert "parley.activity.created.v1" in text
