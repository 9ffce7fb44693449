"""Pure builders of the objects that a TrainingJob owns."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import JobSpec, Storage, TrainingJob
from trainyard_operator.contract import Annotation, Env, Label, RunRequest
from trainyard_operator.overlay import merge

TRAINER_COMMAND = ["python3", "-m", "trainyard_trainer"]
SCRATCH = "/tmp/trainyard"  # noqa: S108  an emptyDir of the pod
NODE_MEMORY = "/dev/shm/trainyard"  # noqa: S108  in the pod's own memory volume
USER_ID = 65532
GRACE_SECONDS = 60
"""Time for a checkpoint between SIGTERM and SIGKILL."""
ACCELERATE_CPU = "ACCELERATE_USE_CPU"
UNREACHABLE_SECONDS = 30
"""How long a pod stays on a node that stopped answering."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the operator's configuration adds to jobs that leave it out."""

    trainer_image: str = "trainyard-trainer:0.1.0"
    storage: Storage | None = None
    secret: str = ""
    """What tokens of orders are made from. It may change: a pod keeps the one it was made with."""


def node_name(job: str, node_index: int) -> str:
    """Name of a node's pod, as PyTorchJob has it."""
    return f"{job}-master-0" if node_index == 0 else f"{job}-worker-{node_index - 1}"


def node_index_of(pod: str) -> int:
    """Undo `node_name`."""
    role, _, index = pod.rpartition("-")
    return 0 if role.endswith("-master") else int(index) + 1


def spec_hash(spec: JobSpec) -> str:
    """Changes when pods have to be built anew; runPolicy acts on living pods."""
    # Without defaults: a field that a new operator adds must not restart every job.
    fields = spec.model_dump(mode="json", exclude={"run_policy"}, exclude_defaults=True)
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def storage_of(job: TrainingJob, defaults: Defaults) -> Storage | None:
    """The job's storage, or the operator's default."""
    return job.spec.storage or defaults.storage


def run_uri(job: TrainingJob, defaults: Defaults) -> str | None:
    """Where everything of this job lies; None without storage."""
    storage = storage_of(job, defaults)
    meta = job.metadata
    prefix = contract.run_prefix(meta.namespace, meta.name, meta.uid)
    return f"{storage.uri.rstrip('/')}/{prefix}" if storage else None


def build_service(job: TrainingJob) -> dict[str, Any]:
    """The headless service through which the pods of a gang find the first one."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": job.metadata.name,
            "namespace": job.metadata.namespace,
            "labels": _labels(job),
            "ownerReferences": [_owner(job)],
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
    essential = _essential(job, attempt, node_index)
    base = merge(essential, {"spec": _pod_spec(job, attempt, node_index, defaults)})
    pod = merge(merge(base, job.spec.template or {}), essential)
    return _with_essential_env(pod, _gang_env(job, attempt, node_index))


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
            "labels": _labels(job)
            | {
                Label.ATTEMPT: str(attempt),
                Label.NODE_INDEX: str(node_index),
                Label.KUBEFLOW_JOB: job.metadata.name,
                Label.KUBEFLOW_REPLICA_TYPE: role,
                Label.KUBEFLOW_REPLICA_INDEX: str(max(node_index - 1, 0)),
            }
            | ({Label.KUBEFLOW_JOB_ROLE: "master"} if node_index == 0 else {}),
            "annotations": {Annotation.SPEC_HASH: spec_hash(job.spec)},
            "ownerReferences": [_owner(job)],
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
    scheduling = job.spec.scheduling
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": UNREACHABLE_SECONDS,
            }
            for taint in ("not-ready", "unreachable")
        ],
        "containers": [_container(job, attempt, node_index, defaults)],
        "volumes": _volumes(job.spec),
    }
    if scheduling.scheduler_name:
        spec["schedulerName"] = scheduling.scheduler_name
    if scheduling.priority_class_name:
        spec["priorityClassName"] = scheduling.priority_class_name
    return spec


def _container(
    job: TrainingJob, attempt: int, node_index: int, defaults: Defaults
) -> dict[str, Any]:
    spec = job.spec
    container: dict[str, Any] = {
        "name": contract.CONTAINER,
        "image": spec.image or defaults.trainer_image,
        "command": spec.command or TRAINER_COMMAND,
        "env": [
            *_run_env(job, defaults),
            *_launcher_env(job, attempt, defaults),
            *_gang_env(job, attempt, node_index),
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
            for volume, path in zip(_volumes(spec), _mount_paths(spec), strict=True)
        ],
    }
    if spec.args:
        container["args"] = spec.args
    return container


def _volumes(spec: JobSpec) -> list[dict[str, Any]]:
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


def _gang_env(job: TrainingJob, attempt: int, node_index: int) -> list[dict[str, Any]]:
    """Where a node stands in its gang: for torch.distributed, torchrun and the trainer."""
    nodes, ranks = job.spec.nodes, job.spec.ranks_per_node
    master = f"{node_name(job.metadata.name, 0)}.{job.metadata.name}"
    values = {
        "MASTER_ADDR": master,
        "MASTER_PORT": contract.MASTER_PORT,
        "RANK": node_index * ranks,
        "WORLD_SIZE": nodes * ranks,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": ranks,
        "GROUP_RANK": node_index,
        "PET_NNODES": nodes,
        "PET_NPROC_PER_NODE": ranks,
        "PET_NODE_RANK": node_index,
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": contract.MASTER_PORT,
        Env.JOB: job.metadata.name,
        Env.NAMESPACE: job.metadata.namespace,
        Env.JOB_UID: job.metadata.uid,
        Env.ATTEMPT: attempt,
        Env.POD: node_name(job.metadata.name, node_index),
        Env.NODES: nodes,
        Env.NODE_INDEX: node_index,
        Env.PROCESSES_PER_NODE: ranks,
    }
    env: list[dict[str, Any]] = [_value(name, value) for name, value in values.items()]
    return [
        *env,
        {"name": Env.NODE_NAME, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]


def _run_env(job: TrainingJob, defaults: Defaults) -> list[dict[str, Any]]:
    """What to run and where its results go."""
    values: dict[str, Any] = {
        "HOME": "/tmp",  # noqa: S108  the only writable place of a restricted pod
        "USER": "trainyard",
        "PYTHONUNBUFFERED": 1,
        Env.SCRATCH: SCRATCH,
        Env.TERMINATION_LOG: contract.TERMINATION_LOG,
        Env.PROGRESS_PORT: contract.PROGRESS_PORT,
    }
    if job.spec.recipe:
        values[Env.RUN] = build_run_request(job.spec).to_json()
    storage = storage_of(job, defaults)
    env: list[dict[str, Any]] = [_value(name, value) for name, value in values.items()]
    if storage:
        env += _storage_env(storage)
    if job.spec.config_from:
        env.append(
            {
                "name": Env.CONFIG_FROM,
                "valueFrom": {"configMapKeyRef": job.spec.config_from.config_map_key_ref.to_dict()},
            }
        )
    return env


def _launcher_env(job: TrainingJob, attempt: int, defaults: Defaults) -> list[dict[str, Any]]:
    """What a restart in place needs, which only the trainer's launcher knows how to do."""
    if job.spec.recipe is None:
        return []
    text = f"{job.metadata.uid}/{attempt}"
    token = hmac.digest(defaults.secret.encode(), text.encode(), "sha256").hex()[:32]
    return [_value(Env.NODE_MEMORY, NODE_MEMORY), _value(Env.ORDER_TOKEN, token)]


def build_run_request(spec: JobSpec) -> RunRequest:
    """What the trainer is asked to run. Raises ValueError without a recipe."""
    if spec.recipe is None:
        raise ValueError("a run request needs spec.recipe")
    return RunRequest(
        recipe=spec.recipe,
        config=spec.config or {},
        overrides=spec.overrides or [],
        dataset_uri=spec.dataset.uri if spec.dataset else None,
        dataset_path=spec.dataset.mount_path if spec.dataset else None,
        checkpoint=spec.checkpoint.to_dict(),
        logs=spec.logs.to_dict(),
        tensorboard=spec.tensor_board.enabled,
        stall_timeout_seconds=spec.run_policy.stall_timeout_seconds,
    )


def _storage_env(storage: Storage) -> list[dict[str, Any]]:
    values = {
        Env.STORAGE_URI: storage.uri,
        Env.STORAGE_ENDPOINT: storage.endpoint,
        Env.STORAGE_REGION: storage.region,
        Env.STORAGE_COMPAT: storage.compat,
    }
    env: list[dict[str, Any]] = [_value(name, value) for name, value in values.items() if value]
    if storage.credentials_secret_ref:
        secret = storage.credentials_secret_ref.name
        env += [
            _secret_value("AWS_ACCESS_KEY_ID", secret),
            _secret_value("AWS_SECRET_ACCESS_KEY", secret),
            _secret_value("AWS_SESSION_TOKEN", secret, optional=True),
        ]
    return env


def _value(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "value": str(value)}


def _secret_value(key: str, secret: str, *, optional: bool = False) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def _labels(job: TrainingJob) -> dict[str, str]:
    return {
        Label.APP_NAME: "trainyard",
        Label.APP_COMPONENT: "trainer",
        Label.APP_INSTANCE: job.metadata.name,
        Label.APP_MANAGED_BY: "trainyard-operator",
        Label.JOB: job.metadata.name,
        Label.JOB_UID: job.metadata.uid,
    }


def _owner(job: TrainingJob) -> dict[str, Any]:
    return {
        "apiVersion": job.api_version,
        "kind": job.kind,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
    }


def _with_essential_env(pod: dict[str, Any], env: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod with the gang's variables restored in the training container."""
    spec = pod["spec"]
    containers = [
        _with_cpu_env(merge(container, {"env": env}))
        if container["name"] == contract.CONTAINER
        else container
        for container in spec["containers"]
    ]
    return {**pod, "spec": {**spec, "containers": containers}}


def _with_cpu_env(container: dict[str, Any]) -> dict[str, Any]:
    """Without a GPU, tell Hugging Face Accelerate that it is meant to run on CPUs.

    `accelerate launch --cpu` sets the same variable; without it Accelerate takes a gang of CPU
    pods for so many single processes, and each trains alone.
    """
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    names = {variable["name"] for variable in container["env"]}
    if ACCELERATE_CPU in names or any("/" in resource for resource in asked):
        return container
    return {**container, "env": [*container["env"], _value(ACCELERATE_CPU, "true")]}
