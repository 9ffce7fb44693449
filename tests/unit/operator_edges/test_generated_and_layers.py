"""The CRD's file follows the model, and each library enters in one module."""

import ast
from pathlib import Path

import pytest
import yaml

from trainyard_operator.crd import RESOURCES, Resource, build_crd, render

ROOT = Path(__file__).resolve().parents[3]
LEADER = ("Role", "trainyard-leader")
OPERATOR = ROOT / "operator" / "trainyard_operator"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_crd_file_is_what_the_model_gives(resource: Resource):
    path = ROOT / "manifests" / "crd" / f"trainyard.dev_{resource.plural}.yaml"
    assert path.read_text() == render(resource), "run `make manifests`"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_field_of_the_crd_is_described(resource: Resource):
    def walk(node: dict, path: str) -> list[str]:
        bare = [] if node.get("description") or not path else [path]
        for name, child in (node.get("properties") or {}).items():
            bare += walk(child, f"{path}.{name}")
        if "items" in node:
            bare += [p for p in walk(node["items"], f"{path}[]") if p != f"{path}[]"]
        return bare

    schema = build_crd(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert [*walk(schema["spec"], ".spec"), *walk(schema["status"], ".status")] == []


@pytest.mark.parametrize(("library", "home"), [("kopf", "handlers"), ("kubernetes", "kube")])
def test_library_enters_in_one_module(library: str, home: str):
    users = set()
    for path in OPERATOR.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            if any(name.split(".")[0] == library for name in names):
                users.add(path.stem)
    assert users == {home}


def test_operator_may_do_only_this():
    documents = yaml.safe_load_all((ROOT / "manifests" / "install" / "operator.yaml").read_text())
    named = {(item["kind"], item["metadata"]["name"]): item for item in documents}
    role = named["ClusterRole", "trainyard-operator"]
    rights = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert rights == {
        *(("trainingjobs", verb) for verb in ("get", "list", "watch", "delete", "create", "patch")),
        ("trainingjobs/status", "patch"),
        *(("trainingsweeps", verb) for verb in ("get", "list", "watch", "delete")),
        ("trainingsweeps/status", "patch"),
        *(("pods", verb) for verb in ("get", "list", "watch", "create", "delete")),
        *(("services", verb) for verb in ("get", "create", "delete")),
        *(("deployments", verb) for verb in ("get", "create")),
        *(("podgroups", verb) for verb in ("get", "create")),
        ("events", "create"),
        *(("pytorchjobs", verb) for verb in ("get", "create", "delete")),
    }
    own = [(rule["verbs"], rule.get("resourceNames")) for rule in named[LEADER]["rules"]]
    assert own == [(["create"], None), (["get", "update"], ["trainyard-operator"])]
    assert {r for rule in named[LEADER]["rules"] for r in rule["resources"]} == {"leases"}
