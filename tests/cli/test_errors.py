"""What goes wrong on the command line reads as one sentence and has its exit code."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import cast

import pytest
import yaml
from typer.testing import CliRunner, Result

from cli.api import Api, Refused
from cli.commands.contacts import write_rejects
from cli.commands.up import show
from cli.exits import Failure
from cli.found import find, listening
from cli.line.chosen_engines import ask_database
from cli.line.state import FILE, LineState, MemberState
from cli.main import app
from cli.reading import read_yaml

runner = CliRunner()


def parley(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments])


def sentence(result: Result) -> str:
    """The only thing that was said."""
    assert not result.stdout
    assert result.stderr.startswith("parley: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("parley: ").strip()


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A data directory on which nothing runs."""
    return tmp_path / "nothing"


class _Refusing(http.server.BaseHTTPRequestHandler):
    status = 409
    problem = {"title": "Not in this state", "detail": "The batch is loaded; it cannot pause."}

    def do_POST(self) -> None:
        body = json.dumps(self.problem).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def refusing_service() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


READING = [
    ("activities", "list"),
    ("activities", "show", "some-id"),
    ("batch", "list"),
    ("batch", "watch", "some-id"),
    ("campaign", "list"),
    ("contacts", "show", "C-1"),
    ("dlq", "list"),
    ("reconcile",),
    ("stats", "show", "C-1"),
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_without_a_running_parley_a_command_asks_for_one(command: tuple[str, ...], nothing: Path) -> None:
    result = parley(*command, "--data-dir", nothing)
    assert "is `parley up` running" in sentence(result)
    assert result.exit_code == 69


def test_a_line_that_ended_is_not_taken_for_running(tmp_path: Path) -> None:
    state = LineState(pid=2**22 + 1, clock_file=tmp_path / "clock.json")
    state.services["stats"] = MemberState(url="http://127.0.0.1:1", port=1, log=tmp_path / "log")
    state.write(tmp_path)
    assert parley("batch", "list", "--data-dir", tmp_path).exit_code == 69


@pytest.mark.parametrize(
    ("against", "url"),
    [
        ("box", "http://box:8106"),
        ("compose,channel-sms=http://127.0.0.1:8121/", "http://127.0.0.1:8121"),
    ],
)
def test_where_channel_sms_is(against: str, url: str) -> None:
    assert find(Path(), against).url("channel-sms") == url


def test_channel_sms_of_compose_is_whatever_port_of_its_range_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert listening(range(port, port + 1)) == port
    assert listening(range(port, port + 1)) == port  # nobody answers: where the first one would be
    assert int(find(Path(), "compose").url("channel-sms").rpartition(":")[2]) in range(8120, 8140)


def test_an_unreachable_service_is_named() -> None:
    result = parley("batch", "list", "--against", "batch-loader=http://127.0.0.1:9")
    assert "The batch-loader service does not answer at http://127.0.0.1:9" in sentence(result)
    assert result.exit_code == 69


def test_a_problem_document_becomes_one_sentence(refusing_service: str) -> None:
    result = parley("batch", "pause", "b1", "--against", f"batch-loader={refusing_service}")
    assert sentence(result) == "batch-loader: Not in this state: The batch is loaded; it cannot pause."
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("contacts", "import", "nowhere.csv", "--type", "customer"), "There is no file nowhere.csv."),
        (("apply", "nowhere.yaml"), "There is no file nowhere.yaml."),
        (("contacts", "import", ".", "--type", "customer"), ". is a folder."),
        (("apply", "."), ". is a folder."),
        (("batch", "create", "--file", "."), ". is a folder."),
        (("apply", "pyproject.toml/x"), "pyproject.toml/x cannot be read: Not a directory."),
        (("up", "--only", "contacts,postman"), "There is no service 'postman'"),
        (("dlq", "replay"), "Name one letter, or give --topic or --all."),
        (("dlq", "replay", "--all", "--edit", "x.json"), "--edit needs the one letter that it mends."),
        (("batch", "create", "--name", "x"), "Give --name, --campaign and --subject"),
        (("batch", "create", "--file", "x.yaml", "--limit", "5"), "--file has the whole request"),
        (("batch", "list", "--against", "batch-loader=ftp://x"), "begins with http"),
        (("demo", "--contacts", "-5"), "--contacts -5 cannot be made"),
        (("batch", "list", "--against", "postman=http://x"), "there is no service 'postman'"),
        (
            ("batch", "list", "--against", "stats=http://x,stats=http://y"),
            "--against names the service 'stats' more than once; it is at one place.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    result = runner.invoke(app, list(arguments), env={"PARLEY_CLI_DATA_DIR": str(tmp_path)})
    assert said in sentence(result)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subjects:\n  - code: [a\n", "line 3, column 1"),
        ("subjects: []\nsubjects: []\n", "line 2, column 1: the key 'subjects' is there twice"),
        ("- a\n- b\n", "line 1, column 1: expected names with values"),
        ("", "expected names with values"),
        ("a: b: c\n", "line 1, column 5"),
        ("subjects:\n  - code: a\n   name: b\n", "line 3, column 4"),
        ("subjects:\n  - code: a\n   name: b\n", "is it indented like the lines around it?"),
        ("{a: 1, ? [b] : 2}", "a key must be a word"),
        ("a:\n  b: .nan\n", "line 2, column 6: .nan is not a number that JSON has."),
        ("a: [1, -.inf]\n", "line 1, column 8: -.inf is not a number that JSON has."),
        ("a: 1e999\nb: 1.0e+999\n", "line 2, column 4: 1.0e+999 is not a number that JSON has."),
        ("a: !!binary aGk=\n", "line 1, column 4: JSON has no value of the kind !!binary;"),
        ("a: !!set {b, c}\n", "line 1, column 4: JSON has no value of the kind !!set;"),
        ("? !!binary aGk=\n: b\n", "line 1, column 3: JSON has no value of the kind !!binary;"),
        ("a: !!bool maybe\n", "line 1, column 4: 'maybe' cannot be read as !!bool."),
        ("a: !!int ''\n", "line 1, column 4: '' cannot be read as !!int."),
        ("a: &a [*a]\n", "cannot be written as JSON: Circular reference detected."),
        ('a: "\\ud800"\n', "cannot be written as JSON: 'utf-8' codec can't encode"),
        ("a: " + "[" * 5000, "cannot be written as JSON: maximum recursion depth exceeded"),
    ],
)
def test_wrong_yaml_is_told_with_line_and_column(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bundle.yaml"
    file.write_text(text)
    result = parley("apply", file, "--against", "compose")
    assert said in sentence(result)
    assert not sentence(result).endswith("?.")
    assert result.exit_code == 2


def test_a_file_that_is_no_batch_is_told_what_a_batch_has(tmp_path: Path) -> None:
    file = tmp_path / "batch.yaml"
    file.write_text("- a\n")
    result = parley("batch", "create", "--file", file, "--against", "compose")
    assert sentence(result).endswith("line 1, column 1: expected names with values, such as `choices:`.")
    assert result.exit_code == 2


def test_days_and_times_in_a_file_are_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "batch.yaml"
    file.write_text(
        "{at: 2026-01-01T00:00:00Z, 2000-01-01: 2026-01-01, tagged: !!timestamp 2026-01-01, "
        "both: 2026-01-01 09:00:00, time: 10:00, until: 9:30, exact: 10:00:00.5, ago: -5:30, times: 10}"
    )
    assert read_yaml(file).content == {
        "at": "2026-01-01T00:00:00Z",
        "2000-01-01": "2026-01-01",
        "tagged": "2026-01-01",
        "both": "2026-01-01 09:00:00",
        "time": "10:00",
        "until": "9:30",
        "exact": "10:00:00.5",
        "ago": "-5:30",
        "times": 10,
    }
    assert isinstance(yaml.safe_load("2026-01-01"), date), "whoever else reads YAML has dates as before"


@pytest.mark.parametrize(
    ("command", "place"), [("up", "file/below"), ("demo", "file/below"), ("demo", "/proc/parley")]
)
def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path, command: str, place: str) -> None:
    (tmp_path / "file").touch()
    nowhere = tmp_path / place
    result = parley(command, "--data-dir", nowhere)
    told = result.stderr.splitlines()[-1]
    assert told.startswith(f"parley: {nowhere} cannot be the data directory (")
    assert told.endswith("): choose another --data-dir.")
    assert result.exit_code == 78


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_data_directory_that_leads_to_itself_is_told(tmp_path: Path, command: str) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    result = parley(command, "--data-dir", loop)
    assert sentence(result).startswith(f"--data-dir {loop}: Symlink loop"), result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_name_that_no_disk_takes_is_told(tmp_path: Path, command: str) -> None:
    result = parley(command, "--data-dir", tmp_path / ("x" * 300))
    assert len(result.stderr.splitlines()) == 1
    assert "File name too long" in result.stderr
    assert result.exit_code == 78


def test_another_broker_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("MONGO_URL", "mongodb://127.0.0.1:9/?replicaSet=rs0&serverSelectionTimeoutMS=200")
    result = parley("topics", "--create", "--against", "compose")
    assert "No Kafka broker answers at 127.0.0.1:9" in sentence(result)
    assert result.exit_code == 69


@pytest.mark.parametrize(
    ("servers", "shown"),
    [
        ("kafka", "kafka"),
        ("kafka:99999", "kafka:99999"),
        ("a:9092,b:0", "a:9092,b:0"),
        ("ann:secret@kafka:99999", "***@kafka:99999"),
    ],
)
@pytest.mark.parametrize("words", [("dlq", "list", "--against", "compose"), ("up",), ("setup",)])
def test_brokers_that_are_none_are_told_and_not_dialled(
    words: tuple[str, ...], servers: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    result = parley(*words)
    assert f"KAFKA_BOOTSTRAP_SERVERS={shown!r}: brokers as HOST:PORT" in sentence(result)
    assert result.exit_code == 78


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://127.0.0.1:9/?replicaSet=rs0&tlsCertificateKeyFilePassword=secret",
        "mongodb://ann:secret@127.0.0.1:9/?replicaSet=rs0",
        "mongodb://ann:secret@127.0.0.1:9/?authMechanismProperties=TOKEN:secret",
        "mongodb://[::1]:9,127.0.0.1:9/?readPreference=nearest&readPreferenceTags=dc:ny",
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_login(url: str) -> None:
    with pytest.raises(Failure) as told:
        ask_database(f"{url}&serverSelectionTimeoutMS=100")
    assert "127.0.0.1:9/?" in str(told.value)
    assert "secret" not in str(told.value)


def test_only_its_owner_reads_where_a_line_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = LineState(clock_file=tmp_path / "clock.json", mongo_url="mongodb://ann:secret@somewhere/")
    state.write(tmp_path)
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    show(state, tmp_path)
    assert "***@somewhere" in (told := capsys.readouterr().out)
    assert "secret" not in told


class _Rejects:
    def text(self, service: str, path: str) -> str:
        return "line,reason\n2,bad_phone\n"


def test_rejects_that_cannot_be_written_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = {"import_id": "i", "rejected": {"bad_phone": 1}}
    with pytest.raises(Failure, match=r"people\.rejects\.csv cannot be written .*; the 1 rejected rows"):
        write_rejects(cast(Api, _Rejects()), done, tmp_path / "not there" / "people.csv")
    assert "2,bad_phone" in capsys.readouterr().err


def test_help_has_examples_and_the_exit_codes() -> None:
    assert "69 a service does not answer" in " ".join(parley("--help").stdout.split())
    for command in ("up", "demo", "apply", "topics"):
        assert "Example" in parley(command, "--help").stdout


def test_topics_are_printed_for_people_and_machines() -> None:
    rows = json.loads(parley("topics", "--json").stdout)
    created = next(row for row in rows if row["type"] == "parley.activity.created.v1")
    assert created["topic"] == "activity-created"
    assert created["key"] == "contact_id"
    assert created["dead_letters"] == "activity-created.dlq"
    assert "activity-created" in parley("topics").stdout


def test_the_demo_refuses_a_directory_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    result = parley("demo", "--data-dir", tmp_path)
    assert "holds something that the demo did not make" in sentence(result)
    assert result.exit_code == 2
    assert (tmp_path / "precious.txt").read_text() == "keep me"


@pytest.mark.parametrize(("there", "told"), [(2, False), (3, True)])
def test_a_list_that_was_cut_says_so(there: int, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    activity = {
        **dict.fromkeys(("assigned_to", "owner", "disposition"), None),
        **dict.fromkeys(("activity_id", "state", "due_at", "contact_id", "subject_id", "campaign_id"), "it"),
    }

    def pages(_: Api, service: str, path: str, limit: int = 0, **__: object) -> list[dict[str, object]]:
        return [dict(activity) for _ in range(there)][:limit] if service == "activities" else []

    monkeypatch.setattr(Api, "pages", pages)
    result = parley("activities", "list", "--limit", "2", "--against", "compose")
    assert result.exit_code == 0, result.output
    assert ("There are more than these 2" in result.stdout) is told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list",), "There is no such activity.\n"),
        (("list", "--json"), "[]\n"),
        (("next", "--agent", "ada"), "There is nothing to do for ada now.\n"),
        (("next", "--agent", "ada", "--json"), "[]\n"),
    ],
)
def test_an_empty_list_of_activities_is_one_sentence(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Api, "get", lambda *_, **__: {"items": []})
    result = parley("activities", *words, "--against", "compose")
    assert (result.exit_code, result.stdout) == (0, said)


def test_a_refusal_names_what_was_typed() -> None:
    detail = (
        "body.scheduled_at: a time needs its zone; query.state.0: it is one of; body.scheduled_at_once: no; "
        "body.captured.plan: not a plan"
    )
    problem = {"type": "urn:parley:problem:invalid-request", "title": "Wrong", "detail": detail}
    options = {"scheduled_at": "--at", "state": "--state", "captured": "--field"}
    assert str(Refused("activities", 422, problem, options)) == (
        "activities: Wrong: --at: a time needs its zone; --state: it is one of; scheduled_at_once: no; "
        "--field plan: not a plan"
    )
