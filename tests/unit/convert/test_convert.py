"""PyTorchJobs in the shapes of Kubeflow's own examples, as TrainingJobs."""

from typing import Any

import pytest

from trainyard.convert import convert
from trainyard.errors import Rejected
from trainyard_operator.api import TrainingJob

NO_STORAGE = (
    "spec.storage is not there: set it, and what the program writes to $TRAINYARD_CHECKPOINT_DIR "
    "is kept and put back after a restart."
)
ROLES = "spec.pytorchReplicaSpecs"


def restarts(role: str) -> str:
    return (
        f"{ROLES}.{role}.restartPolicy 'OnFailure' is left out: a failure restarts the whole gang, "
        "up to runPolicy.maxRestarts times."
    )


def replica(
    count: int = 1, *, pod: dict[str, Any] | None = None, **container: Any
) -> dict[str, Any]:
    own = {"name": "pytorch", "image": "registry.example/mine:1", **container}
    template = {"spec": {"containers": [own], **(pod or {})}}
    return {"replicas": count, "restartPolicy": "OnFailure", "template": template}


def pytorchjob(name: str = "mine", replicas: dict[str, Any] | None = None, **spec: Any) -> Any:
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name},
        "spec": {"pytorchReplicaSpecs": replicas or {}, **spec},
    }


def converted(source: Any, *entrypoint: str) -> tuple[dict[str, Any], list[str]]:
    """The spec, which the API takes, and the sentences but the one about storage."""
    found = convert(source, entrypoint)
    TrainingJob.model_validate(found.manifest, by_alias=True, by_name=False)
    assert found.notes[-1] == NO_STORAGE
    return found.manifest["spec"], found.notes[:-1]


def test_torchrun_on_two_cpu_nodes() -> None:
    both = replica(command=["torchrun", "demo.py"])
    source = pytorchjob(replicas={"Master": both, "Worker": both}, nprocPerNode="2")
    assert converted(source) == (
        {
            "command": ["torchrun", "demo.py"],
            "image": "registry.example/mine:1",
            "nodes": 2,
            "processesPerNode": 2,
            "runPolicy": {"cleanPodPolicy": "None"},
        },
        [restarts("Master")],
    )


GPU = {"limits": {"nvidia.com/gpu": 1}}


def test_image_with_an_entrypoint_of_its_own_and_annotations() -> None:
    both = replica(args=["--backend", "nccl"], resources=GPU)
    both["template"]["metadata"] = {"annotations": {"sidecar.istio.io/inject": "false"}}
    source = pytorchjob(replicas={"Master": both, "Worker": {**both, "replicas": 3}})
    spec, notes = converted(source, "python", "/opt/mnist.py")
    assert spec == {
        "command": ["python", "/opt/mnist.py"],
        "args": ["--backend", "nccl"],
        "image": "registry.example/mine:1",
        "nodes": 4,
        "processesPerNode": 1,
        "resources": GPU,
        "template": {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}},
        "runPolicy": {"cleanPodPolicy": "None"},
    }
    assert notes == [restarts("Master")]


def test_command_that_is_not_written_down_is_asked_for() -> None:
    with pytest.raises(Rejected) as caught:
        convert(pytorchjob(replicas={"Master": replica()}))
    assert str(caught.value) == (
        f"{ROLES}.Master.template: container 'pytorch' has no command, and what its image starts "
        "is not known here; say it with --entrypoint 'python train.py'"
    )


def test_elastic_workers_without_a_master() -> None:
    worker = replica(
        2,
        command=["python", "-m", "torch.distributed.run", "imagenet.py"],
        env=[{"name": "LOGLEVEL", "value": "DEBUG"}],
        imagePullPolicy="IfNotPresent",
        resources={"requests": {"cpu": 4}},
    )
    elastic = {"rdzvBackend": "c10d", "minReplicas": 1, "maxReplicas": 3, "maxRestarts": 100}
    metrics = [{"type": "Resource", "resource": {"name": "cpu"}}]
    source = pytorchjob(replicas={"Worker": worker}, elasticPolicy={**elastic, "metrics": metrics})
    spec, notes = converted(source)
    overlay = {
        "name": "pytorch",
        "env": [{"name": "LOGLEVEL", "value": "DEBUG"}],
        "imagePullPolicy": "IfNotPresent",
    }
    assert spec == {
        "command": ["python", "-m", "torch.distributed.run", "imagenet.py"],
        "image": "registry.example/mine:1",
        "nodes": 2,
        "processesPerNode": 1,
        "resources": {"requests": {"cpu": 4}},
        "elastic": {"minNodes": 1, "maxNodes": 3},
        "template": {"spec": {"containers": [overlay]}},
        "runPolicy": {"cleanPodPolicy": "None", "maxRestarts": 100},
    }
    assert notes == [
        "spec.elasticPolicy.metrics is left out: the number of nodes follows what the cluster has, "
        "not a load.",
        "spec.elasticPolicy.rdzvBackend is left out: ranks meet at MASTER_ADDR, which each attempt "
        "sets.",
        restarts("Worker"),
    ]


def test_policies_queue_and_a_volume() -> None:
    volumes = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "scans"}}]}
    mounts = [{"name": "data", "mountPath": "/data"}]
    env = [{"name": "MASTER_ADDR", "value": "other"}, {"name": "NCCL_DEBUG", "value": "INFO"}]
    pod = {**volumes, "priorityClassName": "high", "restartPolicy": "Never"}
    master = replica(command=["train"], env=env, volumeMounts=mounts, pod=pod)
    master["restartPolicy"] = "Never"
    policy = {
        "cleanPodPolicy": "All",
        "backoffLimit": 5,
        "ttlSecondsAfterFinished": 60,
        "managedBy": "kueue.x-k8s.io/multikueue",
        "schedulingPolicy": {"queue": "research", "minAvailable": 2},
    }
    spec, notes = converted(pytorchjob(replicas={"Master": master}, runPolicy=policy))
    own = {"name": "pytorch", "env": env[1:], "volumeMounts": mounts}
    assert spec["template"] == {"spec": {**volumes, "containers": [own]}}
    assert spec["runPolicy"] == {
        "cleanPodPolicy": "All",
        "ttlSecondsAfterFinished": 60,
        "maxRestarts": 5,
    }
    queue = {"gang": "volcano", "queue": "research"}
    assert spec["scheduling"] == {"priorityClassName": "high", **queue}
    template = f"{ROLES}.Master.template.spec"
    assert notes == [
        "spec.runPolicy.schedulingPolicy.queue 'research' was read as Volcano's.",
        "spec.runPolicy.schedulingPolicy.minAvailable is left out: a gang always starts whole.",
        f"{template}.restartPolicy is left out: a failure restarts the whole gang.",
        f"{template}.containers.env MASTER_ADDR is left out: each attempt sets it.",
        "spec.runPolicy.managedBy is left out: Kueue is named in spec.scheduling.queue.",
    ]


def test_workers_that_differ_from_the_master_are_told_of() -> None:
    replicas = {"Master": replica(command=["a"]), "Worker": replica(command=["a"], args=["-w"])}
    _, notes = converted(pytorchjob(replicas=replicas))
    assert notes == [
        restarts("Master"),
        f"{ROLES}.Worker.template.spec.containers[0].args differs from the Master's; every node "
        "gets the Master's.",
    ]


def test_queue_of_kueue_and_a_name_that_is_too_long() -> None:
    source = pytorchjob("9-" + "long-" * 12, replicas={"Master": replica(command=["a"])})
    source["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "user-queue"}
    found = convert(source)
    assert found.manifest["spec"]["scheduling"] == {"queue": "user-queue"}
    name = found.manifest["metadata"]["name"]
    assert name == ("long-" * 10)[:49]
    assert f"it is '{name}' now." in found.notes[0]


def test_field_that_nobody_knows_is_named() -> None:
    _, notes = converted(pytorchjob(replicas={"Master": replica(command=["a"])}, color="red"))
    assert notes[-1] == "spec.color is left out: it is unknown to Trainyard."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "TFJob"}, "kind: expected a PyTorchJob of kubeflow.org/v1"),
        (
            {"kind": "PyTorchJob", "apiVersion": "kubeflow.org/v2"},
            "apiVersion: is 'kubeflow.org/v2', expected kubeflow.org/v1",
        ),
        (pytorchjob(), f"{ROLES}: expected Master, Worker or both"),
    ],
)
def test_what_is_no_pytorchjob_is_refused(source: Any, message: str) -> None:
    with pytest.raises(Rejected) as caught:
        convert(source)
    assert str(caught.value) == message
