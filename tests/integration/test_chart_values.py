"""Each value of the chart has an effect, and whatever is rendered is taken by an API server."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.places import CHECKOUT
from integration.api_server import CORE, ApiServer, plural_of
from integration.chart_values import NEEDED, OTHER
from integration.helm_chart import CHART, Helm, of_kind

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MONITORING = ("PodMonitor", "PrometheusRule")
DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "test", "force": "true"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


def test_other_values_are_all_values() -> None:
    page = (CHECKOUT / "docs" / "values.md").read_text()
    documented = re.findall(r"^\| `([\w.]+)` \| `", page, re.M)
    assert set(OTHER) - {"resources"} == {k for k in documented if not k.startswith("resources.")}


@pytest.mark.parametrize("key", OTHER)
def test_each_value_changes_what_is_rendered(helm: Helm, key: str) -> None:
    needed = {k: v for k, v in NEEDED.get(key.partition(".")[0], {}).items() if k != key}
    assert helm.render(**needed, **{key: OTHER[key]}) != helm.render(**needed)


def test_labels_are_on_every_object_but_the_crd_and_the_test(helm: Helm) -> None:
    objects = helm.render(
        **{
            **OTHER,
            "watchNamespace": "",
            "aggregateRoles.enabled": True,
            "storagePolicy.enabled": True,
        }
    )
    bare = [o["kind"] for o in objects if o["metadata"].get("labels", {}).get("team") is None]
    assert bare == ["Pod"]


def test_dashboard_and_rules_are_the_files(helm: Helm) -> None:
    objects = helm.render(**{"dashboard.enabled": True, "prometheusRule.enabled": True})
    data = of_kind(objects, "ConfigMap")["data"]
    files = CHART / "files"
    assert json.loads(data["trainyard.json"]) == json.loads((files / "dashboard.json").read_text())
    assert of_kind(objects, "PrometheusRule")["spec"] == yaml.safe_load(
        (files / "alerts.yaml").read_text()
    )


def collection_of(item: dict[str, Any]) -> str:
    version, plural = item["apiVersion"], plural_of(item["kind"])
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    namespace = item["metadata"].get("namespace")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


@pytest.fixture(scope="module")
def ready(api: ApiServer) -> ApiServer:
    """With the namespaces that are named, and the kinds of Prometheus' operator, of any form."""
    for name in ("research", "queue"):
        api.send("POST", f"{CORE}/namespaces", {"metadata": {"name": name}})
    for kind in MONITORING:
        api.must("POST", CRDS, build_crd_of(kind))
    for kind in MONITORING:
        wait_until_served(api, f"/apis/monitoring.coreos.com/v1/{kind.lower()}s")
    return api


def build_crd_of(kind: str) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [version],
        },
    }


def wait_until_served(api: ApiServer, path: str) -> None:
    for _ in range(1200):
        if api.send("GET", path).ok:
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} is not served")


def assert_taken(api: ApiServer, objects: list[dict[str, Any]]) -> None:
    """By a dry run on the server, which validates, runs admission, and stores nothing."""
    for item in objects:
        path = f"{collection_of(item)}/{item['metadata']['name']}"
        api.must("PATCH", path, item, params=DRY_RUN, headers=APPLY)


@pytest.mark.parametrize("watched", ["", "research"])
@pytest.mark.parametrize("values", [{}, OTHER], ids=["defaults", "other"])
def test_api_server_takes_all_that_is_rendered(
    ready: ApiServer, helm: Helm, values: dict[str, Any], watched: str
) -> None:
    objects = helm.render(**{**values, "crds.enabled": True, "watchNamespace": watched})
    assert_taken(ready, objects)


@pytest.mark.parametrize(
    "path", sorted((CHECKOUT / "manifests").rglob("*.yaml")), ids=lambda path: path.name
)
def test_api_server_takes_every_manifest(ready: ApiServer, path: Path) -> None:
    objects = [item for item in yaml.safe_load_all(path.read_text()) if item]
    for item in objects:
        if item["kind"] == "TrainingJob":
            item["metadata"].setdefault("namespace", "default")
    assert_taken(ready, [item for item in objects if item["kind"] != "Kustomization"])
