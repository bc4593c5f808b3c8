"""The deployment itself, on ports of its own: `make compose-check`, or PARLEY_TEST_DEPLOYMENT=1.

The tests are one story, in order.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from cli.engines import ports
from tests.deploy.files import ROOT, SERVICES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("PARLEY_TEST_DEPLOYMENT") != "1", reason="needs Docker and minutes: make compose-check"
    ),
]
_PATIENCE = 420.0
_PUBLISHED = ("KAFKA", "MONGO", "CARRIER", *(name.upper().replace("-", "_") for name in SERVICES))


class Deployment:
    """One Compose project that nobody else has."""

    def __init__(self, directory: Path) -> None:
        self.project = f"parley-check-{uuid4().hex[:8]}"
        told = {f"{name}_PORT": ports.choose("a service") for name in _PUBLISHED}
        lines = [f"{name}={value}" for name, value in told.items()]
        # The engine picks one for each replica.
        lines += ["CHANNEL_SMS_PORTS=0", f"SERVICES_IMAGE=parley:{self.project}"]
        self._environment = directory / "environment"
        self._environment.write_text("\n".join(lines) + "\n")

    def compose(self, *arguments: str, patience: float = _PATIENCE) -> str:
        said = subprocess.run(
            ["docker", "compose", "-p", self.project, "--env-file", str(self._environment), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        assert said.returncode == 0, said.stderr[-3000:]
        return said.stdout

    def containers(self) -> dict[str, dict[str, str]]:
        rows = map(json.loads, self.compose("ps", "--all", "--format", "json").splitlines())
        return {row["Name"].removeprefix(f"{self.project}-"): row for row in rows}

    def url(self, service: str, port: int, replica: int = 1) -> str:
        return f"http://{self.compose('port', '--index', str(replica), service, str(port)).strip()}"

    def wait_until_healthy(self, *names: str) -> None:
        def states() -> list[str]:
            found = self.containers()
            return [found[name]["Health"] if name in found else "missing" for name in names]

        eventually(lambda: set(states()) == {"healthy"}, lambda: str(dict(zip(names, states(), strict=True))))

    def remove(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
        subprocess.run(
            ["docker", "image", "rm", "--force", f"parley:{self.project}"], capture_output=True, check=False
        )


def eventually(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(1)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("compose"))
    try:
        made.compose("up", "--build", "--detach", patience=800)
        yield made
    finally:
        made.remove()


EVERYTHING = [f"{name}-1" for name in ("kafka", "mongo", "carrier", *SERVICES)]
TYPE = {"name": "Person", "fields_schema": {"type": "object", "properties": {}}}


def test_everything_becomes_healthy_and_the_setup_ends(deployment: Deployment) -> None:
    deployment.wait_until_healthy(*EVERYTHING)
    assert deployment.containers()["setup-1"]["ExitCode"] == 0  # type: ignore[comparison-overlap]
    ready = httpx.get(f"{deployment.url('contacts', 8101)}/readyz").json()
    assert ready["ready"] is True


def test_nothing_runs_as_root_or_can_write_where_it_should_not(deployment: Deployment) -> None:
    said = deployment.compose(
        "exec", "-T", "workflow", "bash", "-c", "id -u; touch /opt/x 2>/dev/null || echo no; cat /proc/1/comm"
    )
    assert said.split() == ["10001", "no", "parley-workflow"]


def test_three_channels_share_the_work(deployment: Deployment) -> None:
    deployment.compose("up", "--detach", "--no-recreate", "--scale", "channel-sms=3")
    deployment.wait_until_healthy("channel-sms-1", "channel-sms-2", "channel-sms-3")
    urls = [deployment.url("channel-sms", 8106, replica) for replica in (1, 2, 3)]
    assert len(set(urls)) == 3
    eventually(
        lambda: all(httpx.get(f"{url}/readyz").json().get("consuming") for url in urls),
        lambda: "not consuming",
    )


def test_the_command_line_runs_inside(deployment: Deployment) -> None:
    said = deployment.compose("run", "--rm", "-T", "parley", "dlq", "list", "--json")
    assert json.loads(said) == []


def test_a_stop_drains_and_a_start_finds_what_was_stored(deployment: Deployment) -> None:
    answer = httpx.put(f"{deployment.url('contacts', 8101)}/v1/contact-types/person", json=TYPE)
    assert answer.is_success, answer.text
    deployment.compose("stop")
    codes = {name: row["ExitCode"] for name, row in deployment.containers().items()}
    assert {codes[f"{name}-1"] for name in (*SERVICES, "carrier")} == {0}  # type: ignore[comparison-overlap]
    deployment.compose("up", "--detach", "--no-recreate", "--scale", "channel-sms=3")
    deployment.wait_until_healthy(*EVERYTHING, "channel-sms-2", "channel-sms-3")
    found = httpx.get(f"{deployment.url('contacts', 8101)}/v1/contact-types/person")
    assert found.is_success
