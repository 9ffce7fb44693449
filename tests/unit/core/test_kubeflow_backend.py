"""`backend: kubeflow`: one PyTorchJob an attempt, made, watched through its pods, and dropped."""

from dataclasses import replace
from typing import Any

from core_objects import (
    DEFAULTS,
    at,
    exited,
    make_job,
    make_pod,
    make_pods,
    make_status,
)

from trainyard_operator.deadlines import RETRY
from trainyard_operator.decision import Create, Decision, DeletePod, DeletePyTorchJob
from trainyard_operator.desired import build_pod
from trainyard_operator.observed import Observed, PyTorchJobRecord, pod_record, pytorchjob_record
from trainyard_operator.plan import plan
from trainyard_operator.pytorchjob import build_pytorchjob
from trainyard_operator.status import JobStatus

JOB = make_job(backend="kubeflow")
FOUND = PyTorchJobRecord(name="nodules", uid="ptj-1")
DROP = DeletePyTorchJob(name="nodules", uid="ptj-1")


def build(nodes: int = 3) -> dict[str, Any]:
    job = make_job(nodes, backend="kubeflow", processesPerNode=4)
    return build_pytorchjob(job, 2, [build_pod(job, 2, i, DEFAULTS) for i in range(min(nodes, 2))])


def decide(status: JobStatus, job=JOB, now: float = 10, **observed: Any) -> Decision:
    return plan(job, status, Observed(**observed), at(now), DEFAULTS)


def test_pytorchjob_leaves_restarts_clean_up_and_deadlines_to_us() -> None:
    built = build()
    replicas = built["spec"].pop("pytorchReplicaSpecs")
    labels = {
        "app.kubernetes.io/name": "trainyard",
        "app.kubernetes.io/component": "trainer",
        "app.kubernetes.io/instance": "nodules",
        "app.kubernetes.io/managed-by": "trainyard-operator",
        "trainyard.dev/job": "nodules",
        "trainyard.dev/job-uid": "uid-1",
        "trainyard.dev/attempt": "2",
    }
    assert built == {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {
            "name": "nodules",
            "namespace": "research",
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "trainyard.dev/v1alpha1",
                    "kind": "TrainingJob",
                    "name": "nodules",
                    "uid": "uid-1",
                    "controller": True,
                }
            ],
        },
        "spec": {"nprocPerNode": "4", "runPolicy": {"cleanPodPolicy": "None"}},
    }
    shapes = {role: (r["replicas"], r["restartPolicy"]) for role, r in replicas.items()}
    assert shapes == {"Master": (1, "Never"), "Worker": (2, "Never")}
    templates = [replica.pop("template") for replica in replicas.values()]
    assert [template["metadata"]["labels"] for template in templates] == [labels, labels]


def test_one_node_has_no_worker() -> None:
    assert list(build(1)["spec"]["pytorchReplicaSpecs"]) == ["Master"]


def test_template_is_our_pod_without_what_kubeflow_says_of_each_pod() -> None:
    pod = build_pod(make_job(3, backend="kubeflow", processesPerNode=4), 2, 1, DEFAULTS)
    template = build()["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    own, made = pod["spec"], template["spec"]
    assert own.keys() - made.keys() == {"hostname", "subdomain", "restartPolicy"}
    assert {key for key in made if made[key] != own[key]} == {"containers"}
    (before,), (after,) = own["containers"], made["containers"]
    assert {key for key in after if after[key] != before[key]} == {"env", "ports"}
    assert [port["name"] for port in after["ports"]] == ["pytorchjob-port", "progress"]
    names = [{each["name"] for each in c["env"]} for c in (before, after)]
    assert names[1] - names[0] == set()
    assert names[0] - names[1] == {
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "GROUP_RANK"),
        *("PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_NNODES", "PET_NODE_RANK"),
        *("PET_NPROC_PER_NODE", "TRAINYARD_NODE_INDEX"),
    }
    changed = [each for each in after["env"] if each not in before["env"]]
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    assert changed == [{"name": "TRAINYARD_POD", "valueFrom": field}]


def test_attempt_begins_with_one_pytorchjob_and_nothing_else() -> None:
    (action,) = decide(JobStatus()).actions
    assert isinstance(action, Create)
    assert (action.manifest["kind"], action.manifest["metadata"]["name"]) == (
        "PyTorchJob",
        "nodules",
    )


def test_pytorchjob_that_is_there_is_waited_for() -> None:
    status = decide(JobStatus()).status
    assert decide(status, pods=(make_pod(JOB),), pytorchjob=FOUND).actions == ()
    assert len(decide(status, pods=(make_pod(JOB),)).actions) == 1


def test_failed_rank_drops_the_pytorchjob_and_the_next_attempt_waits_for_its_end() -> None:
    pods = (make_pod(JOB), make_pod(JOB, 1, **exited(1, "boom")))
    ended = replace(FOUND, has_ended=True)
    failed = decide(make_status(), pods=pods, pytorchjob=ended)
    assert failed.actions[0] == DROP
    assert {type(action) for action in failed.actions[1:]} == {DeletePod}
    lingers = decide(failed.status, now=60, pytorchjob=replace(ended, is_deleting=True))
    assert (lingers.actions, lingers.wake_at) == ((), at(60) + RETRY)
    begun = decide(failed.status, now=60)
    assert begun.status.attempt == 2
    assert [type(action) for action in begun.actions] == [Create]


def test_suspended_job_has_no_pytorchjob_even_before_its_pods_were_made() -> None:
    job = make_job(backend="kubeflow", runPolicy={"suspend": True})
    assert decide(make_status(), job=job, pytorchjob=FOUND).actions == (DROP,)


def test_pods_that_a_finished_job_drops_are_not_made_anew() -> None:
    job = make_job(backend="kubeflow", runPolicy={"activeDeadlineSeconds": 5})
    status = make_status()
    late = decide(status, job=job, now=60, pods=make_pods(job), pytorchjob=FOUND)
    assert late.status.phase == "Failed"
    assert late.actions[0] == DROP
    ended = replace(FOUND, has_ended=True)
    late = decide(status, job=job, now=60, pods=make_pods(job), pytorchjob=ended)
    assert {type(action) for action in late.actions} == {DeletePod}


def test_pod_that_kubeflow_made_again_alone_ends_the_attempt_for_all() -> None:
    again = make_pod(JOB, 1, uid="pod-again", phase="Pending")
    status = make_status(phase="Running", formed_attempt=1)
    decision = decide(status, pods=(make_pod(JOB), again), pytorchjob=FOUND)
    assert decision.status.failure is not None
    assert decision.status.failure.cause == "PodDeleted"
    assert decision.actions[0] == DROP
    assert {a.uid for a in decision.actions[1:]} == {"pod-1-0", "pod-again"}


def test_record_of_a_pytorchjob() -> None:
    item = {
        "metadata": {"name": "nodules", "uid": "ptj-1", "ownerReferences": [{"uid": "uid-1"}]},
        "status": {"conditions": [{"type": "Running", "status": "True"}]},
    }
    assert pytorchjob_record(item, "uid-1") == FOUND
    assert pytorchjob_record(item, "uid-2") is None
    item["status"]["conditions"].append({"type": "Failed", "status": "True"})
    item["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert pytorchjob_record(item, "uid-1") == replace(FOUND, has_ended=True, is_deleting=True)


def test_node_of_a_pod_that_kubeflow_made() -> None:
    kubeflow = "training.kubeflow.org"
    pod = build_pod(JOB, 1, 1, DEFAULTS)
    labels = {k: v for k, v in pod["metadata"]["labels"].items() if "node-index" not in k}
    stamps = {"uid": "pod-1", "creationTimestamp": "2026-01-01T12:00:00Z"}
    for role, index, node in (("master", "0", 0), ("worker", "0", 1), ("worker", "1", 2)):
        own = {f"{kubeflow}/replica-type": role, f"{kubeflow}/replica-index": index}
        metadata = pod["metadata"] | stamps | {"labels": labels | own}
        assert pod_record({"metadata": metadata}).node_index == node
