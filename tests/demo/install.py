"""Install the operator on a cluster from `manifests/`, as pods of the test cluster can run it.

    python tests/demo/install.py

The Deployment is the one of `manifests/install`; what differs is that its image holds only
Python, and this checkout and its dependencies come from volumes.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.namespace import kubectl as test_kubectl
from cluster.namespace import prepare_namespace
from demo.jobs import CHECKOUT, cluster_template

from trainyard_operator.overlay import merge

NAMESPACE = "trainyard-system"
Kubectl = Callable[..., str]


def install(kubectl: Kubectl = test_kubectl) -> None:
    """CRD, rights and Deployment; returns when the operator is ready."""
    prepare_namespace(NAMESPACE)
    for manifest in sorted((CHECKOUT / "manifests" / "crd").glob("*.yaml")):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifest))
    kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "crd/trainingjobs.trainyard.dev"
    )
    objects = [on_test_cluster(item) for item in install_objects()]
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    kubectl("apply", "-f", "-", stdin=json.dumps(listed))
    kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/trainyard-operator")
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/trainyard-operator", "--timeout=120s")


def install_objects() -> list[dict[str, Any]]:
    """Everything of manifests/install."""
    texts = (path.read_text() for path in sorted((CHECKOUT / "manifests/install").glob("*.yaml")))
    objects = [item for text in texts for item in yaml.safe_load_all(text) if item]
    return [item for item in objects if item["kind"] not in {"Kustomization", "Namespace"}]


def on_test_cluster(item: dict[str, Any]) -> dict[str, Any]:
    """A Deployment with its code from volumes; any other object as it is."""
    if item["kind"] != "Deployment":
        return item
    template = cluster_template()
    container = template["spec"]["containers"][0] | {"name": "operator"}
    overlay = {**template, "spec": {**template["spec"], "containers": [container]}}
    return merge(item, {"spec": {"template": overlay}})


if __name__ == "__main__":
    install()
