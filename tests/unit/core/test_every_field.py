"""Each field of the spec does something: what it changes, against the same job without it.

A new field without a row here fails `test_no_field_is_without_a_row`.
"""

import json
import types
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

import pytest
from core_objects import DEFAULTS, RECIPE, exited, make_job, make_pod, make_pods, make_status, text
from core_scenes import acts, decide
from pydantic import BaseModel

from trainyard_operator.api import JobSpec, TrainingJob
from trainyard_operator.companion import build_companion
from trainyard_operator.container import SECURITY
from trainyard_operator.decision import Create, Decision
from trainyard_operator.status import ElasticStatus, JobStatus, NodeFault

Look = Callable[[TrainingJob], Any]


def begin(job: TrainingJob, **status: Any) -> Decision:
    """The pass that creates an attempt."""
    return decide(make_status(**status) if status else JobStatus(), job=job)


def made(job: TrainingJob, **status: Any) -> list[dict[str, Any]]:
    """Manifests of the objects that a pass creates."""
    return [a.manifest for a in begin(job, **status).actions if isinstance(a, Create)]


def pod(job: TrainingJob, **status: Any) -> dict[str, Any]:
    return next(item for item in made(job, **status) if item["kind"] == "Pod")


def kinds(job: TrainingJob) -> list[str]:
    return [item["kind"] for item in made(job)]


def container(job: TrainingJob) -> dict[str, Any]:
    found: dict[str, Any] = pod(job)["spec"]["containers"][0]
    return found


def of_container(key: str) -> Look:
    return lambda job: container(job).get(key)


def of_pod(key: str) -> Look:
    return lambda job: pod(job)["spec"].get(key)


def env(name: str) -> Look:
    def look(job: TrainingJob) -> Any:
        found = [item for item in container(job)["env"] if item["name"] == name]
        return (found[0].get("value") or found[0]["valueFrom"]) if found else None

    return look


def asked(*path: str) -> Look:
    """What the trainer is asked for."""

    def look(job: TrainingJob) -> Any:
        found = json.loads(env("TRAINYARD_RUN")(job))
        for key in path:
            found = (found or {}).get(key)
        return found

    return look


def secret(job: TrainingJob) -> Any:
    return (env("AWS_ACCESS_KEY_ID")(job) or {}).get("secretKeyRef", {}).get("name")


def volume(name: str) -> Look:
    return lambda job: next((v for v in pod(job)["spec"]["volumes"] if v["name"] == name), None)


def mount(name: str) -> Look:
    mounts = of_container("volumeMounts")
    return lambda job: next((m["mountPath"] for m in mounts(job) if m["name"] == name), None)


def after(status: JobStatus, now: float, **pods: Any) -> Look:
    """Phase, and time of the next look, once the job has come so far."""

    def look(job: TrainingJob) -> Any:
        decision = decide(status, *make_pods(job, **pods), job=job, now=now)
        return decision.status.phase, decision.wake_at

    return look


def phase(look: Look) -> Look:
    return lambda job: look(job)[0]


def wait_after(restarts: int) -> Look:
    """Seconds before the attempt that follows a failure of the program's own."""

    def look(job: TrainingJob) -> Any:
        failed = make_pod(job, 1, **exited(1, "{}", seconds=0))
        status = make_status(restarts={"user": restarts, "infrastructure": 0})
        next_time = decide(status, make_pod(job), failed, job=job, now=10).status.next_attempt_time
        return int((next_time or "")[-3:-1]) - 10 if next_time else None

    return look


def end(job: TrainingJob) -> list[str]:
    pods = (make_pod(job, **exited(0)), make_pod(job, 1))
    status = make_status(phase="Succeeded", completion_time=text(0))
    return acts(decide(status, *pods, job=job, now=10))


def expired(job: TrainingJob) -> list[str]:
    status = make_status(phase="Succeeded", completion_time=text(0))
    return acts(decide(status, *make_pods(job, **exited(0)), job=job, now=90))


def narrow(job: TrainingJob) -> int | None:
    """Nodes of the next attempt, where only one found a place."""
    homeless = {"phase": "Pending", "node": None, "unschedulable": "0/2 nodes are available."}
    pods = [make_pod(job, i, **(homeless if i else {})) for i in range(job.spec.nodes)]
    status = make_status(phase="Starting", formed_attempt=0)
    elastic: ElasticStatus | None = decide(status, *pods, job=job, now=30).status.elastic
    return elastic.nodes if elastic else None


def avoided(job: TrainingJob) -> bool:
    faults = [NodeFault(node="gpu-1", attempts=2, last_attempt=2)]
    fields = {"phase": "Restarting", "next_attempt_time": text(5), "node_faults": faults}
    return "gpu-1" in json.dumps(pod(job, **fields))


def companion(job: TrainingJob) -> list[str]:
    built = build_companion(job, 1, 0, DEFAULTS, SECURITY)
    found = next(item for item in built["env"] if item["name"] == "TRAINYARD_PROGRAM")
    return list(json.loads(found["value"]))


GPU = {"nvidia.com/gpu": 2}
S3 = {"uri": "s3://bucket/prefix"}
DATA = {"uri": "s3://bucket/data"}
STARTED = make_status(phase="Starting", formed_attempt=0)
FRAME = {"spec": {"nodeSelector": {"gpu": "a100"}}}
GANG = {"gang": "volcano"}
BOUNDS = {"minNodes": 1, "maxNodes": 2}
WITH_CLAIM = {"name": "dataset-cache", "persistentVolumeClaim": {"claimName": "cache"}}
SOURCE = {"configMapKeyRef": {"name": "nodules", "key": "train.yaml"}}

Row = tuple[dict[str, Any], dict[str, Any], Look, Any]
"""A spec, what is changed in it, where to look, and what is there then."""

ROWS: dict[str, Row] = {
    "recipe": ({}, RECIPE, of_container("command"), ["python3", "-m", "trainyard_trainer"]),
    "config": (RECIPE, {"config": {"a": 1}}, asked("config"), {"a": 1}),
    "configFrom.configMapKeyRef.name": (
        RECIPE, {"configFrom": SOURCE}, env("TRAINYARD_CONFIG_FROM"), SOURCE,
    ),
    "configFrom.configMapKeyRef.key": (
        RECIPE | {"configFrom": {"configMapKeyRef": {"name": "nodules", "key": "other"}}},
        {"configFrom": SOURCE}, env("TRAINYARD_CONFIG_FROM"), SOURCE,
    ),
    "overrides": (RECIPE, {"overrides": ["a=1"]}, asked("overrides"), ["a=1"]),
    "image": (RECIPE, {"image": "mine:2"}, of_container("image"), "mine:2"),
    "command": ({}, {"command": ["train"]}, of_container("command"), ["train"]),
    "args": ({"storage": S3}, {"args": ["-v"]}, companion, ["python", "train.py", "-v"]),
    "nodes": ({}, {"nodes": 3}, kinds, ["Service", "Pod", "Pod", "Pod"]),
    "processesPerNode": ({}, {"processesPerNode": 3}, env("WORLD_SIZE"), "6"),
    "resources.limits": ({}, {"resources": {"limits": GPU}}, env("LOCAL_WORLD_SIZE"), "2"),
    "resources.requests": (
        {}, {"resources": {"requests": {"cpu": "2"}}}, of_container("resources"),
        {"limits": {}, "requests": {"cpu": "2"}},
    ),
    "elastic.minNodes": ({"elastic": BOUNDS | {"minNodes": 2}}, {"elastic": BOUNDS}, narrow, 1),
    "elastic.maxNodes": ({}, {"elastic": BOUNDS}, narrow, 1),
    "template": ({}, {"template": FRAME}, of_pod("nodeSelector"), {"gpu": "a100"}),
    "storage.uri": ({}, {"storage": S3}, env("TRAINYARD_STORAGE_URI"), "s3://bucket/prefix"),
    "storage.endpoint": (
        {"storage": S3}, {"storage": S3 | {"endpoint": "https://s3"}},
        env("TRAINYARD_STORAGE_ENDPOINT"), "https://s3",
    ),
    "storage.region": (
        {"storage": S3}, {"storage": S3 | {"region": "eu"}}, env("TRAINYARD_STORAGE_REGION"), "eu",
    ),
    "storage.credentialsSecretRef.name": (
        {"storage": S3}, {"storage": S3 | {"credentialsSecretRef": {"name": "keys"}}}, secret,
        "keys",
    ),
    "storage.compat": (
        {"storage": S3}, {"storage": S3 | {"compat": "legacy"}}, env("TRAINYARD_STORAGE_COMPAT"),
        "legacy",
    ),
    "dataset.uri": (
        RECIPE, {"dataset": DATA}, asked("dataset_uri"), "s3://bucket/data",
    ),
    "dataset.mountPath": (
        {"dataset": DATA}, {"dataset": DATA | {"mountPath": "/luna"}}, mount("dataset"), "/luna",
    ),
    "dataset.sizeLimit": (
        {"dataset": DATA}, {"dataset": DATA | {"sizeLimit": "9Gi"}}, volume("dataset"),
        {"name": "dataset", "emptyDir": {"sizeLimit": "9Gi"}},
    ),
    "dataset.cache.claim": (
        {"dataset": DATA}, {"dataset": DATA | {"cache": {"claim": "cache"}}},
        volume("dataset-cache"), WITH_CLAIM,
    ),
    **{
        f"checkpoint.{name}": (
            RECIPE, {"checkpoint": {name: value}}, asked("checkpoint", name), value,
        )
        for name, value in {
            "everySteps": 5, "everyEpochs": 2, "everySeconds": 60, "maxOverheadPercent": 9.0,
            "keepLast": 7, "keepEverySteps": 100, "async": False, "pauseAtStep": 40,
        }.items()
    },
    "checkpoint.keepBest.metric": (
        RECIPE, {"checkpoint": {"keepBest": {"metric": "f1"}}},
        asked("checkpoint", "keepBest", "metric"), "f1",
    ),
    "checkpoint.keepBest.mode": (
        RECIPE | {"checkpoint": {"keepBest": {"metric": "loss"}}},
        {"checkpoint": {"keepBest": {"metric": "loss", "mode": "min"}}},
        asked("checkpoint", "keepBest", "mode"), "min",
    ),
    "checkpoint.resumeFrom.job": (
        RECIPE, {"checkpoint": {"resumeFrom": {"job": "other"}}},
        asked("checkpoint", "resumeFrom", "job"), "other",
    ),
    "checkpoint.resumeFrom.checkpoint": (
        RECIPE | {"checkpoint": {"resumeFrom": {"job": "other"}}},
        {"checkpoint": {"resumeFrom": {"job": "other", "checkpoint": "best"}}},
        asked("checkpoint", "resumeFrom", "checkpoint"), "best",
    ),
    "logs.upload": (RECIPE, {"logs": {"upload": False}}, asked("logs", "upload"), False),
    "logs.flushSeconds": (RECIPE, {"logs": {"flushSeconds": 5}}, asked("logs", "flushSeconds"), 5),
    "tensorBoard.enabled": (
        RECIPE, {"tensorBoard": {"enabled": False}}, asked("tensorboard"), False,
    ),
    "tensorBoard.serve": (
        RECIPE, {"tensorBoard": {"serve": True}}, kinds,
        ["Service", "Deployment", "Service", "Pod", "Pod"],
    ),
    "runPolicy.suspend": (
        {}, {"runPolicy": {"suspend": True}}, phase(after(make_status(), 10)), "Suspended",
    ),
    "runPolicy.activeDeadlineSeconds": (
        {}, {"runPolicy": {"activeDeadlineSeconds": 5}}, phase(after(make_status(), 10)), "Failed",
    ),
    "runPolicy.startupDeadlineSeconds": (
        {}, {"runPolicy": {"startupDeadlineSeconds": 5}},
        phase(after(STARTED, 10, phase="Pending")), "Failed",
    ),
    "runPolicy.stallTimeoutSeconds": (
        RECIPE, {"runPolicy": {"stallTimeoutSeconds": 60}}, asked("stall_timeout_seconds"), 60,
    ),
    "runPolicy.maxRestarts": ({}, {"runPolicy": {"maxRestarts": 0}}, wait_after(0), None),
    "runPolicy.restartBackoff.initialSeconds": (
        {}, {"runPolicy": {"restartBackoff": {"initialSeconds": 7}}}, wait_after(0), 7,
    ),
    "runPolicy.restartBackoff.maxSeconds": (
        {}, {"runPolicy": {"restartBackoff": {"maxSeconds": 8}}}, wait_after(2), 8,
    ),
    "runPolicy.cleanPodPolicy": (
        {}, {"runPolicy": {"cleanPodPolicy": "All"}}, end, ["delete master-0", "delete worker-0"],
    ),
    "runPolicy.ttlSecondsAfterFinished": (
        {}, {"runPolicy": {"ttlSecondsAfterFinished": 60}}, expired, ["delete job"],
    ),
    "scheduling.schedulerName": (
        {}, {"scheduling": {"schedulerName": "mine"}}, of_pod("schedulerName"), "mine",
    ),
    "scheduling.gang": ({}, {"scheduling": GANG}, kinds, ["Service", "PodGroup", "Pod", "Pod"]),
    "scheduling.queue": (
        {"scheduling": GANG}, {"scheduling": GANG | {"queue": "lab"}},
        lambda job: made(job)[1]["spec"].get("queue"), "lab",
    ),
    "scheduling.priorityClassName": (
        {}, {"scheduling": {"priorityClassName": "high"}}, of_pod("priorityClassName"), "high",
    ),
    "scheduling.avoidFailedNodes": (
        {}, {"scheduling": {"avoidFailedNodes": False}}, avoided, False,
    ),
    "backend": ({}, {"backend": "kubeflow"}, kinds, ["PyTorchJob"]),
}  # fmt: skip


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Paths of all fields that are no objects of their own."""
    for field in model.model_fields.values():
        path = f"{prefix}{field.alias}"
        inner = [t for t in types_in(field.annotation) if is_model(t)]
        if inner:
            yield from leaves(inner[0], f"{path}.")
        else:
            yield path


def types_in(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is types.UnionType or get_args(annotation):
        for part in get_args(annotation):
            yield from types_in(part)
    else:
        yield annotation


def is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def test_no_field_is_without_a_row():
    assert sorted(leaves(JobSpec)) == sorted(ROWS)


@pytest.mark.parametrize("path", ROWS)
def test_a_field_does_what_it_says(path: str):
    spec, change, look, expected = ROWS[path]
    assert look(make_job(**spec | change)) == expected
    assert look(make_job(**spec)) != expected
