"""`backend: kubeflow`: one attempt as a kubeflow.org/v1 PyTorchJob, whose pods Kubeflow makes.

The pods carry our labels through the template, so they are watched and judged as our own are. The
PyTorchJob neither restarts nor cleans up nor counts time: all that stays with this operator.
"""

from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import PYTORCHJOB_API, PYTORCHJOB_KIND, Env, Label
from trainyard_operator.identity import labels_of, owner_of

PORT_NAME = "pytorchjob-port"
"""The port of this name is the one that MASTER_PORT is taken from."""
_OF_KUBEFLOW = frozenset(
    {
        "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "PET_MASTER_ADDR", "PET_MASTER_PORT",
        "PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE",
    }
)  # fmt: skip
_LABELS_OF_ONE_NODE = frozenset(
    {
        Label.NODE_INDEX,
        Label.KUBEFLOW_JOB,
        Label.KUBEFLOW_JOB_ROLE,
        Label.KUBEFLOW_REPLICA_INDEX,
        Label.KUBEFLOW_REPLICA_TYPE,
    }
)
_OF_ONE_NODE = frozenset({"GROUP_RANK", Env.NODE_INDEX})
"""What a template of several pods cannot know; the trainer takes PET_NODE_RANK."""


def build_pytorchjob(job: TrainingJob, attempt: int, pods: list[dict[str, Any]]) -> dict[str, Any]:
    """From the pod of the first node and, where there are more, that of the second."""
    replicas = {"Master": _replica(pods[0], 1)}
    if job.spec.nodes > 1:
        replicas["Worker"] = _replica(pods[1], job.spec.nodes - 1)
    return {
        "apiVersion": PYTORCHJOB_API,
        "kind": PYTORCHJOB_KIND,
        "metadata": {
            "name": job.metadata.name,
            "namespace": job.metadata.namespace,
            "labels": {**labels_of(job), Label.ATTEMPT: str(attempt)},
            "ownerReferences": [owner_of(job)],
        },
        "spec": {
            "nprocPerNode": str(job.spec.ranks_per_node),
            "pytorchReplicaSpecs": replicas,
            # Pods keep their logs; this operator deletes them when its own rules say so.
            "runPolicy": {"cleanPodPolicy": "None"},
        },
    }


def _replica(pod: dict[str, Any], count: int) -> dict[str, Any]:
    return {"replicas": count, "restartPolicy": "Never", "template": _template(pod)}


def _template(pod: dict[str, Any]) -> dict[str, Any]:
    """What all pods of one role have in common."""
    metadata, spec = pod["metadata"], pod["spec"]
    labels = {k: v for k, v in metadata["labels"].items() if k not in _LABELS_OF_ONE_NODE}
    left_out = {"hostname", "subdomain", "restartPolicy"}
    common = {key: value for key, value in spec.items() if key not in left_out}
    containers = [
        _container(each) if each["name"] == contract.CONTAINER else each
        for each in spec["containers"]
    ]
    return {
        "metadata": {"labels": labels, "annotations": metadata["annotations"]},
        "spec": {**common, "containers": containers},
    }


def _container(container: dict[str, Any]) -> dict[str, Any]:
    left_out = _OF_KUBEFLOW | _OF_ONE_NODE
    env = [each for each in container["env"] if each["name"] not in left_out]
    pod_name = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return {
        **container,
        "env": [{"name": Env.POD, **pod_name} if e["name"] == Env.POD else e for e in env],
        "ports": [
            {**port, "name": PORT_NAME} if port["name"] == "master" else port
            for port in container["ports"]
        ],
    }
