"""Alerts and dashboard speak of metrics that exist, and of services that do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, SERVICES, document, strings
from tests.deploy.test_compose import COMPOSE

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "parley.json"
_DECLARED = re.compile(r'(counter|gauge|histogram)\(\s*"(parley_\w+)"')
_NAMED = re.compile(r"\bparley_\w+")
_SERIES = {"histogram": ("_bucket", "_sum", "_count")}


def declared() -> set[str]:
    sources = [path for folder in ("shared", "services") for path in (ROOT / folder).rglob("src/**/*.py")]
    found = [match for path in sources for match in _DECLARED.findall(path.read_text())]
    return {name + ending for kind, name in found for ending in _SERIES.get(kind, ("",))}


def expressions() -> list[str]:
    rules = document(PROMETHEUS / "alerts.yml")
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return alerts + [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_every_metric_that_is_asked_for_is_one_that_a_service_has() -> None:
    asked = {name for expression in expressions() for name in _NAMED.findall(expression)}
    assert asked <= declared()
    assert {"parley_lag_messages", "parley_lag_seconds", "parley_outbox_age_seconds"} <= asked
    assert {"parley_dead_letters_total", "parley_unknown_intents", "parley_suppressed_total"} <= asked


def test_every_service_is_scraped_where_it_listens() -> None:
    told = document(PROMETHEUS / "prometheus.yml")
    scraped = {
        job["job_name"]: job["dns_sd_configs"][0] for job in told["scrape_configs"] if "dns_sd_configs" in job
    }
    assert scraped.keys() == set(SERVICES)
    for name, found in scraped.items():
        assert found["names"] == [name]
        assert str(found["port"]) == COMPOSE["services"][name]["environment"]["PARLEY_PORT"]


def test_every_alert_says_how_bad_it_is_and_is_explained() -> None:
    book = (ROOT / "docs" / "deployment.md").read_text()
    for group in document(PROMETHEUS / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"page", "ticket", "info"}
            assert rule["annotations"]["summary"]
            assert rule["alert"] in book


def test_the_dashboard_is_whole() -> None:
    told = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in told["panels"]]
    assert len(ids) == len(set(ids))
    for panel in told["panels"]:
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["targets"], panel["title"]
    sources = {
        source["uid"]
        for source in document(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    }
    assert {panel["datasource"]["uid"] for panel in told["panels"] if "datasource" in panel} == sources


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=["config", "rules", "alerts fire"],
)
def test_prometheus_agrees(arguments: tuple[str, ...]) -> None:
    said = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_mounted_file_is_there() -> None:
    for text in strings(document(ROOT / "docker-compose.observability.yml")):
        if text.startswith("./"):
            assert Path(ROOT, text.split(":")[0]).exists(), text
