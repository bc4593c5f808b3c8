"""The manifests against the schemas of Kubernetes, and against what Parley needs of a cluster."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from typing import Any

import kubernetes_validate
import pytest

from contracts.activities import ActivityDispatched
from contracts.message import Topic
from servicekit.settings import ServiceSettings
from tests.deploy import manifests
from tests.deploy.files import SERVICES, Document, document, documents, settings_of
from tests.deploy.manifests import BASE, KEDA, KUBERNETES, PRODUCTION

VERSIONS = ("1.30", "1.33", kubernetes_validate.latest_version())
_NOT_KUBERNETES = {"kustomize.config.k8s.io", "keda.sh"}

needs_kustomize = pytest.mark.skipif(
    manifests.kustomize() is None, reason="kustomize is missing: the overlay was not rendered"
)


@cache
def base() -> tuple[Document, ...]:
    return tuple(manifests.base())


@cache
def production() -> tuple[Document, ...]:
    return tuple(manifests.rendered(PRODUCTION))


def of_kind(kind: str, found: tuple[Document, ...] | None = None) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in found or base() if each["kind"] == kind}


def deployment(name: str) -> Document:
    return of_kind("Deployment")[name]


def container(name: str) -> Document:
    (only,) = manifests.containers(deployment(name))
    return only


def environment(name: str) -> dict[str, Any]:
    return {each["name"]: each for each in container(name)["env"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_base_is_what_kubernetes_understands(version: str) -> None:
    for each in base():
        kubernetes_validate.validate(each, version, strict=True)


@needs_kustomize
@pytest.mark.parametrize("version", VERSIONS)
def test_the_overlay_is_what_kubernetes_understands(version: str) -> None:
    for each in production():
        if each["kind"] != "ScaledObject":
            kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_manifest_would_be_seen() -> None:
    wrong = {**deployment("contacts"), "spec": {**deployment("contacts")["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_file_that_needs_no_rendering_is_what_kubernetes_understands() -> None:
    for path in sorted([*KEDA.glob("*.yaml"), *PRODUCTION.glob("*.yaml"), BASE / "network-policies.yaml"]):
        for each in documents(path):
            if each["apiVersion"].split("/")[0] not in _NOT_KUBERNETES:
                kubernetes_validate.validate(each, VERSIONS[-1], strict=True)


@needs_kustomize
def test_the_base_put_together_by_hand_is_what_kustomize_makes() -> None:
    def by_name(found: list[Document]) -> dict[tuple[str, str], Document]:
        return {(each["kind"], each["metadata"]["name"]): each for each in found}

    assert by_name(manifests.put_together()) == by_name(manifests.rendered(BASE))


def test_each_service_has_its_deployment_service_and_budget() -> None:
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        assert of_kind(kind).keys() == set(SERVICES)
    for name in SERVICES:
        labels = deployment(name)["spec"]["template"]["metadata"]["labels"]
        assert of_kind("Service")[name]["spec"]["selector"].items() <= labels.items()
        assert (
            of_kind("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        )
        assert deployment(name)["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert container(name)["command"] == [f"parley-{name}"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_told_only_what_it_knows(name: str) -> None:
    told = {*environment(name), *of_kind("ConfigMap")["parley"]["data"]}
    assert {variable for variable in told if variable.startswith("PARLEY_")} <= settings_of(name)
    # The cluster would add PARLEY_..._SERVICE_HOST, which a service refuses, for services with such names.
    assert manifests.pod(deployment(name))["enableServiceLinks"] is False


def test_the_setup_is_told_only_what_it_knows() -> None:
    known = {f"PARLEY_{name.upper()}" for name in ServiceSettings.model_fields}
    assert of_kind("ConfigMap")["parley"]["data"].keys() <= known


@pytest.mark.parametrize("name", SERVICES)
def test_a_replica_has_a_name_of_its_own_that_survives_a_restart_of_its_container(name: str) -> None:
    assert environment(name)["PARLEY_INSTANCE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


@pytest.mark.parametrize("name", SERVICES)
def test_probes_ask_for_dependencies_only_before_sending_requests(name: str) -> None:
    told = container(name)
    assert told["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert told["startupProbe"]["httpGet"]["path"] == "/livez"
    assert told["readinessProbe"]["httpGet"]["path"] == "/readyz"
    ports = {port["name"]: port["containerPort"] for port in told["ports"]}
    assert ports == {"http": int(environment(name)["PARLEY_PORT"]["value"])}


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_has_time_to_leave_and_then_to_drain(name: str) -> None:
    leaving = int(container(name)["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = ServiceSettings.model_fields["drain_seconds"].default
    assert leaving + drain + 5 < manifests.pod(deployment(name))["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_every_pod_runs_without_privileges(kind: str) -> None:
    for each in of_kind(kind).values():
        spec = manifests.pod(each)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for told in manifests.containers(each):
            assert told["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert told["resources"]["requests"].keys() == {"cpu", "memory"}
            assert told["resources"]["limits"].keys() >= {"memory"}
    assert of_kind("ServiceAccount")["parley"]["automountServiceAccountToken"] is False


def test_nothing_is_open_that_no_policy_opens() -> None:
    policies = of_kind("NetworkPolicy")
    everybody = {"matchLabels": {"app.kubernetes.io/part-of": "parley"}}
    assert policies["parley-nothing"]["spec"] == {
        "podSelector": everybody,
        "policyTypes": ["Ingress", "Egress"],
    }
    for kind in ("Deployment", "Job"):
        for each in of_kind(kind).values():
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "parley"
    for name, policy in policies.items():
        for rule in policy["spec"].get("ingress", ()):
            assert rule.get("from"), f"{name} lets everybody in"


def test_no_secret_is_in_the_files() -> None:
    secret = re.compile(r"kind:\s*Secret|auth.?token:\s*\S|mongodb(\+srv)?://")
    for path in KUBERNETES.rglob("*.yaml"):
        assert not secret.search(path.read_text()), path


def test_the_scaler_looks_at_the_topic_and_group_that_the_channel_reads() -> None:
    from channel_sms.main import build
    from channel_sms.settings import Settings

    group, topic = "channel-sms.start-conversations", ActivityDispatched.wire.topic.named(channel="sms")
    read = {each.group: each.topic for each in build(Settings()).bus.subscriptions}
    assert read[group] == topic
    # KEDA's own schema is in no package; this is its shape as far as we use it.
    scaled = document(KEDA / "channel-sms.yaml")
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = scaled["spec"]
    assert spec["scaleTargetRef"]["name"] in of_kind("Deployment")
    (kafka,) = spec["triggers"]
    assert kafka["type"] == "kafka"
    assert all(isinstance(value, str) for value in kafka["metadata"].values())
    assert kafka["metadata"]["consumerGroup"] == group
    assert kafka["metadata"]["topic"] == topic
    assert int(kafka["metadata"]["lagThreshold"]) > 0
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= Topic(topic).partitions


@needs_kustomize
def test_the_scaler_alone_says_how_many_channels_there_are() -> None:
    assert "replicas" not in of_kind("Deployment", production())["channel-sms"]["spec"]
    assert of_kind("Deployment", production())["activities"]["spec"]["replicas"] == 3


@needs_kustomize
def test_only_the_webhooks_are_open_to_the_world() -> None:
    paths = [
        (path["backend"]["service"]["name"], path["path"])
        for ingress in of_kind("Ingress", production()).values()
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    channels = {name: name.removeprefix("channel-") for name in SERVICES if name.startswith("channel-")}
    webhooks = {
        name: importlib.import_module(f"{name.replace('-', '_')}.webhooks")
        for name in channels
        if importlib.util.find_spec(f"{name.replace('-', '_')}.webhooks")
    }
    assert sorted(paths) == [(name, f"/v1/webhooks/{channels[name]}") for name in sorted(webhooks)]
    for name, path in paths:
        for taken in (webhooks[name].INBOUND_PATH, webhooks[name].STATUS_PATH):
            assert taken.startswith(f"{path}/")
