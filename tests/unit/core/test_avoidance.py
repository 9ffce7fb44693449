"""Nodes that broke two attempts: how they are counted, and how later pods keep off them."""

from dataclasses import replace

import pytest
from core_expected import POD
from core_objects import (
    DEFAULTS,
    RECIPE,
    at,
    exited,
    make_job,
    make_pod,
    make_pods,
    make_status,
    standing_by,
    summary,
    text,
)
from core_scenes import acts, decide, edited

from trainyard_operator.avoidance import with_fault
from trainyard_operator.contract import Cause
from trainyard_operator.decision import Create, Decision
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.status import FailureStatus, JobStatus, NodeFault

JOB = make_job()
MASTER = make_pod(JOB)
OWN = exited(1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1))
FAILED = make_pod(JOB, 1, **OWN)
ONCE = [NodeFault(node="gpu-1", attempts=1, last_attempt=1)]
TWICE = [NodeFault(node="gpu-1", attempts=2, last_attempt=2)]
OTHERS = {"key": "metadata.name", "operator": "NotIn", "values": ["gpu-1"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
FULL = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity."
HOMELESS = {
    "phase": "Pending",
    "running": False,
    "node": None,
    "scheduled": None,
    "unschedulable": FULL,
}


def begin(job=JOB, **changes) -> Decision:
    """The first pass after a back-off."""
    fields = {"phase": "Restarting", "next_attempt_time": text(5), "node_faults": TWICE}
    return decide(make_status(2, **fields | changes), job=job)


def affinity(decision: Decision) -> dict:
    """The nodeAffinity of each pod that is made, which is the same for all."""
    pods = [a.manifest for a in decision.actions if isinstance(a, Create)][1:]
    found = [pod["spec"].get("affinity", {}).get("nodeAffinity", {}) for pod in pods]
    assert found == found[:1] * 2
    return found[0]


# Evidence


def test_the_second_attempt_that_a_node_breaks_is_told():
    status = decide(make_status(), MASTER, FAILED).status
    assert status.node_faults == ONCE
    assert status.history[-1].message.endswith(": bad. Restart 1 of 3.")
    second = make_status(2, node_faults=ONCE)
    pods = (make_pod(JOB, attempt=2), make_pod(JOB, 1, attempt=2, **OWN))
    decision = decide(second, *pods)
    assert decision.status.node_faults == TWICE
    assert decision.events[0].message == (
        "Rank 1 (pod nodules-worker-0, node gpu-1): bad. Restart 1 of 3. "
        "Node gpu-1 broke 2 attempts and is avoided from now on."
    )


def test_on_a_single_machine_no_node_is_avoided():
    pods = (make_pod(JOB, attempt=2), make_pod(JOB, 1, attempt=2, **OWN))
    alone = replace(DEFAULTS, has_one_node=True)
    status = make_status(2, node_faults=ONCE)
    decision = plan(JOB, status, Observed(pods=pods), at(9), alone)
    assert decision.events[0].message.endswith("Restart 1 of 3.")


def failure(cause: Cause, *, node: str | None = "gpu-1", code: int = 1) -> FailureStatus:
    return FailureStatus(cause=cause, message="", node=node, exit_code=code, attempt=3)


@pytest.mark.parametrize(
    ("case", "counts"),
    [
        (failure(Cause.USER_EXIT), True),
        (failure(Cause.STALLED), True),
        (failure(Cause.NODE_LOST), True),
        (failure(Cause.UNSCHEDULABLE), True),
        (failure(Cause.USER_EXIT, code=137), False),
        (failure(Cause.OUT_OF_MEMORY, code=137), False),
        (failure(Cause.EVICTED), False),
        (failure(Cause.PREEMPTED), False),
        (failure(Cause.POD_DELETED), False),
        (failure(Cause.PEER_LOST), False),
        (failure(Cause.STORAGE), False),
        (failure(Cause.NODE_LOST, node=None), False),
    ],
    ids=str,
)
def test_only_what_a_bad_node_can_bring_about_counts_against_it(case, counts):
    assert bool(with_fault(JobStatus(), case)) is counts


def test_of_many_nodes_the_newest_32_are_remembered():
    status = JobStatus()
    for number in range(40):
        newest = failure(Cause.NODE_LOST, node=f"gpu-{number}")
        status = status.model_copy(update={"node_faults": with_fault(status, newest)})
    assert [fault.node for fault in status.node_faults] == [f"gpu-{n}" for n in range(8, 40)]
    again = with_fault(status, failure(Cause.NODE_LOST, node="gpu-8"))
    assert again[-1] == NodeFault(node="gpu-8", attempts=2, last_attempt=3)


# Pods


def test_pods_insist_on_other_nodes():
    assert affinity(begin()) == {
        REQUIRED: {"nodeSelectorTerms": [{"matchFields": [OTHERS]}]},
    }
    assert begin().status.phase == "Starting"


def test_one_failure_is_no_reason_to_avoid_a_node():
    assert affinity(begin(node_faults=ONCE)) == {}


def test_a_job_can_decline():
    assert affinity(begin(make_job(scheduling={"avoidFailedNodes": False}))) == {}


def test_the_templates_own_alternatives_stay_and_exclude_the_node_too():
    terms = [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}, {}]
    template = {"spec": {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}}}
    assert affinity(begin(make_job(template=template))) == {
        REQUIRED: {"nodeSelectorTerms": [{**terms[0], "matchFields": [OTHERS]}, {}]}
    }


def test_a_pod_whose_node_is_named_is_left_alone():
    job = make_job(template={"spec": {"nodeName": "gpu-1"}})
    assert affinity(begin(job)) == {}


def test_nothing_defeats_the_taints_of_node_health_agents():
    """Only two taints are borne, for half a minute, and neither keeps a pod from being moved."""
    for toleration in POD["spec"]["tolerations"]:
        assert toleration["key"] in {
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        }
        assert (toleration["effect"], toleration["tolerationSeconds"]) == ("NoExecute", 30)
    [pod, *_] = [a.manifest for a in begin().actions if isinstance(a, Create)][1:]
    assert pod["spec"]["tolerations"] == POD["spec"]["tolerations"]


# No place elsewhere


def test_pods_without_a_place_insist_for_a_tenth_of_the_start_up_deadline():
    status = make_status(3, phase="Starting", formed_attempt=3, node_faults=TWICE)
    pods = (make_pod(JOB, attempt=3), make_pod(JOB, 1, attempt=3, **HOMELESS))
    waits = decide(status, *pods, now=89)
    assert (waits.status.phase, waits.wake_at) == ("Starting", at(90))
    gives_way = decide(waits.status, *pods, now=90)
    assert acts(gives_way) == ["delete master-0 in 5", "delete worker-0 in 5"]
    assert (gives_way.status.avoidance, gives_way.status.restarts) == ("Preferred", status.restarts)
    assert [(e.reason, e.message) for e in gives_way.events] == [
        (
            "LastResort",
            f"Pod nodules-worker-0 waits for a node: {FULL} From now on nodes that broke attempts "
            "(gpu-1) are a last resort.",
        )
    ]
    begun = decide(gives_way.status, now=91)
    assert (begun.status.phase, begun.status.attempt) == ("Starting", 4)
    assert affinity(begun) == {
        PREFERRED: [{"weight": 100, "preference": {"matchFields": [OTHERS]}}]
    }
    pods = (make_pod(JOB, attempt=4), make_pod(JOB, 1, attempt=4, **HOMELESS))
    assert decide(begun.status, *pods, now=9999).status.phase == "Starting"


@pytest.mark.parametrize(
    "changes",
    [
        {"node_faults": ONCE},
        {"avoidance": "Preferred", "node_faults": TWICE},
    ],
)
def test_a_full_cluster_alone_is_waited_for(changes):
    status = make_status(3, phase="Starting", formed_attempt=3, **changes)
    pods = make_pods(JOB, attempt=3, **HOMELESS)
    assert acts(decide(status, *pods, now=9999)) == []


def test_a_pod_that_its_queue_holds_back_is_waited_for():
    status = make_status(3, phase="Starting", formed_attempt=3, node_faults=TWICE)
    gated = HOMELESS | {"unschedulable": "Scheduling is blocked due to non-empty scheduling gates"}
    assert acts(decide(status, *make_pods(JOB, attempt=3, **gated), now=9999)) == []


def test_a_wish_of_the_template_stays_beside_ours():
    own = {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
    template = {"spec": {"affinity": {"nodeAffinity": {PREFERRED: [own]}}}}
    found = affinity(begin(make_job(template=template), avoidance="Preferred"))
    assert found[PREFERRED] == [
        own,
        {"weight": 100, "preference": {"matchFields": [OTHERS]}},
    ]


# In place


def test_a_gang_leaves_a_node_that_broke_two_attempts():
    recipe = make_job(**RECIPE)
    ready = {"ip": "10.0.0.1", "order_token": "secret"}
    pods = (
        make_pod(recipe, **ready),
        make_pod(recipe, 1, **ready, **standing_by(1, "rank 1: bad")),
    )
    moved = decide(make_status(node_faults=ONCE), *pods, job=recipe)
    assert acts(moved) == ["delete master-0 in 5", "delete worker-0 in 5"]
    stays = decide(make_status(node_faults=ONCE, avoidance="Preferred"), *pods, job=recipe)
    assert acts(stays)[0] == "order master-0 2 on 23457"
    declined = edited(recipe, **RECIPE, scheduling={"avoidFailedNodes": False})
    pods = tuple(replace(pod, spec_hash=make_pod(declined).spec_hash) for pod in pods)
    assert acts(decide(make_status(node_faults=ONCE), *pods, job=declined))[0].startswith("order")
