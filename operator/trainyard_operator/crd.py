"""The CustomResourceDefinitions, generated from the typed API.

python -m trainyard_operator.crd [DIRECTORY]      writes manifests/crd
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainyard_operator.api import LONGEST_NAME, NAME_PATTERN, JobSpec
from trainyard_operator.apimodel import ApiModel
from trainyard_operator.contract import GROUP, JOB_KIND, JOB_PLURAL, VERSION
from trainyard_operator.status import JobStatus
from trainyard_operator.sweep.api import LONGEST_SWEEP_NAME, SweepSpec
from trainyard_operator.sweep.names import SWEEP_KIND, SWEEP_PLURAL
from trainyard_operator.sweep.status import SweepStatus

JOB_COLUMNS = (
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
SWEEP_COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Method", "string", ".spec.method", 0),
    ("Trials", "string", ".status.display.trials", 0),
    ("Running", "integer", ".status.counts.running", 0),
    ("Best", "string", ".status.display.best", 0),
    ("Mean", "string", ".status.display.summary", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Reason", "string", ".status.display.reason", 1),
    ("Objective", "string", ".spec.objective.metric", 1),
    ("Failed", "integer", ".status.counts.failed", 1),
    ("Stopped", "integer", ".status.counts.stopped", 1),
)
_KEPT = frozenset(
    {
        "type", "description", "default", "enum", "format", "pattern", "nullable", "properties",
        "required", "items", "additionalProperties", "minimum", "maximum", "minLength",
        "maxLength", "minItems", "maxItems", "maxProperties",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind that this operator serves."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[ApiModel]
    status: type[ApiModel]
    longest_name: int
    columns: tuple[tuple[str, str, str, int], ...]
    scale: dict[str, str] | None = None


JOB = Resource(
    kind=JOB_KIND,
    plural=JOB_PLURAL,
    short="tj",
    description="One training run: what it is and what became of it.",
    spec=JobSpec,
    status=JobStatus,
    longest_name=LONGEST_NAME,
    columns=JOB_COLUMNS,
    scale={
        "specReplicasPath": ".spec.nodes",
        "statusReplicasPath": ".status.nodes.ready",
    },
)
SWEEP = Resource(
    kind=SWEEP_KIND,
    plural=SWEEP_PLURAL,
    short="tsw",
    description="Folds, ablations and searches: many training runs as one object.",
    spec=SweepSpec,
    status=SweepStatus,
    longest_name=LONGEST_SWEEP_NAME,
    columns=SWEEP_COLUMNS,
)
RESOURCES = (JOB, SWEEP)


def build_crd(resource: Resource = JOB) -> dict[str, Any]:
    """The whole object, as it is applied."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short],
                "categories": ["trainyard"],
            },
            "versions": [_version(resource)],
        },
    }


def _version(resource: Resource) -> dict[str, Any]:
    scale = {"scale": resource.scale} if resource.scale else {}
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(resource)},
        "subresources": {"status": {}, **scale},
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path, "priority": priority}
            for name, type_, path, priority in resource.columns
        ],
    }


def _schema(resource: Resource) -> dict[str, Any]:
    models = (resource.spec, resource.status)
    spec, status = (model.model_json_schema(by_alias=True) for model in models)
    return {
        "type": "object",
        "description": resource.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(spec, spec["$defs"]),
            "status": without_defaults(structural(status, status["$defs"])),
        },
        "x-kubernetes-validations": [_name_rule(resource.longest_name)],
    }


def _name_rule(longest: int) -> dict[str, str]:
    return {
        "rule": f"self.metadata.name.size() <= {longest} && "
        f"self.metadata.name.matches('{NAME_PATTERN}')",
        "message": f"metadata.name becomes part of host names: at most {longest} lower-case "
        "letters, digits and '-', beginning with a letter and not ending with '-'.",
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
    """Write a file for each kind."""
    directory.mkdir(parents=True, exist_ok=True)
    for resource in RESOURCES:
        path = directory / f"{GROUP}_{resource.plural}.yaml"
        path.write_text(render(resource))
        print(path)


def render(resource: Resource = JOB) -> str:
    """The file's text."""
    head = "# Generated by `make manifests` from operator/trainyard_operator/api.py; do not edit.\n"
    return head + yaml.safe_dump(build_crd(resource), sort_keys=False, width=100)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
