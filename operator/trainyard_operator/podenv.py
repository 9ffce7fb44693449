"""The environment of a training container."""

import hmac
from typing import Any

from trainyard_operator import contract
from trainyard_operator.api import JobSpec, Storage, TrainingJob
from trainyard_operator.contract import Env, RunRequest
from trainyard_operator.defaults import Defaults, storage_of
from trainyard_operator.identity import node_name

SCRATCH = "/tmp/trainyard"  # noqa: S108  an emptyDir of the pod
DATASET_CACHE = "/trainyard-cache"
NODE_MEMORY = "/dev/shm/trainyard"  # noqa: S108  in the pod's own memory volume
ACCELERATE_CPU = "ACCELERATE_USE_CPU"


def gang_env(job: TrainingJob, attempt: int, node_index: int) -> list[dict[str, Any]]:
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
    env: list[dict[str, Any]] = [env_value(name, value) for name, value in values.items()]
    return [
        *env,
        {"name": Env.NODE_NAME, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]


def run_env(job: TrainingJob, defaults: Defaults) -> list[dict[str, Any]]:
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
    if job.spec.dataset and job.spec.dataset.uri and job.spec.dataset.cache:
        values[Env.DATASET_CACHE] = DATASET_CACHE
    env: list[dict[str, Any]] = [env_value(name, value) for name, value in values.items()]
    if storage:
        env += storage_env(storage)
    if job.spec.config_from:
        env.append(
            {
                "name": Env.CONFIG_FROM,
                "valueFrom": {"configMapKeyRef": job.spec.config_from.config_map_key_ref.to_dict()},
            }
        )
    return env


def launcher_env(job: TrainingJob, attempt: int, defaults: Defaults) -> list[dict[str, Any]]:
    """What a restart in place needs, which only the trainer's launcher knows how to do."""
    if job.spec.recipe is None:
        return []
    text = f"{job.metadata.uid}/{attempt}"
    token = hmac.digest(defaults.secret.encode(), text.encode(), "sha256").hex()[:32]
    return [env_value(Env.NODE_MEMORY, NODE_MEMORY), env_value(Env.ORDER_TOKEN, token)]


def build_run_request(spec: JobSpec) -> RunRequest:
    """What the trainer, or a program's companion, is asked to do."""
    return RunRequest(
        recipe=spec.recipe or "",
        config=spec.config or {},
        overrides=spec.overrides or [],
        dataset_uri=spec.dataset.uri if spec.dataset else None,
        dataset_path=spec.dataset.mount_path if spec.dataset else None,
        checkpoint=spec.checkpoint.to_dict(),
        logs=spec.logs.to_dict(),
        tensorboard=spec.tensor_board.enabled,
        stall_timeout_seconds=spec.run_policy.stall_timeout_seconds,
    )


def storage_env(storage: Storage) -> list[dict[str, Any]]:
    """Where results go, and with whose rights."""
    values = {
        Env.STORAGE_URI: storage.uri,
        Env.STORAGE_ENDPOINT: storage.endpoint,
        Env.STORAGE_REGION: storage.region,
        Env.STORAGE_COMPAT: storage.compat,
    }
    env: list[dict[str, Any]] = [env_value(name, value) for name, value in values.items() if value]
    if storage.credentials_secret_ref:
        secret = storage.credentials_secret_ref.name
        env += [
            _secret_value("AWS_ACCESS_KEY_ID", secret),
            _secret_value("AWS_SECRET_ACCESS_KEY", secret),
            _secret_value("AWS_SESSION_TOKEN", secret, optional=True),
        ]
    return env


def env_value(name: str, value: Any) -> dict[str, Any]:
    """One variable."""
    return {"name": name, "value": str(value)}


def _secret_value(key: str, secret: str, *, optional: bool = False) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def with_cpu_env(container: dict[str, Any]) -> dict[str, Any]:
    """Without a GPU, tell Hugging Face Accelerate that it is meant to run on CPUs.

    `accelerate launch --cpu` sets the same variable; without it Accelerate takes a gang of CPU
    pods for so many single processes, and each trains alone.
    """
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    names = {variable["name"] for variable in container["env"]}
    if ACCELERATE_CPU in names or any("/" in resource for resource in asked):
        return container
    return {**container, "env": [*container["env"], env_value(ACCELERATE_CPU, "true")]}
