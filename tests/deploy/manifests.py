"""The manifests of Kubernetes as kustomize renders them.

Where kustomize is missing the base is put together here, with the two things that it uses: strategic merges
over everything of a kind, and a generated ConfigMap. A test holds that against kustomize where it is there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.files import ROOT, Document, document, documents

KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
PRODUCTION = KUBERNETES / "overlays" / "production"
KEDA = KUBERNETES / "components" / "keda"

# The letters of the hash that kustomize adds; none of our names is made of them.
_HASH = re.compile(r"^(parley)-[2456789bcdfghkmt]{10}$")


def kustomize() -> str | None:
    return shutil.which("kustomize") or shutil.which("kustomize", path=str(Path(sys.executable).parent))


def rendered(folder: Path) -> list[Document]:
    """By kustomize, the hash in the name of the ConfigMap taken off."""
    program = kustomize()
    assert program is not None
    said = subprocess.run(
        [program, "build", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr
    return [_plainly_named(each) for each in yaml.safe_load_all(said.stdout)]


def put_together() -> list[Document]:
    """The base, by hand."""
    told = document(BASE / "kustomization.yaml")
    found = [each for name in told["resources"] for each in documents(BASE / name)]
    for patch in told["patches"]:
        laid = document(BASE / patch["path"])
        spec = {"spec": laid["spec"]}
        found = [_merged(each, spec) if each["kind"] == patch["target"]["kind"] else each for each in found]
    for each in found:
        if each["kind"] != "Namespace":
            each["metadata"]["namespace"] = told["namespace"]
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in told["images"]}
    for each in found:
        for container in containers(each):
            container["image"] = images[container["image"]]
    for generator in told["configMapGenerator"]:
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        metadata = {"name": generator["name"], "namespace": told["namespace"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return found


def base() -> list[Document]:
    return rendered(BASE) if kustomize() else put_together()


def pod(manifest: Document) -> Document:
    spec: Document = manifest["spec"]["template"]["spec"]
    return spec


def containers(manifest: Document) -> list[Document]:
    if manifest["kind"] not in {"Deployment", "Job"}:
        return []
    return [*pod(manifest)["containers"], *pod(manifest).get("initContainers", ())]


def _merged(under: Any, over: Any) -> Any:
    match under, over:
        case dict(), dict():
            both = {key: _merged(under[key], over[key]) if key in under else over[key] for key in over}
            return under | both
        case list(), list() if all(isinstance(each, dict) and "name" in each for each in [*under, *over]):
            named = {each["name"]: each for each in over}
            for each in under:
                named[each["name"]] = _merged(each, named.get(each["name"], {}))
            return list(named.values())
        case _:
            return over


def _plainly_named(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plainly_named(each) for key, each in value.items()}
        case list():
            return [_plainly_named(each) for each in value]
        case str() if found := _HASH.match(value):
            return found[1]
        case _:
            return value
