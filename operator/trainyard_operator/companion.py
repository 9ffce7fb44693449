"""The companion of a program of any image: a sidecar of ours that does for it what our launcher
does for a recipe.

It brings a small supervisor to the folder that both containers share; the program's container
waits for that and runs the program under it. See `trainyard_trainer/companion.py`.
"""

import json
from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import JobSpec, TrainingJob
from trainyard_operator.contract import Env
from trainyard_operator.defaults import Defaults, storage_of
from trainyard_operator.podenv import DATASET_CACHE, build_run_request, env_value, gang_env, run_env

NAME = "trainyard-companion"
"""Of the container; a template may lay something over it."""
COMMAND = ["python3", "-m", "trainyard_trainer.companion"]
VOLUME = "trainyard"
SHARED = "/trainyard"
GRACE_SECONDS = 120
"""A program's own time to stop, then the companion's to store what it left."""
RESOURCES = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}
"""Uploads hold at most five parts of 16 MiB."""
_FIND_PYTHON = """
trap 'exit 75' TERM
while [ ! -e "$TRAINYARD_SHARED/program.py" ]; do sleep 0.1 || sleep 1; done
for python in python3 python; do
  if command -v $python >/dev/null; then exec $python "$TRAINYARD_SHARED/program.py" "$@"; fi
done
echo "spec.image: found no python3 to run the program under; add one." >&2
exit 78
"""
SUPERVISED = ["/bin/sh", "-c", _FIND_PYTHON, "trainyard"]
"""Stands before the program's own command."""


def has_companion(job: TrainingJob, defaults: Defaults) -> bool:
    """Without storage there is nothing that a companion could keep; and a template of Kubeflow's is
    one for many pods, each of which a sidecar would take for the same node."""
    is_possible = storage_of(job, defaults) is not None and job.spec.backend == "pods"
    return job.spec.command is not None and is_possible


def program_env(job: TrainingJob) -> list[dict[str, Any]]:
    """What a program finds in its environment thanks to its companion."""
    server = f"http://127.0.0.1:{contract.PROGRESS_PORT}"
    values = {
        Env.SHARED: SHARED,
        Env.CHECKPOINT_DIR: f"{SHARED}/checkpoint",
        Env.PROGRESS_FILE: f"{SHARED}/progress.json",
        Env.PROGRESS_URL: f"{server}{contract.PROGRAM_PATH}",
        Env.KUBEFLOW_URL: f"{server}{contract.KUBEFLOW_PATH}",
        Env.KUBEFLOW_TOKEN: f"{SHARED}/token",
    }
    if job.spec.dataset:
        values[Env.DATASET_DIR] = job.spec.dataset.mount_path
    return [env_value(name, value) for name, value in values.items()]


def build_companion(
    job: TrainingJob, attempt: int, node_index: int, defaults: Defaults, security: dict[str, Any]
) -> dict[str, Any]:
    """The sidecar. security: what every container of the pod is held to."""
    spec = job.spec
    own = {
        Env.SCRATCH: SHARED,
        Env.SHARED: SHARED,
        Env.RUN: build_run_request(spec).to_json(),
        Env.PROGRAM: json.dumps([*(spec.command or ()), *(spec.args or ())]),
    }
    base = [*run_env(job, defaults), *gang_env(job, attempt, node_index)]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, shared_mount()]  # noqa: S108
    mounts += dataset_mounts(spec)
    return {
        "name": NAME,
        "image": defaults.trainer_image,
        "command": COMMAND,
        "restartPolicy": "Always",
        "env": [entry for entry in base if entry["name"] not in own]
        + [env_value(name, value) for name, value in own.items()],
        "resources": RESOURCES,
        "securityContext": security,
        "volumeMounts": mounts,
    }


def dataset_mounts(spec: JobSpec) -> list[dict[str, Any]]:
    """Of the containers that bring a data set, or read it."""
    if spec.dataset is None or spec.dataset.uri is None:
        return []
    mounts = [{"name": "dataset", "mountPath": spec.dataset.mount_path}]
    if spec.dataset.cache:
        mounts.append({"name": "dataset-cache", "mountPath": DATASET_CACHE})
    return mounts


def shared_mount() -> dict[str, Any]:
    """Of both containers."""
    return {"name": VOLUME, "mountPath": SHARED}
