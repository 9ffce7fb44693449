"""The training container of a pod, and the volumes that it mounts."""

from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import JobSpec, TrainingJob
from trainyard_operator.defaults import Defaults
from trainyard_operator.podenv import gang_env, launcher_env, run_env

TRAINER_COMMAND = ["python3", "-m", "trainyard_trainer"]


def build_container(
    job: TrainingJob, attempt: int, node_index: int, defaults: Defaults
) -> dict[str, Any]:
    """The container that trains."""
    spec = job.spec
    container: dict[str, Any] = {
        "name": contract.CONTAINER,
        "image": spec.image or defaults.trainer_image,
        "command": spec.command or TRAINER_COMMAND,
        "env": [
            *run_env(job, defaults),
            *launcher_env(job, attempt, defaults),
            *gang_env(job, attempt, node_index),
        ],
        "ports": [
            {"name": "master", "containerPort": contract.MASTER_PORT},
            {"name": "progress", "containerPort": contract.PROGRESS_PORT},
        ],
        "resources": spec.resources.to_dict(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": volume["name"], "mountPath": path}
            for volume, path in zip(build_volumes(spec), _mount_paths(spec), strict=True)
        ],
    }
    if spec.args:
        container["args"] = spec.args
    return container


def build_volumes(spec: JobSpec) -> list[dict[str, Any]]:
    """What is writable in a restricted pod."""
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    if spec.dataset and spec.dataset.uri:
        limit = spec.dataset.size_limit
        volumes.append({"name": "dataset", "emptyDir": {"sizeLimit": limit} if limit else {}})
    return volumes


def _mount_paths(spec: JobSpec) -> list[str]:
    paths = ["/tmp", "/dev/shm"]  # noqa: S108  mount points inside the pod
    return [*paths, spec.dataset.mount_path] if spec.dataset and spec.dataset.uri else paths
