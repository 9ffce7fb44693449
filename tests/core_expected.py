"""The pod of a plain command job, whole; tests state what differs."""

import copy

from core_objects import DEFAULTS, make_job

from trainyard_operator.api import TrainingJob
from trainyard_operator.desired import build_pod, spec_hash

OWNER = {
    "apiVersion": "trainyard.dev/v1alpha1",
    "kind": "TrainingJob",
    "name": "nodules",
    "uid": "uid-1",
    "controller": True,
}
LABELS = {
    "app.kubernetes.io/name": "trainyard",
    "app.kubernetes.io/component": "trainer",
    "app.kubernetes.io/instance": "nodules",
    "app.kubernetes.io/managed-by": "trainyard-operator",
    "trainyard.dev/job": "nodules",
    "trainyard.dev/job-uid": "uid-1",
}
MASTER_LABELS = LABELS | {
    "trainyard.dev/attempt": "1",
    "trainyard.dev/node-index": "0",
    "training.kubeflow.org/job-name": "nodules",
    "training.kubeflow.org/replica-type": "master",
    "training.kubeflow.org/replica-index": "0",
    "training.kubeflow.org/job-role": "master",
}
RUN_ENV = {
    "HOME": "/tmp",
    "USER": "trainyard",
    "PYTHONUNBUFFERED": "1",
    "TRAINYARD_SCRATCH": "/tmp/trainyard",
    "TRAINYARD_TERMINATION_LOG": "/dev/termination-log",
    "TRAINYARD_PROGRESS_PORT": "9464",
}
GANG_ENV = {
    "MASTER_ADDR": "nodules-master-0.nodules",
    "MASTER_PORT": "23456",
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "GROUP_RANK": "0",
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "1",
    "PET_NODE_RANK": "0",
    "PET_MASTER_ADDR": "nodules-master-0.nodules",
    "PET_MASTER_PORT": "23456",
    "TRAINYARD_JOB": "nodules",
    "TRAINYARD_NAMESPACE": "research",
    "TRAINYARD_JOB_UID": "uid-1",
    "TRAINYARD_ATTEMPT": "1",
    "TRAINYARD_POD": "nodules-master-0",
    "TRAINYARD_NODES": "2",
    "TRAINYARD_NODE_INDEX": "0",
    "TRAINYARD_PROCESSES_PER_NODE": "1",
    "TRAINYARD_NODE_NAME": {"fieldRef": {"fieldPath": "spec.nodeName"}},
    "ACCELERATE_USE_CPU": "true",
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "nodules-master-0",
        "namespace": "research",
        "labels": MASTER_LABELS,
        "annotations": {"trainyard.dev/spec-hash": spec_hash(make_job().spec)},
        "ownerReferences": [OWNER],
    },
    "spec": {
        "restartPolicy": "Never",
        "hostname": "nodules-master-0",
        "subdomain": "nodules",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 30,
            }
            for taint in ("not-ready", "unreachable")
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    },
}
CONTAINER = {
    "name": "pytorch",
    "image": "registry.example/mine:1",
    "command": ["python", "train.py"],
    "ports": [
        {"name": "master", "containerPort": 23456},
        {"name": "progress", "containerPort": 9464},
    ],
    "resources": {"limits": {}, "requests": {}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "volumeMounts": [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ],
}
ENV = RUN_ENV | GANG_ENV
ACCOMPANIED = {
    "TRAINYARD_SHARED": "/trainyard",
    "TRAINYARD_CHECKPOINT_DIR": "/trainyard/checkpoint",
    "TRAINYARD_PROGRESS_FILE": "/trainyard/progress.json",
    "TRAINYARD_PROGRESS_URL": "http://127.0.0.1:9464/program",
    "KUBEFLOW_TRAINER_SERVER_URL": "http://127.0.0.1:9464/kubeflow",
    "KUBEFLOW_TRAINER_SERVER_TOKEN": "/trainyard/token",
}
"""What a program finds beside a companion."""


def split(pod: dict) -> tuple[dict, dict, dict]:
    """The pod without its only container; the container without env; env by name."""
    pod = copy.deepcopy(pod)
    (container,) = pod["spec"].pop("containers")
    env = container.pop("env")
    by_name = {item["name"]: item.get("value", item.get("valueFrom")) for item in env}
    assert len(by_name) == len(env), "a variable stands twice"
    return pod, container, by_name


def build(job: TrainingJob, index: int = 0, attempt: int = 1) -> tuple[dict, dict, dict]:
    return split(build_pod(job, attempt, index, DEFAULTS))


def hashed(job: TrainingJob) -> dict:
    """The plain pod with the job's own hash."""
    annotations = {"trainyard.dev/spec-hash": spec_hash(job.spec)}
    return POD | {"metadata": POD["metadata"] | {"annotations": annotations}}
