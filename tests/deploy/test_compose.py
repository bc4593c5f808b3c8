"""What docker-compose.yml and its overlays promise, read from the files and from Compose itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.line.members import MEMBERS
from contracts.message import Topic
from tests.deploy.files import ROOT, SERVICES, Document, document, settings_of, strings

COMPOSE = document(ROOT / "docker-compose.yml")
DEMO = document(ROOT / "docker-compose.demo.yml")
OBSERVABILITY = document(ROOT / "docker-compose.observability.yml")
LASTING = ("kafka", "mongo", *SERVICES, "carrier")
OURS = (*SERVICES, "carrier", "setup", "parley")
_VARIABLE = re.compile(r"\$\{(\w+)(:?-[^}]*)?\}")


def service(name: str) -> Document:
    found: Document = COMPOSE["services"][name]
    return found


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_checked_restarted_limited_and_has_time_to_drain(name: str) -> None:
    told = service(name)
    assert told["healthcheck"]["test"][0] == "CMD"
    assert told["restart"] == "unless-stopped"
    assert told["stop_grace_period"] == "45s"
    assert {"cpus", "memory"} <= told["deploy"]["resources"]["limits"].keys()
    assert told["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_without_privileges_on_a_read_only_root(name: str) -> None:
    told = service(name)
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]


def test_everything_is_published_on_loopback_only() -> None:
    for overlay in (COMPOSE, DEMO, OBSERVABILITY):
        for name, told in overlay["services"].items():
            for port in told.get("ports", ()):
                assert port.startswith("127.0.0.1:"), name
            assert told.get("network_mode") is None, name


def test_every_service_starts_after_the_setup_and_healthy_engines() -> None:
    for name in SERVICES:
        needed = {other: told["condition"] for other, told in service(name)["depends_on"].items()}
        assert needed["setup"] == "service_completed_successfully"
        assert needed["kafka"] == needed["mongo"] == "service_healthy"
    assert service("channel-sms")["depends_on"]["carrier"]["condition"] == "service_healthy"
    assert {told["condition"] for told in service("setup")["depends_on"].values()} == {"service_healthy"}


def test_the_databases_log_has_no_commands() -> None:
    assert "--slowOpSampleRate=0" in service("mongo")["command"]


def test_the_channel_can_be_scaled() -> None:
    told = service("channel-sms")
    assert not any("container_name" in each or "hostname" in each for each in COMPOSE["services"].values())
    assert "PARLEY_INSTANCE" not in told["environment"]
    (port,) = told["ports"]
    default = _VARIABLE.search(port)
    assert default is not None
    assert default[2] is not None
    first, last = default[2].removeprefix(":-").split("-")
    assert int(last) - int(first) + 1 >= Topic("any").partitions


def test_the_carrier_reaches_the_channel_by_its_name() -> None:
    assert service("carrier")["environment"]["CARRIER_INBOUND_URL"].startswith("http://channel-sms:8106/")
    assert "http://channel-sms:8106}" in service("channel-sms")["environment"]["PARLEY_SMS_PUBLIC_URL"]


@pytest.mark.parametrize("name", [*SERVICES, "carrier"])
@pytest.mark.parametrize("overlay", [COMPOSE, DEMO], ids=["deployment", "demo"])
def test_a_service_is_told_only_what_it_knows(name: str, overlay: Document) -> None:
    assert overlay["services"][name]["environment"].keys() <= settings_of(name)


def test_the_command_looks_for_replicas_where_they_are_published() -> None:
    for name in SERVICES:
        found = re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-(\d+)-(\d+)\}:\d+", service(name)["ports"][0])
        published = range(int(found[1]), int(found[2]) + 1) if found else None
        (member,) = [member for member in MEMBERS if member.name == name]
        assert member.ports_of_compose == published, name


def test_ports_inside_are_the_ones_published() -> None:
    for name in SERVICES:
        told = service(name)
        assert told["ports"][0].endswith(f":{told['environment']['PARLEY_PORT']}")


def test_the_demonstration_shows_everybody_the_same_clock() -> None:
    places = {DEMO["services"][name]["environment"]["PARLEY_CLOCK_FILE"] for name in SERVICES} | {
        DEMO["services"]["carrier"]["environment"]["CARRIER_CLOCK_FILE"]
    }
    assert len(places) == 1
    for told in DEMO["services"].values():
        assert any("/var/lib/parley/clock" in volume for volume in told["volumes"])


def test_every_image_can_be_replaced() -> None:
    for overlay in (COMPOSE, OBSERVABILITY):
        for name, told in overlay["services"].items():
            assert told["image"].startswith("${"), name


def test_every_variable_is_explained_in_the_example() -> None:
    explained = re.findall(r"^#?(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    used = {
        variable[1]
        for overlay in (COMPOSE, DEMO, OBSERVABILITY)
        for text in strings(overlay)
        for variable in _VARIABLE.finditer(text)
    }
    # Set by Compose itself.
    assert used - {"COMPOSE_PROJECT_NAME"} <= {name for name, _ in explained}
    assert not any(name.startswith("PARLEY_") for name, _ in explained), "a service by hand would refuse it"


def test_the_image_has_no_user_of_power_and_no_compiler() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert 'CMD ["parley", "--help"]' in lines
    assert not any("apt-get" in line or "index-url" in line.lower() for line in lines)
    assert sum("--require-hashes" in line for line in lines) == 2


@pytest.mark.skipif(shutil.which("docker") is None, reason="Docker is missing")
@pytest.mark.parametrize("overlays", [(), ("demo",), ("observability",), ("demo", "observability")])
def test_compose_understands_the_files(overlays: tuple[str, ...]) -> None:
    files = ["docker-compose.yml", *(f"docker-compose.{overlay}.yml" for overlay in overlays)]
    command = ["docker", "compose", *(part for file in files for part in ("-f", file)), "config", "--quiet"]
    if _run(["docker", "compose", "version"]).returncode:
        pytest.skip("Docker has no Compose")
    said = _run([*command])
    assert said.returncode == 0, said.stderr


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    kept: dict[str, Any] = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=60, check=False
    )


def test_no_file_of_the_deployment_names_a_place_of_ours() -> None:
    for path in [*ROOT.glob("docker-compose*.yml"), ROOT / "Dockerfile", *(ROOT / "deploy").rglob("*")]:
        if path.is_file():
            assert not re.search(r"/home/|/root/(?!\.cache/pip)|/work/(?!:)", path.read_text()), Path(path)
