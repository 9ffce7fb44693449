"""Pure builders of the objects that a TrainingJob owns."""

from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import TrainingJob
from trainyard_operator.companion import GRACE_SECONDS as COMPANION_GRACE
from trainyard_operator.companion import build_companion, has_companion
from trainyard_operator.container import (
    POD_SECURITY,
    SECURITY,
    TRAINER_COMMAND,
    build_container,
    build_volumes,
)
from trainyard_operator.contract import Annotation, Label
from trainyard_operator.defaults import Defaults, run_uri, storage_of
from trainyard_operator.identity import labels_of, node_index_of, node_name, owner_of, spec_hash
from trainyard_operator.overlay import merge, only_pod_parts
from trainyard_operator.podenv import build_run_request, gang_env, with_cpu_env
from trainyard_operator.podgroup import membership

__all__ = [
    "TRAINER_COMMAND",
    "Defaults",
    "build_pod",
    "build_run_request",
    "build_service",
    "node_index_of",
    "node_name",
    "run_uri",
    "spec_hash",
    "storage_of",
]

GRACE_SECONDS = 60
"""Time for a checkpoint between SIGTERM and SIGKILL."""
UNREACHABLE_SECONDS = 30
"""How long a pod stays on a node that stopped answering."""


def build_service(job: TrainingJob) -> dict[str, Any]:
    """The headless service through which the pods of a gang find the first one."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": job.metadata.name,
            "namespace": job.metadata.namespace,
            "labels": labels_of(job),
            "ownerReferences": [owner_of(job)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {Label.JOB_UID: job.metadata.uid},
            "ports": [
                {"name": "master", "port": contract.MASTER_PORT},
                {"name": "progress", "port": contract.PROGRESS_PORT},
            ],
        },
    }


def build_pod(
    job: TrainingJob, attempt: int, node_index: int, defaults: Defaults
) -> dict[str, Any]:
    """The pod of one node of one attempt, with the job's template laid over it."""
    essential = merge(_essential(job, attempt, node_index), membership(job, attempt))
    base = merge(essential, {"spec": _pod_spec(job, attempt, node_index, defaults)})
    pod = merge(merge(base, only_pod_parts(job.spec.template or {})), essential)
    return _with_names(_with_essential_env(pod, gang_env(job, attempt, node_index)))


def _essential(job: TrainingJob, attempt: int, node_index: int) -> dict[str, Any]:
    """What a template must not change: without it the gang does not find itself."""
    role = "master" if node_index == 0 else "worker"
    name = node_name(job.metadata.name, node_index)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": job.metadata.namespace,
            "labels": labels_of(job)
            | {
                Label.ATTEMPT: str(attempt),
                Label.NODE_INDEX: str(node_index),
                Label.KUBEFLOW_JOB: job.metadata.name,
                Label.KUBEFLOW_REPLICA_TYPE: role,
                Label.KUBEFLOW_REPLICA_INDEX: str(max(node_index - 1, 0)),
            }
            | ({Label.KUBEFLOW_JOB_ROLE: "master"} if node_index == 0 else {}),
            "annotations": {Annotation.SPEC_HASH: spec_hash(job.spec)},
            "ownerReferences": [owner_of(job)],
        },
        "spec": {
            "restartPolicy": "Never",
            "hostname": name,
            "subdomain": job.metadata.name,
        },
    }


def _pod_spec(
    job: TrainingJob, attempt: int, node_index: int, defaults: Defaults
) -> dict[str, Any]:
    scheduling, accompanied = job.spec.scheduling, has_companion(job, defaults)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": COMPANION_GRACE if accompanied else GRACE_SECONDS,
        "securityContext": POD_SECURITY,
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": UNREACHABLE_SECONDS,
            }
            for taint in ("not-ready", "unreachable")
        ],
        "containers": [build_container(job, attempt, node_index, defaults)],
        "volumes": build_volumes(job.spec, accompanied=accompanied),
        **defaults.of_pods,
    }
    if accompanied:
        companion = build_companion(job, attempt, node_index, defaults, SECURITY)
        spec["initContainers"] = [companion]
    if scheduling.scheduler_name:
        spec["schedulerName"] = scheduling.scheduler_name
    if scheduling.priority_class_name:
        spec["priorityClassName"] = scheduling.priority_class_name
    return spec


def _with_names(pod: dict[str, Any]) -> dict[str, Any]:
    """On the host's network a pod knows the cluster's names only if it asks for that."""
    spec = pod["spec"]
    if not spec.get("hostNetwork") or "dnsPolicy" in spec:
        return pod
    return {**pod, "spec": {**spec, "dnsPolicy": "ClusterFirstWithHostNet"}}


def _with_essential_env(pod: dict[str, Any], env: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod with the gang's variables restored in the training container."""
    spec = pod["spec"]
    containers = [
        with_cpu_env(merge(container, {"env": env}))
        if container["name"] == contract.CONTAINER
        else container
        for container in spec["containers"]
    ]
    return {**pod, "spec": {**spec, "containers": containers}}
