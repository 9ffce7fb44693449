"""`tensorBoard.serve`: a TensorBoard over what a job writes, with a Service. Pure builders.

It runs as a Deployment of one replica, which outlives a lost node, belongs to the job and goes with
it. It has the image and the surroundings of the trainer's container, so what a template does for
that one, such as a certificate or a proxy, holds for TensorBoard, too.
"""

from typing import Any

from trainyard_operator import contract, layout
from trainyard_operator.api import TrainingJob
from trainyard_operator.container import POD_SECURITY, SECURITY
from trainyard_operator.contract import Label
from trainyard_operator.defaults import Defaults, run_uri, storage_of
from trainyard_operator.identity import labels_of, owner_of
from trainyard_operator.overlay import merge
from trainyard_operator.podenv import env_value, storage_env

PORT = 6006
COMPONENT = "tensorboard"
COMMAND = ["python3", "-m", "trainyard_trainer.board"]
RESOURCES = {
    "requests": {"cpu": "10m", "memory": "256Mi"},
    "limits": {"cpu": "1", "memory": "1Gi"},
}
_OF_TRAINING = ("name", "command", "args", "resources", "ports", "livenessProbe", "readinessProbe")
"""What a template says of the trainer's container that TensorBoard has otherwise."""
_SURROUNDINGS = ("volumes", "imagePullSecrets", "nodeSelector", "tolerations", "securityContext")
"""What a template says of the pod that holds for TensorBoard, too."""


def board_name(job: str) -> str:
    """Of the Deployment and the Service; at most 62 letters."""
    return f"{job}-{COMPONENT}"


def is_served(job: TrainingJob) -> bool:
    """Whether a TensorBoard is asked for."""
    return job.spec.tensor_board.serve


def refusal(job: TrainingJob, uri: str | None) -> str:
    """Why there can be none; empty if there can. uri: of the storage."""
    if not is_served(job):
        return ""
    if job.spec.recipe is None or not job.spec.tensor_board.enabled:
        return (
            "spec.tensorBoard.serve: nothing writes events here; drop it, or use a recipe with "
            "tensorBoard.enabled."
        )
    if not (uri or "").startswith("s3://"):
        return "spec.tensorBoard.serve: TensorBoard reads from S3; use a storage.uri of s3://."
    return ""


def build_board(job: TrainingJob, defaults: Defaults) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Deployment and its Service."""
    own = {Label.APP_COMPONENT: COMPONENT, Label.APP_INSTANCE: job.metadata.name}
    labels = {k: v for k, v in labels_of(job).items() if k.startswith("app.")} | own
    metadata = {
        "name": board_name(job.metadata.name),
        "namespace": job.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner_of(job)],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(job, defaults)},
        },
    }
    ports = [{"name": "http", "port": PORT, "targetPort": "http"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": own, "ports": ports},
    }
    return deployment, service


def _pod_spec(job: TrainingJob, defaults: Defaults) -> dict[str, Any]:
    given = (job.spec.template or {}).get("spec") or {}
    overlay = {key: given[key] for key in _SURROUNDINGS if key in given}
    trainer = [c for c in given.get("containers") or () if c["name"] == contract.CONTAINER]
    overlay["containers"] = [
        {key: value for key, value in container.items() if key not in _OF_TRAINING}
        | {"name": COMPONENT}
        for container in trainer
    ]
    base = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [_container(job, defaults)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        **defaults.of_pods,
    }
    return merge(base, overlay)


def _container(job: TrainingJob, defaults: Defaults) -> dict[str, Any]:
    uri, storage = run_uri(job, defaults), storage_of(job, defaults)
    return {
        "name": COMPONENT,
        "image": job.spec.image or defaults.trainer_image,
        "command": [*COMMAND, f"{uri}/{layout.TENSORBOARD_PREFIX}", str(PORT)],
        "env": [env_value("HOME", "/tmp"), *(storage_env(storage) if storage else ())],  # noqa: S108
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        "resources": RESOURCES,
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
