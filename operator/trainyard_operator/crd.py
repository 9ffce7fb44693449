"""The CustomResourceDefinition, generated from the typed API.

python -m trainyard_operator.crd [DIRECTORY]      writes manifests/crd
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from trainyard_operator.api import LONGEST_NAME, NAME_PATTERN, JobSpec
from trainyard_operator.contract import GROUP, JOB_KIND, JOB_PLURAL, VERSION
from trainyard_operator.status import JobStatus

NAME_RULE = {
    "rule": f"self.metadata.name.size() <= {LONGEST_NAME} && "
    f"self.metadata.name.matches('{NAME_PATTERN}')",
    "message": f"metadata.name becomes part of host names: at most {LONGEST_NAME} lower-case "
    "letters, digits and '-', beginning with a letter and not ending with '-'.",
}
COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Progress", "string", ".status.display.progress", 0),
    ("Step", "string", ".status.display.step", 0),
    ("Loss", "string", ".status.display.loss", 0),
    ("Nodes", "string", ".status.display.nodes", 0),
    ("Restarts", "string", ".status.display.restarts", 0),
    ("Checkpoint", "date", ".status.checkpoints.latest.time", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Reason", "string", ".status.display.reason", 1),
    ("ETA", "string", ".status.progress.estimatedCompletionTime", 1),
    ("Best", "string", ".status.display.best", 1),
    ("Node", "string", ".status.display.node", 1),
)
_KEPT = frozenset(
    {
        "type", "description", "default", "enum", "format", "pattern", "nullable", "properties",
        "required", "items", "additionalProperties", "minimum", "maximum", "minLength",
        "maxLength", "minItems", "maxItems", "maxProperties",
    }
)  # fmt: skip


def build_crd() -> dict[str, Any]:
    """The whole object, as it is applied."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{JOB_PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": JOB_KIND,
                "listKind": f"{JOB_KIND}List",
                "plural": JOB_PLURAL,
                "singular": JOB_KIND.lower(),
                "shortNames": ["tj"],
                "categories": ["trainyard"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.nodes",
                "statusReplicasPath": ".status.nodes.ready",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path, "priority": priority}
            for name, type_, path, priority in COLUMNS
        ],
    }


def _schema() -> dict[str, Any]:
    spec, status = (model.model_json_schema(by_alias=True) for model in (JobSpec, JobStatus))
    return {
        "type": "object",
        "description": "One training run: what it is and what became of it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(spec, spec["$defs"]),
            "status": without_defaults(structural(status, status["$defs"])),
        },
        "x-kubernetes-validations": [NAME_RULE],
    }


def structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema of pydantic's as a structural schema of Kubernetes'."""
    node = _resolve(node, definitions)
    result = {k: v for k, v in node.items() if k in _KEPT or k.startswith("x-kubernetes-")}
    if "const" in node:
        result["enum"] = [node["const"]]
    if isinstance(node.get("default"), dict):
        result["default"] = {}
    elif "default" in node and node["default"] is None:
        del result["default"]
    if "properties" in node:
        result["properties"] = {
            name: structural(child, definitions) for name, child in node["properties"].items()
        }
        result.pop("additionalProperties", None)
    elif isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(node["additionalProperties"], definitions)
    else:
        result.pop("additionalProperties", None)
    if "items" in node:
        result["items"] = structural(node["items"], definitions)
    if result.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


def without_defaults(node: dict[str, Any]) -> dict[str, Any]:
    """The same schema for the status, which the operator writes in full."""
    result = {key: value for key, value in node.items() if key not in {"default", "required"}}
    if "properties" in node:
        result["properties"] = {k: without_defaults(v) for k, v in node["properties"].items()}
    if "items" in node:
        result["items"] = without_defaults(node["items"])
        keys = node.get("x-kubernetes-list-map-keys")
        if keys:
            result["items"]["required"] = keys
    return result


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """References followed, and a choice with null reduced to the other branch."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return _resolve(node, definitions)
    branches = [b for b in node.get("anyOf", ()) if b.get("type") != "null"]
    if len(branches) == 1:
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return {**_resolve(branches[0], definitions), **rest}
    return node


def main(directory: Path = Path("manifests/crd")) -> None:
    """Write the CRD's file."""
    path = directory / f"{GROUP}_{JOB_PLURAL}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render())
    print(path)


def render() -> str:
    """The file's text."""
    head = "# Generated by `make manifests` from operator/trainyard_operator/api.py; do not edit.\n"
    return head + yaml.safe_dump(build_crd(), sort_keys=False, width=100)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
