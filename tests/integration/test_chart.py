"""What the Helm chart renders and refuses, without a cluster."""

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.places import CHECKOUT
from cluster.process import run
from integration.helm_chart import CHART, Helm, environment_of, of_kind

from trainyard_operator.api import SecretRef, Storage
from trainyard_operator.crd import RESOURCES, build_crd
from trainyard_operator.settings import Settings, read_settings

FREE = {"resources", "dashboard.labels"}
"""Values whose keys are the user's."""
BAD_VALUES = (
    "Error: values don't meet the specifications of the schema(s) in the following chart(s):\n"
    "trainyard:\n"
)


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    return Helm(tmp_path / "helm")


def test_lint_finds_nothing(helm: Helm) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.must("lint", "--strict", CHART)


def test_committed_manifests_are_what_the_chart_renders(tmp_path: Path) -> None:
    run([sys.executable, CHECKOUT / "charts" / "generate.py", tmp_path])
    written = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(written) == 6
    for path in written:
        committed = CHECKOUT / path.relative_to(tmp_path)
        assert committed.read_text() == path.read_text(), "run `make manifests`"


def test_crds_are_the_generated_ones_and_are_kept(helm: Helm) -> None:
    expected = [build_crd(resource) for resource in RESOURCES]
    for item in expected:
        item["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    found = [item for item in helm.render() if item["kind"] == "CustomResourceDefinition"]
    assert found == expected


def test_crds_can_be_left_out(helm: Helm) -> None:
    kinds = [item["kind"] for item in helm.render(**{"crds.enabled": False})]
    assert "CustomResourceDefinition" not in kinds


def test_one_namespace_needs_no_right_beyond_it(helm: Helm) -> None:
    shared = {f"{name}.enabled": False for name in ("crds", "aggregateRoles", "storagePolicy")}
    objects = helm.render(watchNamespace="research", **shared)
    assert [(item["kind"], item["metadata"]["namespace"]) for item in objects] == [
        ("PodDisruptionBudget", "trainyard-system"),
        ("ServiceAccount", "trainyard-system"),
        ("Role", "research"),
        ("Role", "trainyard-system"),
        ("RoleBinding", "research"),
        ("RoleBinding", "trainyard-system"),
        ("Service", "trainyard-system"),
        ("Deployment", "trainyard-system"),
        ("Pod", "trainyard-system"),
    ]
    environment = environment_of(of_kind(objects, "Deployment"))
    assert environment["TRAINYARD_OPERATOR_NAMESPACES"] == "research"


def test_each_right_of_the_operator_has_its_reason() -> None:
    lines = (CHECKOUT / "manifests" / "install" / "operator.yaml").read_text().splitlines()
    rules = [index for index, line in enumerate(lines) if line.startswith("  - apiGroups:")]
    assert len(rules) == 14
    assert [lines[index] for index in rules if not lines[index - 1].startswith("  # ")] == []


def test_default_storage_reaches_the_operator_as_given(helm: Helm) -> None:
    storage = {
        "uri": "s3://lung/runs",
        "endpoint": "https://s3.example",
        "region": "eu-1",
        "credentialsSecretRef": {"name": "s3-credentials"},
        "compat": "strict",
    }
    environment = environment_of(of_kind(helm.render(storage=storage), "Deployment"))
    assert read_settings([], environment).defaults.storage == Storage(
        uri="s3://lung/runs",
        endpoint="https://s3.example",
        region="eu-1",
        credentials_secret_ref=SecretRef(name="s3-credentials"),
        compat="strict",
    )


def test_pull_secrets_of_jobs_reach_the_operator(helm: Helm) -> None:
    secrets = [{"name": "registry"}, {"name": "mirror"}]
    deployment = of_kind(helm.render(**{"trainerImage.pullSecrets": secrets}), "Deployment")
    defaults = read_settings([], environment_of(deployment)).defaults
    assert defaults.pull_secrets == ("registry", "mirror")
    assert "imagePullSecrets" not in deployment["spec"]["template"]["spec"]


def test_defaults_and_versions_are_the_operators_own(helm: Helm) -> None:
    environment = environment_of(of_kind(helm.render(), "Deployment"))
    assert read_settings([], environment) == Settings()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]


def test_flags_of_the_operator_can_be_given(helm: Helm) -> None:
    deployment = of_kind(helm.render(extraArgs=["--workers=32"]), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert read_settings(container["args"], {}).workers == 32


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"trainerImge": {}}, "- at '': additional properties 'trainerImge' not allowed"),
        (
            {"storage": {"url": "s3://b"}},
            "- at '/storage': additional properties 'url' not allowed",
        ),
        (
            {"storage.compat": "minio"},
            "- at '/storage/compat': value must be one of '', 'aws', 'strict', 'legacy'",
        ),
        # An endpoint without a URI would be of no effect.
        ({"storage.region": "eu-1"}, "- at '/storage/region': value must be ''"),
        ({"watchNamespace": ["a"]}, "- at '/watchNamespace': got array, want string"),
    ],
)
def test_schema_refuses(helm: Helm, values: dict[str, Any], sentence: str) -> None:
    assert helm.refusal(**values) == f"{BAD_VALUES}{sentence}\n\n"


def test_one_replica_may_be_drained_and_uses_the_lease_all_the_same(helm: Helm) -> None:
    objects = helm.render(replicas=1)
    assert "PodDisruptionBudget" not in {item["kind"] for item in objects}
    assert of_kind(objects, "Deployment")["spec"]["replicas"] == 1
    assert environment_of(of_kind(objects, "Deployment"))["TRAINYARD_OPERATOR_LEASE_NAME"]


def test_replicas_of_one_release_share_a_lease_that_no_other_has(helm: Helm) -> None:
    text = helm.must("template", "second", CHART, "--namespace=research")
    objects = [item for item in yaml.safe_load_all(text) if item]
    name = environment_of(of_kind(objects, "Deployment"))["TRAINYARD_OPERATOR_LEASE_NAME"]
    rights = next(o for o in objects if o["kind"] == "Role")
    assert rights["rules"][1]["resourceNames"] == [name] == ["second-operator"]


def test_chart_can_be_part_of_another(helm: Helm, tmp_path: Path) -> None:
    umbrella = tmp_path / "umbrella"
    shutil.copytree(CHART, umbrella / "charts" / "trainyard")
    metadata = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0"}
    (umbrella / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    objects = helm.render(umbrella, **{"trainyard.trainerImage.tag": "2", "global.team": "a"})
    environment = environment_of(of_kind(objects, "Deployment"))
    assert environment["TRAINYARD_OPERATOR_TRAINER_IMAGE"] == "trainyard-trainer:2"


def test_each_value_is_explained_and_known_to_the_schema() -> None:
    text = (CHART / "values.yaml").read_text()
    lines = text.splitlines()
    keys = [index for index, line in enumerate(lines) if re.match(r" *\w+:", line)]
    bare = [lines[index] for index in keys if not lines[index - 1].lstrip().startswith("# ")]
    assert bare == []
    schema = json.loads((CHART / "values.schema.json").read_text())
    del schema["properties"]["global"]
    assert set(_keys_of_schema(schema)) == set(_keys(yaml.safe_load(text)))


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict) and prefix + key not in FREE:
            yield from _keys(value, f"{prefix}{key}.")


def _keys_of_schema(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in schema.get("properties", {}).items():
        yield prefix + key
        if prefix + key not in FREE:
            yield from _keys_of_schema(value, f"{prefix}{key}.")
