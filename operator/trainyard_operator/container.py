"""The training container of a pod, and the volumes that it mounts."""

from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import JobSpec, TrainingJob
from trainyard_operator.companion import (
    SUPERVISED,
    VOLUME,
    dataset_mounts,
    has_companion,
    program_env,
    shared_mount,
)
from trainyard_operator.defaults import Defaults
from trainyard_operator.podenv import gang_env, launcher_env, run_env

USER_ID = 65532
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What restricted Pod Security asks of a pod."""
SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""And of a container."""
TRAINER_COMMAND = ["python3", "-m", "trainyard_trainer"]


def build_container(
    job: TrainingJob, attempt: int, node_index: int, defaults: Defaults
) -> dict[str, Any]:
    """The container that trains."""
    spec = job.spec
    accompanied = has_companion(job, defaults)
    supervised = SUPERVISED if accompanied else []
    container: dict[str, Any] = {
        "name": contract.CONTAINER,
        "image": spec.image or defaults.trainer_image,
        "command": [*supervised, *spec.command] if spec.command else TRAINER_COMMAND,
        "env": [
            *run_env(job, defaults),
            *(program_env(job) if accompanied else ()),
            *launcher_env(job, attempt, defaults),
            *gang_env(job, attempt, node_index),
        ],
        "ports": [
            {"name": "master", "containerPort": contract.MASTER_PORT},
            {"name": "progress", "containerPort": contract.PROGRESS_PORT},
        ],
        "resources": spec.resources.to_dict(),
        "securityContext": SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(spec, accompanied=accompanied),
    }
    if spec.args:
        container["args"] = spec.args
    return container


def build_volumes(spec: JobSpec, *, accompanied: bool) -> list[dict[str, Any]]:
    """What is writable in a restricted pod. accompanied: whether there is a companion."""
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    if accompanied:
        volumes.append({"name": VOLUME, "emptyDir": {}})
    if spec.dataset and spec.dataset.uri:
        limit = spec.dataset.size_limit
        volumes.append({"name": "dataset", "emptyDir": {"sizeLimit": limit} if limit else {}})
        if cache := spec.dataset.cache:
            claim = {"persistentVolumeClaim": {"claimName": cache.claim}}
            volumes.append({"name": "dataset-cache", **claim})
    return volumes


def _mounts(spec: JobSpec, *, accompanied: bool) -> list[dict[str, Any]]:
    mounts = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  mount points inside the pod
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if accompanied:
        mounts.append(shared_mount())
    return mounts + dataset_mounts(spec)
