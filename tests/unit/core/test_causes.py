"""Every cause, from pods as the API server shows them to the sentence that a person reads."""

from pathlib import Path
from typing import NamedTuple

import pytest
from core_objects import DEFAULTS, at, make_job, make_status, summary, text

from trainyard_operator.contract import USER_CAUSES, Cause
from trainyard_operator.desired import spec_hash
from trainyard_operator.observed import Observed, pod_record
from trainyard_operator.plan import plan
from trainyard_operator.status import FailureStatus

RUNBOOKS = Path(__file__).resolve().parents[3] / "docs" / "runbooks"
JOB = make_job(
    resources={"limits": {"memory": "64Gi"}},
    runPolicy={"activeDeadlineSeconds": 2000, "startupDeadlineSeconds": 900},
)


def raw(index: int, container: dict | None, *, deleted: bool = False, **status) -> dict:
    """A pod of the job as the API server gives it; `container` is the state of its container."""
    role = f"worker-{index - 1}" if index else "master-0"
    metadata = {
        "name": f"nodules-{role}",
        "uid": f"pod-{index}",
        "creationTimestamp": text(0),
        "labels": {"trainyard.dev/attempt": "1", "trainyard.dev/node-index": str(index)},
        "annotations": {"trainyard.dev/spec-hash": spec_hash(JOB.spec)},
    }
    own = {"name": "pytorch", "state": container, "ready": False, "restartCount": 0}
    known = {"phase": "Running", "containerStatuses": [own] if container else []} | status
    if deleted:
        metadata |= {"deletionTimestamp": text(60), "deletionGracePeriodSeconds": 60}
    return {"metadata": metadata, "spec": {"nodeName": f"gpu-{index}"}, "status": known}


def ended(code: int, message: str = "", reason: str = "Error") -> dict:
    times = {"startedAt": text(0), "finishedAt": text(5)}
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, **times}}


def disruption(reason: str) -> list[dict]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason}]


RUNS = {"running": {"startedAt": text(0)}}
FINE = raw(0, RUNS)
NOT_FOUND = (
    'Back-off pulling image "registry.example/mine:1": ErrImagePull: rpc error: code = NotFound '
    'desc = failed to pull and unpack image "registry.example/mine:1": not found'
)
NO_ROOM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
}


class Case(NamedTuple):
    cause: Cause
    pods: tuple[dict, ...]
    message: str
    now: float = 20
    phase: str = "Restarting"
    before: str = "Running"
    place: tuple[str | None, str | None] = ("nodules-worker-0", "gpu-1")


def failed(cause: Cause, state: dict, sentence: str, **status) -> Case:
    return Case(cause, (FINE, raw(1, state, **{"phase": "Failed"} | status)), sentence)


CASES = [
    failed(
        Cause.USER_EXIT,
        ended(1, "Traceback (most recent call last):\n  File ...\nValueError: no labels in fold 3"),
        "Pod nodules-worker-0 (node gpu-1) exited with code 1: ValueError: no labels in fold 3.",
    ),
    failed(
        Cause.OUT_OF_MEMORY,
        ended(137, reason="OOMKilled"),
        "Pod nodules-worker-0 (node gpu-1) exceeded its memory limit of 64Gi; raise "
        "resources.limits.memory.",
    ),
    failed(
        Cause.CONFIGURATION,
        ended(78, summary(78, "spec.config.training: unknown key 'learning_rte'")),
        "spec.config.training: unknown key 'learning_rte'.",
    )._replace(phase="Failed"),
    failed(
        Cause.EVICTED,
        ended(137),
        "Pod nodules-worker-0 (node gpu-1) was evicted: The node was low on resource: "
        "ephemeral-storage.",
        reason="Evicted",
        message="The node was low on resource: ephemeral-storage. ",
    ),
    failed(
        Cause.PREEMPTED,
        ended(143),
        "Pod nodules-worker-0 (node gpu-1) was preempted.",
        conditions=disruption("PreemptionByScheduler"),
    ),
    failed(
        Cause.NODE_LOST,
        RUNS,
        "Pod nodules-worker-0 (node gpu-1) was lost with its node.",
        conditions=disruption("DeletionByTaintManager"),
    ),
    Case(
        Cause.POD_DELETED,
        (FINE,),
        "Pod nodules-worker-0 was deleted.",
        place=("nodules-worker-0", None),
    ),
    failed(
        Cause.PEER_LOST,
        ended(76, summary(76, "rank 1: lost its connection to rank 0", rank=1)),
        "Rank 1 (pod nodules-worker-0, node gpu-1): lost its connection to rank 0.",
    ),
    failed(
        Cause.STALLED,
        ended(1, summary(1, "rank 1: no step for 600 s", cause=Cause.STALLED, rank=1)),
        "Rank 1 (pod nodules-worker-0, node gpu-1): no step for 600 s.",
    ),
    failed(
        Cause.STORAGE,
        ended(1, summary(1, "https://s3.example does not answer", cause=Cause.STORAGE)),
        "https://s3.example does not answer (pod nodules-worker-0, node gpu-1).",
    ),
    failed(
        Cause.CHECKPOINTED,
        ended(75, summary(75, "stopped on request at step 7")),
        "Stopped on request at step 7 (pod nodules-worker-0, node gpu-1).",
    ),
    failed(
        Cause.UNSCHEDULABLE,
        {},
        "Pod nodules-worker-0 (node gpu-1) was refused by its node: Allocate failed due to no "
        "healthy devices present.",
        reason="UnexpectedAdmissionError",
        message="Allocate failed due to no healthy devices present",
    ),
    Case(
        Cause.IMAGE_PULL,
        (FINE, raw(1, {"waiting": {"reason": "ImagePullBackOff", "message": NOT_FOUND}},
                   phase="Pending")),
        "Pod nodules-worker-0 cannot pull 'registry.example/mine:1': no such image or tag. Correct "
        "spec.image. Gave up after 900 s (runPolicy.startupDeadlineSeconds).",
        900, "Failed", "Starting", ("nodules-worker-0", None),
    ),
    Case(
        Cause.STARTUP_DEADLINE,
        (FINE, raw(1, {"waiting": {"reason": "ContainerCreating"}}, phase="Pending")),
        "Not every pod ran within 900 s; raise runPolicy.startupDeadlineSeconds, or see kubectl "
        "describe pod.",
        900, "Failed", "Starting", (None, None),
    ),
    Case(
        Cause.DEADLINE,
        (FINE, raw(1, RUNS)),
        "The job took longer than runPolicy.activeDeadlineSeconds (2000 s).",
        2000, "Failed", place=(None, None),
    ),
]  # fmt: skip


def judge(case: Case) -> tuple[str | None, FailureStatus | None]:
    status = make_status(phase=case.before, formed_attempt=1)
    observed = Observed(pods=tuple(map(pod_record, case.pods)))
    after = plan(JOB, status, observed, at(case.now), DEFAULTS).status
    return after.phase, after.failure


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cause)
def test_pods_tell_the_cause_in_one_sentence(case):
    phase, failure = judge(case)
    assert failure is not None
    assert (phase, failure.cause, failure.message) == (case.phase, case.cause, case.message)
    assert (failure.pod, failure.node, failure.attempt) == (*case.place, 1)


def test_every_cause_has_its_case():
    assert {case.cause for case in CASES} == set(Cause)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cause)
def test_only_the_programs_own_failures_use_up_a_restart(case):
    status = make_status(phase=case.before)
    observed = Observed(pods=tuple(map(pod_record, case.pods)))
    restarts = plan(JOB, status, observed, at(case.now), DEFAULTS).status.restarts
    assert restarts.user == (case.cause in USER_CAUSES)
    assert restarts.user + restarts.infrastructure == (case.phase == "Restarting")


NOT_READY = [
    {"type": "Ready", "status": "False", "reason": "NodeNotReady"},
    {"type": "PodScheduled", "status": "True", "lastTransitionTime": text(0)},
]
UNREACHABLE = {
    "its node does not answer": raw(1, RUNS, conditions=NOT_READY, reason="NodeLost"),
    "its phase is unknown": raw(1, RUNS, phase="Unknown"),
    "it is to leave, and its node cannot say whether it did": raw(
        1, RUNS, deleted=True, conditions=disruption("DeletionByTaintManager")
    ),
}


@pytest.mark.parametrize("pod", UNREACHABLE.values(), ids=UNREACHABLE)
def test_unreachable_is_not_failed(pod):
    phase, failure = judge(Case(Cause.NODE_LOST, (FINE, pod), ""))
    assert (phase, failure) == ("Running", None)


def test_a_room_that_is_not_there_is_waited_for():
    waits = raw(1, None, phase="Pending", conditions=[NO_ROOM])
    del waits["spec"]["nodeName"]
    phase, failure = judge(Case(Cause.UNSCHEDULABLE, (FINE, waits), "", 1999, before="Starting"))
    assert (phase, failure) == ("Starting", None)


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_runbook(cause):
    page = (RUNBOOKS / f"{cause}.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == [f"# {cause}", "## What it means", "## What to look at", "## What to do"]
    assert f"({cause}.md)" in (RUNBOOKS / "README.md").read_text()
