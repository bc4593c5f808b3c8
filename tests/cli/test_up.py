"""`parley up` starts everything, keeps it running, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from cli.engines import ports
from cli.line.state import LineState

pytestmark = pytest.mark.slow

DEADLINE = 120.0


def eventually(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, f"waited {DEADLINE:g} s for {what}"
        time.sleep(0.1)


def command(data_dir: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "cli",
        "up",
        "--data-dir",
        str(data_dir),
        "--only",
        "contacts,carrier",
        *more,
    ]


def run(data_dir: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data_dir, *more),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=os.environ | environment,
        check=False,
    )


@contextmanager
def up(data_dir: Path) -> Iterator[LineState]:
    process = subprocess.Popen(
        command(data_dir), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: (state := LineState.read(data_dir)) and state.ready, "parley up")
        state = LineState.read(data_dir)
        assert state is not None
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 4
        yield state
        process.terminate()
        assert process.wait(DEADLINE) == 0
        assert not psutil.wait_procs(family, timeout=1)[1]
    finally:
        process.kill()
        process.wait()


def test_it_runs_is_found_heals_and_starts_again_where_it_was(tmp_path: Path) -> None:
    with up(tmp_path) as first:
        contacts = first.services["contacts"]
        assert httpx.get(f"{contacts.url}/readyz").json()["ready"]
        second = run(tmp_path)
        assert second.returncode == 78
        assert second.stderr.splitlines()[-1].startswith("parley: Another Parley (process ")
        assert contacts.pid is not None
        os.kill(contacts.pid, signal.SIGKILL)
        eventually(lambda: _other_process(tmp_path, contacts.pid), "a new contacts service")
    stopped = LineState.read(tmp_path)
    assert stopped is not None
    assert stopped.pid is None
    with up(tmp_path) as again:
        ports = {name: service.port for name, service in again.services.items()}
        assert ports == {name: service.port for name, service in first.services.items()}
        assert again.kafka_port == first.kafka_port
        assert again.mongo_port == first.mongo_port


def _other_process(data_dir: Path, pid: int | None) -> bool:
    state = LineState.read(data_dir)
    assert state is not None
    now = state.services["contacts"].pid
    if now in (None, pid):
        return False
    try:
        return httpx.get(f"{state.services['contacts'].url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_missing_broker_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert done.returncode == 69
    assert "No Kafka broker answers at 127.0.0.1:9" in done.stderr
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())
    ]


def test_a_taken_port_is_told_before_any_engine_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run(tmp_path, "--only", "contacts", "--ports-from", str(port - 1))
    assert done.returncode == 78
    assert f"Port {port} for contacts is taken by another program" in done.stderr
    assert not (tmp_path / "broker").exists()


def test_a_wrong_setting_of_a_service_ends_everything_with_its_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, CARRIER_PEOPLE_GREEN="1")
    assert done.returncode == 78
    assert "parley: parley-carrier: unknown setting CARRIER_PEOPLE_GREEN" in done.stderr
    state = LineState.read(tmp_path)
    assert state is not None
    assert state.pid is None


def test_a_port_is_told_to_be_its_listeners() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.listens(os.getpid(), port)
        assert not ports.listens(os.getpid(), port + 1)
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        assert not ports.listens(stranger.pid, port)
        stranger.communicate(b"\n")
        assert not ports.listens(stranger.pid, port)
