"""Records of pods as the API server gives them."""

from datetime import UTC, datetime

import pytest

from trainyard_operator.observed import PodRecord, Terminated, Waiting, pod_record

CREATED = "2026-01-01T12:00:00Z"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUNNING = {"name": "pytorch", "state": {"running": {"startedAt": CREATED}}}


def api_pod(status: dict | None = None, metadata: dict | None = None) -> dict:
    return {
        "metadata": {
            "name": "nodules-worker-0",
            "uid": "pod-uid",
            "labels": {"trainyard.dev/attempt": "2", "trainyard.dev/node-index": "1"},
            "annotations": {"trainyard.dev/spec-hash": "abc"},
            "creationTimestamp": CREATED,
        }
        | (metadata or {}),
        "spec": {"nodeName": "gpu-07"},
        "status": {"phase": "Pending"} | (status or {}),
    }


FIELDS = {
    "name": "nodules-worker-0",
    "uid": "pod-uid",
    "attempt": 2,
    "node_index": 1,
    "phase": "Pending",
    "created": NOON,
    "node": "gpu-07",
    "spec_hash": "abc",
}


def container(**state) -> dict:
    return {"containerStatuses": [{"name": "pytorch", "state": state}]}


def condition(type_: str, status: str, **fields) -> dict:
    return {"conditions": [{"type": type_, "status": status, **fields}]}


UNREADY = condition("Ready", "False")
READY = {"containerStatuses": [{"name": "pytorch", "ready": True, "state": {"running": {}}}]}
KILLED = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": CREATED}
CASES = {
    "unready by its kubelet": (
        UNREADY | {"containerStatuses": [{"name": "pytorch", "ready": False, "state": {}}]},
        {},
    ),
    "unready while its container is ready": (
        UNREADY | READY,
        {"running": True, "silent": True},
    ),
    "unready by a gate of its own": (
        condition("Ready", "False", reason="ReadinessGatesNotReady") | READY,
        {"running": True},
    ),
    "ready": (condition("Ready", "True") | READY, {"running": True}),
    "new": ({}, {}),
    "without a status": ({"phase": None}, {"phase": None}),
    "null lists": ({"containerStatuses": None, "conditions": None}, {}),
    "creating": (
        container(waiting={"reason": "ContainerCreating"}),
        {"waiting": Waiting(reason="ContainerCreating", message="")},
    ),
    "image": (
        container(waiting={"reason": "ErrImagePull", "message": "not found"}),
        {"waiting": Waiting(reason="ErrImagePull", message="not found")},
    ),
    "running": (
        {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [RUNNING]},
        {"phase": "Running", "ip": "10.0.0.7", "running": True},
    ),
    "a sidecar alone": (
        {"phase": "Running", "containerStatuses": [RUNNING | {"name": "proxy"}]},
        {"phase": "Running"},
    ),
    "out of memory": (
        {"phase": "Failed"} | container(terminated=KILLED),
        {
            "phase": "Failed",
            "terminated": Terminated(exit_code=137, reason="OOMKilled", message="", finished=NOON),
        },
    ),
    "evicted": (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
    ),
    "disrupted": (
        condition("DisruptionTarget", "True", reason="PreemptionByScheduler"),
        {"disruption": "PreemptionByScheduler"},
    ),
    "no longer disrupted": (condition("DisruptionTarget", "False", reason="Mistake"), {}),
    "scheduled": (
        condition("PodScheduled", "True", lastTransitionTime=CREATED),
        {"scheduled": NOON},
    ),
    "unschedulable": (
        condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes"),
        {"unschedulable": "0/3 nodes"},
    ),
    "gated": (
        condition("PodScheduled", "False", reason="SchedulingGated"),
        {"unschedulable": "the scheduler found no place."},
    ),
    "a failed init container": (
        {
            "phase": "Failed",
            "initContainerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 0}}},
                {"name": "b", "state": {"terminated": {"exitCode": 2, "message": "no data"}}},
            ],
        }
        | container(waiting={"reason": "PodInitializing"}),
        {
            "phase": "Failed",
            "terminated": Terminated(exit_code=2, reason="", message="no data", finished=None),
        },
    ),
    "an init container at work": (
        {"initContainerStatuses": [{"name": "a", "state": {"running": {}}}]}
        | container(waiting={"reason": "PodInitializing"}),
        {"waiting": Waiting(reason="PodInitializing", message="")},
    ),
    "a sidecar that failed after the trainer ended well": (
        {
            "phase": "Succeeded",
            "initContainerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 143}}}],
        }
        | container(terminated={"exitCode": 0, "reason": "Completed"}),
        {
            "phase": "Succeeded",
            "terminated": Terminated(exit_code=0, reason="Completed", message="", finished=None),
        },
    ),
}


@pytest.mark.parametrize(("status", "fields"), CASES.values(), ids=CASES)
def test_a_record_holds_what_decisions_need(status, fields):
    assert pod_record(api_pod(status)) == PodRecord(**FIELDS | fields)


def test_a_deletion_timestamp_is_when_the_grace_period_ends():
    record = pod_record(api_pod(metadata={"deletionTimestamp": "2026-01-01T12:01:00Z"}))
    assert record == PodRecord(**FIELDS | {"deadline": NOON.replace(minute=1)})
    assert record.is_deleting


@pytest.mark.parametrize("number", ["many", "-1", "999999999999"])
def test_a_pod_whose_labels_were_edited_is_foreign(number):
    labels = {"trainyard.dev/attempt": number, "trainyard.dev/node-index": "1"}
    with pytest.raises(ValueError, match=number):
        pod_record(api_pod(metadata={"labels": labels}))


def test_a_foreign_pod_is_refused():
    with pytest.raises(KeyError):
        pod_record(api_pod(metadata={"labels": {"app": "other"}}))


@pytest.mark.parametrize(
    ("phase", "exit_code", "expected"),
    [
        ("Running", None, (False, False, False)),
        ("Running", 0, (True, True, False)),
        ("Running", 1, (True, False, True)),
        ("Succeeded", 0, (True, True, False)),
        ("Failed", 0, (True, False, True)),
        ("Failed", None, (True, False, True)),
    ],
)
def test_a_pod_has_ended_when_its_training_container_has(phase, exit_code, expected):
    ended = None if exit_code is None else Terminated(
        exit_code=exit_code, reason="", message="", finished=None
    )  # fmt: skip
    pod = PodRecord(**FIELDS | {"phase": phase, "terminated": ended})
    assert (pod.has_ended, pod.has_succeeded, pod.has_failed) == expected
