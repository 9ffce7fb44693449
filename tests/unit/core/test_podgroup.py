"""Jobs that ask for a gang scheduler or a queue, and what is made for them."""

import pytest
from core_objects import DEFAULTS, at, make_job, make_pod, make_pods, make_status
from core_scenes import acts, decide

from trainyard_operator.desired import build_pod
from trainyard_operator.podgroup import build_pod_group
from trainyard_operator.status import JobStatus

GATES = "Scheduling is blocked due to non-empty scheduling gates"
WAITING = {"phase": "Pending", "node": None}


def scheduled(nodes: int = 2, **fields):
    return make_job(nodes, scheduling=fields)


def difference(job) -> dict:
    """What the first pod has that a pod of the same job without `scheduling` has not."""
    plain = build_pod(make_job(job.spec.nodes), 3, 0, DEFAULTS)
    pod = build_pod(job, 3, 0, DEFAULTS)
    parts = {
        "labels": (pod["metadata"]["labels"], plain["metadata"]["labels"]),
        "annotations": (pod["metadata"]["annotations"], plain["metadata"]["annotations"]),
        "spec": (pod["spec"], plain["spec"]),
    }
    return {
        part: {key: value for key, value in mine.items() if key not in theirs}
        for part, (mine, theirs) in parts.items()
    }


def test_volcano_gets_a_pod_group_in_its_queue():
    job = scheduled(gang="volcano", queue="research", priorityClassName="high")
    assert build_pod_group(job) == {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": {
            "name": "nodules-8fdb08ca",
            "namespace": "research",
            "labels": {
                "app.kubernetes.io/name": "trainyard",
                "app.kubernetes.io/component": "trainer",
                "app.kubernetes.io/instance": "nodules",
                "app.kubernetes.io/managed-by": "trainyard-operator",
                "trainyard.dev/job": "nodules",
                "trainyard.dev/job-uid": "uid-1",
            },
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
        "spec": {"minMember": 2, "queue": "research", "priorityClassName": "high"},
    }
    assert difference(job) == {
        "labels": {},
        "annotations": {"scheduling.k8s.io/group-name": "nodules-8fdb08ca"},
        "spec": {"schedulerName": "volcano", "priorityClassName": "high"},
    }


def test_coscheduling_gets_a_pod_group_and_a_label():
    group = build_pod_group(scheduled(3, gang="coscheduling"))
    assert group
    assert group["apiVersion"] == "scheduling.x-k8s.io/v1alpha1"
    assert group["spec"] == {"minMember": 3, "scheduleTimeoutSeconds": 60}
    assert difference(scheduled(3, gang="coscheduling")) == {
        "labels": {"scheduling.x-k8s.io/pod-group": group["metadata"]["name"]},
        "annotations": {},
        "spec": {"schedulerName": "scheduler-plugins-scheduler"},
    }


def test_kueue_gets_a_pod_group_of_labels_and_a_gate():
    assert build_pod_group(scheduled(queue="research")) is None
    assert difference(scheduled(queue="research")) == {
        "labels": {
            "kueue.x-k8s.io/queue-name": "research",
            "kueue.x-k8s.io/pod-group-name": "nodules-uid-1-3",
        },
        "annotations": {
            "kueue.x-k8s.io/pod-group-total-count": "2",
            "kueue.x-k8s.io/retriable-in-group": "false",
        },
        "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
    }


def test_a_scheduler_that_is_named_is_taken():
    pod = build_pod(scheduled(gang="volcano", schedulerName="mine"), 1, 0, DEFAULTS)
    assert pod["spec"]["schedulerName"] == "mine"


def test_a_template_cannot_take_a_pod_out_of_its_queue():
    template = {
        "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "fast"}},
        "spec": {"schedulingGates": []},
    }
    job = make_job(template=template, scheduling={"queue": "research"})
    pod = build_pod(job, 1, 0, DEFAULTS)
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert pod["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/admission"}]


CHANGES = {
    "nodes": scheduled(3, gang="volcano"),
    "queue": scheduled(gang="volcano", queue="other"),
    "priority": scheduled(gang="volcano", priorityClassName="low"),
}


@pytest.mark.parametrize("job", CHANGES.values(), ids=CHANGES)
def test_whatever_a_pod_group_asks_for_is_in_its_name(job):
    before, after = build_pod_group(scheduled(gang="volcano")), build_pod_group(job)
    assert before
    assert after
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_a_pod_group_is_made_before_the_pods_of_each_attempt():
    job = scheduled(gang="volcano")
    group = build_pod_group(job)
    assert group
    name = group["metadata"]["name"].removeprefix("nodules-")
    expected = ["create service", f"create {name}", "create master-0", "create worker-0"]
    assert acts(decide(JobStatus(), job=job)) == expected


def test_waiting_in_a_queue_is_told_and_takes_no_time_of_the_start_up_deadline():
    job = scheduled(queue="research")
    pods = make_pods(job, **WAITING, unschedulable=GATES, scheduled=None)
    status = make_status(phase="Starting", formed_attempt=0)
    decision = decide(status, *pods, job=job, now=100_000)
    assert decision.status.phase == "Starting"
    sentence = "Pod nodules-master-0 waits in Kueue's queue 'research'."
    assert [event.message for event in decision.events] == [sentence]


def test_an_elastic_job_does_not_give_up_nodes_because_its_queue_is_long():
    job = make_job(4, elastic={"minNodes": 1, "maxNodes": 4}, scheduling={"queue": "research"})
    pods = [make_pod(job, index, **WAITING, unschedulable=GATES) for index in range(4)]
    status = make_status(phase="Starting", formed_attempt=0)
    assert decide(status, *pods, job=job, now=100).status.elastic is None


def test_a_gang_without_its_scheduler_hears_of_it():
    job = scheduled(gang="volcano")
    error = "this cluster knows no PodGroup."
    decision = decide(make_status(phase="Starting", formed_attempt=0), job=job, create_error=error)
    assert decision.wake_at is not None
    assert decision.wake_at <= at(25)
    assert [event.reason for event in decision.events] == ["ConfigurationError"]
