"""A Kubeflow PyTorchJob (kubeflow.org/v1) as a TrainingJob. Pure.

What has no place there is told in a sentence for each field; nothing is dropped in silence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trainyard.errors import Rejected
from trainyard.podparts import split_pod
from trainyard_operator.api import LONGEST_NAME, NAME_PATTERN
from trainyard_operator.contract import API_VERSION, JOB_KIND

SOURCE_API, SOURCE_KIND = "kubeflow.org/v1", "PyTorchJob"
KUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_REPLICAS = "spec.pytorchReplicaSpecs"
_SAME_POLICIES = (
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "suspend",
    "cleanPodPolicy",
)
_KEPT_METADATA = ("name", "namespace", "labels", "annotations")
_NOT_NEEDED = {
    "spec.runPolicy.managedBy": "Kueue is named in spec.scheduling.queue",
    "spec.runPolicy.schedulingPolicy.minAvailable": "a gang always starts whole",
    "spec.runPolicy.schedulingPolicy.minResources": "a PodGroup here asks for pods alone",
    "spec.runPolicy.schedulingPolicy.scheduleTimeoutSeconds": "a job may wait for nodes for ever",
    "spec.elasticPolicy.metrics": "the number of nodes follows what the cluster has, not a load",
    "spec.elasticPolicy.rdzvBackend": "ranks meet at MASTER_ADDR, which each attempt sets",
    "spec.elasticPolicy.rdzvConf": "ranks meet at MASTER_ADDR, which each attempt sets",
    "spec.elasticPolicy.rdzvHost": "ranks meet at MASTER_ADDR, which each attempt sets",
    "spec.elasticPolicy.rdzvId": "ranks meet at MASTER_ADDR, which each attempt sets",
    "spec.elasticPolicy.rdzvPort": "ranks meet at MASTER_ADDR, which each attempt sets",
    "spec.elasticPolicy.standalone": "ranks meet at MASTER_ADDR, which each attempt sets",
}
"""Fields without a place, and why none is needed."""


@dataclass
class Conversion:
    """What became of a PyTorchJob."""

    manifest: dict[str, Any]
    """The TrainingJob."""
    notes: list[str] = field(default_factory=list)
    """A sentence for each field that was not carried over as it was."""

    def drop(self, path: str) -> None:
        """Tell of a field that has no place."""
        reason = _NOT_NEEDED.get(path, "it is unknown to Trainyard")
        self.notes.append(f"{path} is left out: {reason}.")


def convert(source: Any, entrypoint: tuple[str, ...] = ()) -> Conversion:
    """entrypoint: command of an image whose own is not written down.

    Raises Rejected where it is no PyTorchJob, or has no command.
    """
    spec, replicas = _parts_of(source)
    job: dict[str, Any] = {}
    found = Conversion({"apiVersion": API_VERSION, "kind": JOB_KIND, "spec": job})
    found.manifest = {**found.manifest, "metadata": _metadata(source, found), "spec": job}
    leader = replicas.get("Master") or replicas["Worker"]
    role = "Master" if replicas.get("Master") else "Worker"
    job["nodes"] = sum(each.get("replicas", 1) for each in replicas.values())
    policy = dict(spec.get("runPolicy") or {})
    scheduling = _scheduling(source, policy.pop("schedulingPolicy", None) or {}, found)
    template_path = f"{_REPLICAS}.{role}.template"
    parts = split_pod(leader.get("template") or {}, template_path)
    job |= parts.spec
    found.notes += parts.notes
    if "command" not in job:
        job["command"] = _require_entrypoint(entrypoint, template_path)
    elif entrypoint:
        found.notes.append("--entrypoint is not used: the job has a command.")
    job["processesPerNode"] = _processes(spec, found)
    if elastic := spec.get("elasticPolicy"):
        job["elastic"] = _elastic(elastic, bool(replicas.get("Master")), job["nodes"], found)
    job["runPolicy"] = _run_policy(policy, spec.get("elasticPolicy") or {}, leader, role, found)
    job["scheduling"] = parts.scheduling | scheduling
    found.notes += _differences(replicas)
    known = {"nprocPerNode", "elasticPolicy", "pytorchReplicaSpecs", "runPolicy"}
    for key in sorted(set(spec) - known):
        found.drop(f"spec.{key}")
    found.manifest["spec"] = _ordered({k: v for k, v in job.items() if v not in ({}, [], None)})
    found.notes.append(
        "spec.storage is not there: set it, and what the program writes to "
        "$TRAINYARD_CHECKPOINT_DIR is kept and put back after a restart."
    )
    return found


def _parts_of(source: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The spec and its replicas by role. Raises Rejected."""
    if not isinstance(source, dict) or source.get("kind") != SOURCE_KIND:
        raise Rejected(f"kind: expected a {SOURCE_KIND} of {SOURCE_API}")
    if source.get("apiVersion") != SOURCE_API:
        raise Rejected(f"apiVersion: is {source.get('apiVersion')!r}, expected {SOURCE_API}")
    spec = source.get("spec") or {}
    replicas = spec.get("pytorchReplicaSpecs") or {}
    unknown = sorted(set(replicas) - {"Master", "Worker"})
    if unknown or not any(replicas.values()):
        raise Rejected(f"{_REPLICAS}: expected Master, Worker or both")
    return spec, {role: each for role, each in replicas.items() if each}


def _metadata(source: dict[str, Any], found: Conversion) -> dict[str, Any]:
    given = source.get("metadata") or {}
    kept = {key: given[key] for key in _KEPT_METADATA if given.get(key)}
    annotations = {
        key: value
        for key, value in kept.pop("annotations", {}).items()
        if key != "kubectl.kubernetes.io/last-applied-configuration"
    }
    name = str(given.get("name") or "")
    if not re.match(NAME_PATTERN, name) or len(name) > LONGEST_NAME:
        kept["name"] = re.sub("[^a-z0-9-]+", "-", name.lower()).strip("-0123456789")[:LONGEST_NAME]
        kept["name"] = kept["name"].rstrip("-") or "job"
        found.notes.append(f"metadata.name '{name}' cannot be kept; it is '{kept['name']}' now.")
    return kept | ({"annotations": annotations} if annotations else {})


def _require_entrypoint(entrypoint: tuple[str, ...], path: str) -> list[str]:
    if not entrypoint:
        raise Rejected(
            f"{path}: container 'pytorch' has no command, and what its image starts is not known "
            "here; say it with --entrypoint 'python train.py'"
        )
    return list(entrypoint)


def _processes(spec: dict[str, Any], found: Conversion) -> int | str:
    """Kubeflow's torchrun starts one process where nothing is said."""
    elastic = (spec.get("elasticPolicy") or {}).get("nProcPerNode")
    given = spec.get("nprocPerNode", elastic if elastic is not None else 1)
    if str(given).isdecimal():
        return int(given)
    if given != "auto":
        text = f"spec.nprocPerNode '{given}' became 'auto', the number of GPUs in spec.resources."
        found.notes.append(text)
    return "auto"


def _elastic(
    elastic: dict[str, Any], has_master: bool, nodes: int, found: Conversion
) -> dict[str, int]:
    """Replicas of Kubeflow's count workers."""
    more = int(has_master)
    least = int(elastic.get("minReplicas") or nodes - more) + more
    most = int(elastic.get("maxReplicas") or nodes - more) + more
    for key in sorted(set(elastic) - {"minReplicas", "maxReplicas", "maxRestarts", "nProcPerNode"}):
        found.drop(f"spec.elasticPolicy.{key}")
    return {"minNodes": min(least, nodes), "maxNodes": max(most, nodes)}


def _run_policy(
    policy: dict[str, Any],
    elastic: dict[str, Any],
    leader: dict[str, Any],
    role: str,
    found: Conversion,
) -> dict[str, Any]:
    kept = {key: policy.pop(key) for key in _SAME_POLICIES if policy.get(key) is not None}
    kept.setdefault("cleanPodPolicy", "None")
    limits = (policy.pop("backoffLimit", None), elastic.get("maxRestarts"))
    budget = next((int(limit) for limit in limits if limit is not None), None)
    restart, path = leader.get("restartPolicy"), f"{_REPLICAS}.{role}.restartPolicy"
    if restart == "Never" and budget is None:
        budget = 0
    elif restart and restart != "Never":
        found.notes.append(
            f"{path} '{restart}' is left out: a failure restarts the whole gang, up to "
            "runPolicy.maxRestarts times."
        )
    if budget is not None:
        kept["maxRestarts"] = min(budget, 1000)
    for key in sorted(policy):
        found.drop(f"spec.runPolicy.{key}")
    return kept


def _scheduling(
    source: dict[str, Any], policy: dict[str, Any], found: Conversion
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    labels = (source.get("metadata") or {}).get("labels") or {}
    if queue := policy.get("queue"):
        kept |= {"gang": "volcano", "queue": queue}
        found.notes.append(
            f"spec.runPolicy.schedulingPolicy.queue '{queue}' was read as Volcano's."
        )
    elif queue := labels.get(KUEUE_LABEL):
        kept["queue"] = queue
    elif policy:
        found.notes.append(
            "spec.runPolicy.schedulingPolicy names no scheduler; set spec.scheduling.gang to "
            "volcano or coscheduling where pods must be placed together."
        )
    if priority := policy.get("priorityClass"):
        kept["priorityClassName"] = priority
    for key in sorted(set(policy) - {"queue", "priorityClass"}):
        found.drop(f"spec.runPolicy.schedulingPolicy.{key}")
    return kept


def _differences(replicas: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Every node of a TrainingJob has one template: the Master's, where there is one."""
    if len(replicas) < 2:
        return
    master, worker = (replicas[role].get("template") or {} for role in ("Master", "Worker"))
    for path in _differing(master, worker, f"{_REPLICAS}.Worker.template"):
        yield f"{path} differs from the Master's; every node gets the Master's."


def _differing(one: Any, other: Any, path: str) -> Iterator[str]:
    """Where two documents part, as deep as their shapes agree."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differing(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _differing(first, second, f"{path}[{index}]")
    elif one != other:
        yield path


def _ordered(spec: dict[str, Any]) -> dict[str, Any]:
    """What a person looks for first comes first."""
    first = ("command", "args", "image", "nodes", "processesPerNode", "resources", "elastic")
    keys = [key for key in first if key in spec]
    return {key: spec[key] for key in (*keys, *(k for k in spec if k not in keys))}
