"""What the plan decides, as tables: id, job, status, observed, now -> phase, actions, wake_at."""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import pytest
from core_objects import (
    DEFAULTS,
    at,
    exited,
    make_job,
    make_pod,
    make_pods,
    make_status,
    pending,
    summary,
    text,
)
from core_scenes import (
    ALL_CREATED,
    BOTH,
    DONE,
    ENDED,
    FAILED,
    FAULTY,
    FORMING,
    GROWN,
    JOB,
    MASTER,
    MENDED,
    OWN_FAULT,
    RUNNING,
    STOPPED,
    STORED,
    TTL,
    WORKER,
    acts,
    failed,
    leaving,
    policy,
    restarting,
)

from trainyard_operator.api import TrainingJob
from trainyard_operator.observed import Observed, PodRecord
from trainyard_operator.plan import plan
from trainyard_operator.status import JobStatus


class Row(NamedTuple):
    job: TrainingJob
    status: JobStatus
    pods: tuple[PodRecord, ...]
    now: float
    phase: str | None
    actions: list[str]
    wake_at: datetime | None = None


STUCK = (leaving(MASTER, 60), WORKER)
QUEUED = {"node": None, "scheduled": None, "running": False, "phase": "Pending"}
FULL = make_pods(JOB, **QUEUED, unschedulable="0/3 nodes are available.")
NO_IMAGE = make_pods(JOB, **pending("not found", "ErrImagePull"))
OLD = make_pods(JOB, attempt=1)
LIMITED = policy(activeDeadlineSeconds=100)
SUSPENDED = policy(suspend=True)
GONE = make_job(metadata={"deletionTimestamp": text(0)})

ROWS = {
    # From nothing to running
    "created": Row(JOB, JobStatus(), (), 0, "Starting", ALL_CREATED, at(900)),
    "one node": Row(
        make_job(1), JobStatus(), (), 0, "Starting", ["create service", "create master-0"], at(900)
    ),
    "the operator died before it created": Row(
        JOB, FORMING, (), 7, "Starting", ALL_CREATED, at(900)
    ),
    "it died half way": Row(
        JOB, FORMING, (MASTER,), 7, "Starting", ["create service", "create worker-0"], at(900)
    ),
    "pods wait for their image": Row(
        JOB, FORMING, make_pods(JOB, **pending()), 7, "Starting", [], at(900)
    ),
    "pods got a node late": Row(
        JOB, FORMING, make_pods(JOB, **pending(), scheduled=at(50)), 60, "Starting", [], at(950)
    ),
    "one pod runs": Row(
        JOB, FORMING, (MASTER, make_pod(JOB, 1, **pending())), 7, "Starting", [], at(900)
    ),
    "all pods run": Row(JOB, FORMING, BOTH, 7, "Running", []),
    "one ended well before the other ran": Row(JOB, FORMING, (MASTER, DONE[1]), 7, "Running", []),
    "all pods go on": Row(JOB, RUNNING, BOTH, 9999, "Running", []),
    "a running pod is not seen to run": Row(
        JOB, RUNNING, (MASTER, replace(WORKER, running=False, phase="Unknown")), 9999, "Running", []
    ),
    # Start-up deadline
    "start-up takes too long": Row(
        JOB, FORMING, make_pods(JOB, **pending()), 900, "Failed", STOPPED
    ),
    "an image stays away": Row(JOB, FORMING, NO_IMAGE, 900, "Failed", STOPPED),
    "a full cluster is no fault": Row(JOB, FORMING, FULL, 9999, "Starting", []),
    "nor is a slow scheduler": Row(
        JOB, FORMING, make_pods(JOB, **QUEUED), 9999, "Starting", []
    ),
    # Success
    "all ended well": Row(JOB, RUNNING, DONE, 9, "Succeeded", []),
    "the first ended well": Row(JOB, RUNNING, (DONE[0], WORKER), 9, "Running", []),
    "a worker failed after the result was stored": Row(
        JOB, RUNNING, (STORED, FAILED), 9, "Succeeded", []
    ),
    "a worker failed while another runs on": Row(
        make_job(3),
        RUNNING,
        tuple(replace(p, spec_hash=MASTER.spec_hash) for p in (STORED, FAILED, make_pod(JOB, 2))),
        9,
        "Running",
        [],
        at(65),
    ),
    "a worker hangs after the result was stored": Row(
        JOB, RUNNING, (STORED, WORKER), 65, "Succeeded", ["delete worker-0"]
    ),
    "a worker was deleted after the result was stored": Row(
        JOB, RUNNING, (STORED,), 9, "Succeeded", []
    ),
    "success is seen though it is to be suspended": Row(
        SUSPENDED, RUNNING, DONE, 9, "Succeeded", []
    ),
    "success is seen at the deadline": Row(LIMITED, RUNNING, DONE, 100, "Succeeded", []),
    # Failure and restart
    "a rank failed": Row(JOB, RUNNING, OWN_FAULT, 10, "Restarting", ENDED, at(15)),
    "a mute exit may be an echo": Row(JOB, RUNNING, (MASTER, FAILED), 6, "Running", [], at(8)),
    "a mute exit settled": Row(JOB, RUNNING, (MASTER, FAILED), 8, "Restarting", ENDED, at(13)),
    "a node's clock is an hour ahead": Row(
        JOB, RUNNING, (MASTER, make_pod(JOB, 1, **exited(1, seconds=3600))), 6, "Restarting",
        ENDED, at(11),
    ),
    "a pod is gone": Row(JOB, RUNNING, (MASTER,), 10, "Restarting", ENDED[:1], at(10)),
    "all pods are gone": Row(JOB, RUNNING, (), 10, "Restarting", [], at(10)),
    "somebody deletes a pod": Row(
        JOB, RUNNING, (leaving(MASTER, 60), WORKER), 10, "Running", [], at(70)
    ),
    "a pod of a forming attempt is gone": Row(
        JOB, FORMING, (MASTER,), 10, "Starting", ["create service", "create worker-0"], at(900)
    ),
    "a pod saved on request": Row(
        JOB, RUNNING, (MASTER, make_pod(JOB, 1, **exited(75, summary(75, "saved")))), 10,
        "Restarting", STOPPED, at(10),
    ),
    "back-off, pods still there": Row(
        JOB, restarting(30), BOTH, 10, "Restarting", ENDED, at(30)
    ),
    "back-off, pods going": Row(
        JOB, restarting(30), tuple(leaving(p, 15) for p in BOTH), 10, "Restarting", [], at(25)
    ),
    "back-off, pods gone": Row(JOB, restarting(30), (), 10, "Restarting", [], at(30)),
    "back-off over, a pod is still there": Row(
        JOB, restarting(30), (leaving(WORKER, 60),), 31, "Restarting", [], at(70)
    ),
    "back-off over": Row(JOB, restarting(30), (), 30, "Starting", ALL_CREATED, at(930)),
    "a pod stuck on a lost node": Row(
        JOB, restarting(30), (leaving(WORKER, 60),), 70, "Restarting", ["delete worker-0 in 0"],
        at(85),
    ),
    "a stuck pod of a live attempt": Row(
        JOB, RUNNING, STUCK, 70, "Running", ["delete master-0 in 0"], at(85)
    ),
    "pods of an earlier attempt seen late": Row(
        JOB, make_status(2, phase="Starting", formed_attempt=1), OLD, 7, "Starting", ENDED, at(900)
    ),
    "an earlier pod, being deleted": Row(
        JOB, make_status(2, phase="Starting", formed_attempt=1), (leaving(OLD[0], 60),), 7,
        "Starting", [], at(70),
    ),
    "pods of a later attempt than a lost status": Row(
        JOB, JobStatus(), make_pods(JOB, attempt=4), 7, "Running", []
    ),
    # The user's hand
    "edited while it runs": Row(GROWN, RUNNING, BOTH, 10, "Restarting", STOPPED),
    "edited, pods seen before their deletion": Row(
        GROWN, make_status(phase="Restarting", next_attempt_time=text(10)), BOTH, 10,
        "Restarting", STOPPED,
    ),
    "edited before any pod was made": Row(
        GROWN, FORMING, (), 10, "Starting", [*ALL_CREATED, "create worker-1"], at(900)
    ),
    "a run policy is no reason for new pods": Row(policy(maxRestarts=9), RUNNING, BOTH, 1,
        "Running", []),
    "suspended": Row(SUSPENDED, RUNNING, BOTH, 10, "Suspended", STOPPED),
    "suspended before it began": Row(SUSPENDED, JobStatus(), (), 10, "Suspended", []),
    "suspended, and pods seen late": Row(
        SUSPENDED, make_status(phase="Suspended", next_attempt_time=text(10)), BOTH, 11,
        "Suspended", STOPPED,
    ),
    "suspended, a pod is stuck": Row(
        SUSPENDED, make_status(phase="Suspended", next_attempt_time=text(10)), STUCK[:1], 70,
        "Suspended", ["delete master-0 in 0"], at(85),
    ),
    "resumed": Row(
        JOB, make_status(phase="Suspended", next_attempt_time=text(10)), (), 50, "Starting",
        ALL_CREATED, at(950),
    ),
    "resumed while pods still save": Row(
        JOB, make_status(phase="Suspended", next_attempt_time=text(10)), BOTH, 11, "Restarting",
        STOPPED,
    ),
    "being deleted": Row(GONE, RUNNING, (), 10, "Running", []),
    "refused": Row(FAULTY, JobStatus(), (), 10, "Pending", []),
    "refused while it runs": Row(FAULTY, RUNNING, BOTH, 10, "Pending", STOPPED),
    # Time
    "the deadline is waited for": Row(LIMITED, RUNNING, BOTH, 99, "Running", [], at(100)),
    "the deadline": Row(LIMITED, RUNNING, BOTH, 100, "Failed", STOPPED),
    "the deadline comes in a back-off": Row(LIMITED, restarting(300), (), 50, "Restarting", [],
        at(100)),
    "a suspended job waits past its deadline": Row(
        policy(activeDeadlineSeconds=100, suspend=True),
        make_status(phase="Suspended", next_attempt_time=text(0)), (), 999, "Suspended", [],
    ),
    # After the end
    "done": Row(JOB, make_status(phase="Succeeded", completion_time=text(0)), DONE, 9,
        "Succeeded", []),
    "done, pods gone": Row(JOB, make_status(phase="Succeeded", completion_time=text(0)), (), 9,
        "Succeeded", []),
    "done, edited": Row(GROWN, make_status(phase="Succeeded", completion_time=text(0)), (), 9,
        "Succeeded", []),
    "failed, edited": Row(MENDED, failed("UserExit"), (), 9, "Failed", []),
    "a configuration error is final": Row(JOB, failed("ConfigurationError"), (), 9, "Failed", []),
    "a configuration error is mended by an edit": Row(
        MENDED, failed("ConfigurationError"), BOTH, 9, "Pending", ENDED, at(9)
    ),
    "so is an image": Row(MENDED, failed("ImagePull"), (), 9, "Pending", [], at(9)),
    "a mended job that failed again is final": Row(
        MENDED, failed("ConfigurationError", generation=2), (), 9, "Failed", []
    ),
    "TTL to come": Row(TTL, make_status(phase="Succeeded", completion_time=text(0)), DONE, 9,
        "Succeeded", [], at(60)),
    "TTL": Row(TTL, make_status(phase="Succeeded", completion_time=text(0)), DONE, 60,
        "Succeeded", ["delete job"], at(75)),
    "TTL waits for logs": Row(
        TTL, failed("UserExit"), (leaving(MASTER, 60),), 65, "Failed", [], at(70)
    ),
    "TTL of 0": Row(
        policy(ttlSecondsAfterFinished=0), make_status(phase="Succeeded", completion_time=text(0)),
        (), 0, "Succeeded", ["delete job"], at(15),
    ),
    "after the end a pod is stuck": Row(
        JOB, failed("NodeLost"), (leaving(MASTER, 60),), 70, "Failed", ["delete master-0 in 0"],
        at(85),
    ),
    "clean Running": Row(policy(), failed("UserExit"), OWN_FAULT, 9, "Failed",
        ["delete master-0"]),
    "clean All": Row(policy(cleanPodPolicy="All"), failed("UserExit"), OWN_FAULT, 9, "Failed",
        ["delete master-0", "delete worker-0"]),
    "clean None": Row(policy(cleanPodPolicy="None"), failed("UserExit"), OWN_FAULT, 9, "Failed",
        []),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_plan(row):
    decision = plan(row.job, row.status, Observed(pods=row.pods), at(row.now), DEFAULTS)
    assert (decision.status.phase, acts(decision), decision.wake_at) == (
        row.phase,
        row.actions,
        row.wake_at,
    )


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_second_plan_in_the_same_state_changes_nothing(row):
    observed = Observed(pods=row.pods)
    status = plan(row.job, row.status, observed, at(row.now), DEFAULTS).status
    for _ in range(2):  # What follows at once: a deletion after a failure, a start after a wait.
        status = plan(row.job, status, observed, at(row.now), DEFAULTS).status
    again = plan(row.job, status, observed, at(row.now + 0.1), DEFAULTS)
    assert again.status == status
    assert again.events == ()
    assert again.wake_at is None or again.wake_at > at(row.now)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_order_of_a_list_of_pods_does_not_matter(row):
    one = plan(row.job, row.status, Observed(pods=row.pods), at(row.now), DEFAULTS)
    other = plan(row.job, row.status, Observed(pods=row.pods[::-1]), at(row.now), DEFAULTS)
    assert one.status == other.status
    assert sorted(acts(one)) == sorted(acts(other))
