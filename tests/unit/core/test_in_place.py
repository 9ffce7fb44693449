"""Restarts in the pods that are there: when, what is ordered, and when new pods come instead."""

from dataclasses import replace
from typing import NamedTuple

import pytest
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
from core_scenes import acts, leaving

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Cause, Report
from trainyard_operator.decision import Decision, OrderAttempt
from trainyard_operator.observed import Observed, PodRecord
from trainyard_operator.plan import plan
from trainyard_operator.status import FailureStatus, HistoryEntry, JobStatus, Progress, Restarts

JOB = make_job(**RECIPE)
GROWN = make_job(3, **RECIPE, metadata={"generation": 2})
SUSPENDED = make_job(**RECIPE, runPolicy={"suspend": True})
REACHABLE = {"ip": "10.0.0.1", "order_token": "secret"}


def pod(index: int, job: TrainingJob = JOB, **fields) -> PodRecord:
    return make_pod(job, index, **REACHABLE | fields)


MASTER, WORKER = pod(0), pod(1)
KILLED = pod(1, **standing_by())
PEER = pod(0, **standing_by(76, "rank 0: lost its peer", seconds=5))
FAILED = (PEER, KILLED)
AGREED = (pod(0, taken=2), pod(1, taken=2))
RUNNING = make_status()
BLAME = FailureStatus(cause="UserExit", message="Rank 1 was killed.", attempt=1)


def in_place(attempt: int = 2, **changes) -> JobStatus:
    """The attempt runs in the pods of the first one."""
    fields = {"pods_attempt": 1, "attempt_time": text(10), "failure": BLAME}
    return make_status(attempt, **fields | changes)


ORDERED = in_place(phase="Restarting", formed_attempt=1)
TRAINED = Progress(attempt=2, step=90, resumed_step=80)
ORDERS = ["order master-0 2 on 23457", "order worker-0 2 on 23457"]
ENDED = ["delete master-0 in 5", "delete worker-0 in 5"]


class Row(NamedTuple):
    status: JobStatus
    pods: tuple[PodRecord, ...]
    now: float
    phase: str
    attempt: int
    actions: list[str]
    wake: float | None = None
    job: TrainingJob = JOB


def cause(name: Cause, code: int = 1) -> tuple[PodRecord, ...]:
    return PEER, pod(1, **standing_by(code, "bad", cause=name))


ROWS = {
    # Begun in place
    "a killed rank is ordered back with all the others": Row(
        RUNNING, FAILED, 10, "Restarting", 2, ORDERS, 20
    ),
    "pods whose ranks still run are ordered, too": Row(
        RUNNING, (MASTER, KILLED), 10, "Restarting", 2, ORDERS, 20
    ),
    "a stall is mended in place": Row(
        RUNNING, cause(Cause.STALLED, 76), 10, "Restarting", 2, ORDERS, 20
    ),
    "so is a process without memory": Row(
        RUNNING, cause(Cause.OUT_OF_MEMORY, 137), 10, "Restarting", 2, ORDERS, 20
    ),
    "a lost peer waits for who is to blame": Row(RUNNING, (PEER, WORKER), 6, "Running", 1, [], 8),
    "a lost peer whom nobody explains": Row(
        RUNNING, (PEER, WORKER), 8, "Restarting", 2, ORDERS, 18
    ),
    "two lost peers need not wait": Row(
        RUNNING, (PEER, replace(PEER, name=WORKER.name, node_index=1)), 5, "Restarting", 2,
        ORDERS, 15,
    ),
    "an attempt in place that trained": Row(
        in_place(progress=TRAINED), (pod(0, taken=2), pod(1, **standing_by(attempt=2))), 30,
        "Restarting", 3, ["order master-0 3 on 23458", "order worker-0 3 on 23458"], 40,
    ),
    # New pods instead
    "a program that is no recipe": Row(
        RUNNING, tuple(replace(p, spec_hash=make_pod().spec_hash) for p in FAILED), 10,
        "Restarting", 1, ENDED, 15, make_job(),
    ),
    "a configuration error ends the job": Row(
        RUNNING, cause(Cause.CONFIGURATION, 78), 10, "Failed", 1,
        ["delete master-0", "delete worker-0"],
    ),
    "storage that does not answer is given time": Row(
        RUNNING, cause(Cause.STORAGE), 10, "Restarting", 1, ENDED, 10
    ),
    "one pod has ended": Row(
        RUNNING, (PEER, pod(1, **exited(1, summary(1, "bad", cause=Cause.USER_EXIT)))), 10,
        "Restarting", 1, ENDED, 15,
    ),
    "one pod is gone": Row(RUNNING, (PEER,), 10, "Restarting", 1, ENDED[:1], 10),
    "one pod is leaving": Row(
        RUNNING, (leaving(PEER, 60), KILLED), 10, "Restarting", 1, ENDED[1:], 15
    ),
    "a pod about to be evicted": Row(
        RUNNING, (PEER, replace(KILLED, disruption="EvictionByEvictionAPI")), 10, "Restarting", 1,
        ENDED, 10,
    ),
    "another pod about to be evicted": Row(
        RUNNING, (replace(MASTER, disruption="DeletionByTaintManager"), KILLED), 10, "Restarting",
        1, ENDED, 15,
    ),
    "a pod that takes no orders": Row(
        RUNNING, (replace(PEER, order_token=""), KILLED), 10, "Restarting", 1, ENDED, 15
    ),
    "a pod without an address": Row(
        RUNNING, (replace(PEER, ip=None), KILLED), 10, "Restarting", 1, ENDED, 15
    ),
    "a pod whose node does not answer": Row(
        RUNNING, (PEER, replace(WORKER, silent=True)), 10, "Restarting", 1, ENDED, 10
    ),
    "an attempt in place whose first node may still report": Row(
        in_place(), (pod(0, running=True, taken=2), pod(1, **standing_by(attempt=2))), 6, "Running",
        2, [], 8,
    ),
    "an attempt in place that never reported": Row(
        in_place(), (pod(0, taken=2), pod(1, **standing_by(attempt=2))), 30, "Restarting", 2,
        ENDED, 35,
    ),
    "an attempt in place that trained nothing": Row(
        in_place(progress=Progress(attempt=2, step=80, resumed_step=80)),
        (pod(0, taken=2), pod(1, **standing_by(attempt=2))), 30, "Restarting", 2, ENDED, 35,
    ),
    "no restart is left": Row(
        make_status(restarts=Restarts(user=3)), FAILED, 10, "Failed", 1,
        ["delete master-0", "delete worker-0"],
    ),
    "a second lost peer in a row": Row(
        make_status(history=[HistoryEntry(time=text(0), attempt=1, type="Restarted",
                                          reason="PeerLost", message="")]),
        (PEER, WORKER), 8, "Restarting", 1, ENDED, 13,
    ),
    # Orders
    "the operator died before it ordered": Row(
        ORDERED, FAILED, 12, "Restarting", 2, ORDERS, 20
    ),
    "it died half way, and remembers nothing": Row(
        ORDERED, (MASTER, KILLED), 12, "Restarting", 2, ORDERS, 20
    ),
    "one has agreed": Row(
        ORDERED, (AGREED[0], KILLED), 12, "Restarting", 2, ORDERS[1:], 20
    ),
    "all have agreed": Row(ORDERED, AGREED, 12, "Running", 2, []),
    "what a launcher said before it agreed is no news": Row(
        ORDERED, (AGREED[0], pod(1, taken=2, **standing_by())), 12, "Running", 2, []
    ),
    "an operator that has just started orders again": Row(
        in_place(), (MASTER, WORKER), 99, "Running", 2, ORDERS
    ),
    "a launcher that stands by for this attempt began it": Row(
        ORDERED, (AGREED[0], pod(1, **standing_by(attempt=2))), 12, "Restarting", 2, ENDED, 17
    ),
    "it does not answer": Row(ORDERED, (AGREED[0], KILLED), 20, "Restarting", 2, ENDED, 25),
    "its node stops answering before it agreed": Row(
        ORDERED, (AGREED[0], replace(KILLED, silent=True)), 12, "Restarting", 2, ENDED, 17
    ),
    "it ended before it agreed": Row(
        ORDERED, (AGREED[0], pod(1, **exited(137, summary(137, "killed")))), 12, "Restarting", 2,
        ENDED, 17,
    ),
    "it is gone before it agreed": Row(ORDERED, AGREED[:1], 12, "Restarting", 2, ENDED[:1], 17),
    "edited before they agreed": Row(
        ORDERED, AGREED, 12, "Restarting", 2, ENDED, None, GROWN
    ),
    "suspended before they agreed": Row(
        ORDERED, AGREED, 12, "Suspended", 2, ENDED, None, SUSPENDED
    ),
    # Later
    "it goes on in place": Row(in_place(), AGREED, 99, "Running", 2, []),
    "a node that stops answering later ends nothing by itself": Row(
        in_place(), (AGREED[0], replace(AGREED[1], silent=True)), 99, "Running", 2, []
    ),
    "it ends well in place": Row(
        in_place(), tuple(replace(p, **exited(0), running=False) for p in AGREED), 99,
        "Succeeded", 2, [],
    ),
    "a pod is gone after a restart in place": Row(
        in_place(), AGREED[:1], 99, "Restarting", 2, ENDED[:1], 99
    ),
    "pods of the attempt before are cleared for new ones": Row(
        in_place(phase="Restarting", next_attempt_time=text(30)), AGREED, 31, "Restarting", 2,
        ["delete master-0", "delete worker-0"],
    ),
    "new pods have the next number": Row(
        in_place(phase="Restarting", next_attempt_time=text(30)), (), 31, "Starting", 3,
        ["create service", "create master-0", "create worker-0"], 931,
    ),
    "pods of before the new ones are strays": Row(
        make_status(3, phase="Starting", formed_attempt=2), AGREED, 31, "Starting", 3, ENDED, 900
    ),
    "a lost status is found again by what stands by": Row(
        RUNNING, tuple(replace(p, **standing_by(attempt=5)) for p in FAILED), 31, "Restarting", 5,
        ENDED, 36,
    ),
}  # fmt: skip


def decide(row: Row, **observed) -> Decision:
    return plan(row.job, row.status, Observed(pods=row.pods, **observed), at(row.now), DEFAULTS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_plan(row):
    decision = decide(row)
    wake = None if row.wake is None else at(row.wake)
    status = decision.status
    assert (status.phase, status.attempt, acts(decision), decision.wake_at) == (
        row.phase,
        row.attempt,
        row.actions,
        wake,
    )


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_second_plan_in_the_same_state_changes_nothing(row):
    status = decide(row).status
    for _ in range(2):
        status = decide(row._replace(status=status)).status
    again = decide(row._replace(status=status))
    assert (again.status, again.events) == (status, ())


def test_an_order_names_pod_token_and_a_new_port():
    first, second = decide(ROWS["a killed rank is ordered back with all the others"]).actions
    assert isinstance(first, OrderAttempt)
    assert (first.uid, first.address, first.order.token) == ("pod-1-0", "10.0.0.1", "secret")
    assert first.order == second.order


def test_ports_stay_below_those_of_clients():
    status = in_place(10_000, progress=TRAINED.model_copy(update={"attempt": 10_000}))
    failed = tuple(replace(p, **standing_by(attempt=10_000)) for p in FAILED)
    for action in plan(JOB, status, Observed(pods=failed), at(30), DEFAULTS).actions:
        assert 23456 <= action.order.master_port < 32768


def test_a_restart_in_place_is_told_with_who_failed_and_what_it_costs():
    saved = make_status(progress=Progress(attempt=1, step=97), checkpoints={"latest": {"step": 80}})
    decision = decide(Row(saved, FAILED, 10, "", 0, []))
    sentence = (
        "Rank 1 (pod nodules-worker-0, node gpu-1) was killed by SIGKILL. "
        "Restarted in place; restart 1 of 3."
    )
    assert [(e.reason, e.message) for e in decision.events] == [("UserExit", sentence)]
    [entry] = decision.status.history
    assert (entry.attempt, entry.type, entry.lost_steps) == (1, "Restarted", 17)
    assert entry.message == sentence
    assert decision.status.restarts == Restarts(user=1)
    assert decision.status.failure
    assert decision.status.failure.attempt == 1
    running = decide(Row(decision.status, AGREED, 12, "", 0, []))
    assert [e.message for e in running.events] == [
        "Attempt 2 runs in the same pods: 2 nodes, 2 ranks."
    ]
    assert running.status.history[-1].attempt == 2


def test_a_free_restart_in_place_says_so():
    decision = decide(ROWS["a lost peer whom nobody explains"])
    assert decision.events[0].message.endswith(" Restarted in place, free; 0 of 3 used.")
    assert decision.status.restarts == Restarts(infrastructure=1)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "it does not answer",
            "Pod nodules-worker-0 did not answer the order to restart in place; going on with "
            "new pods.",
        ),
        (
            "it ended before it agreed",
            "Pod nodules-worker-0 is not there any more; going on with new pods.",
        ),
        (
            "its node stops answering before it agreed",
            "Pod nodules-worker-0 is on a node that does not answer; going on with new pods.",
        ),
    ],
)
def test_a_failure_is_counted_once_when_new_pods_come_after_all(row, sentence):
    decision = decide(ROWS[row])
    assert [(e.reason, e.message) for e in decision.events] == [("Replaced", sentence)]
    assert decision.status.restarts == ORDERED.restarts
    assert decision.status.failure == BLAME


def test_the_last_report_of_ranks_that_failed_is_kept():
    last = {"attempt": 1, "time": text(4), "progress": {"step": 97}, "resumed_step": 80}
    failed = pod(0, **standing_by(report=last))
    progress = plan(JOB, RUNNING, Observed(pods=(failed, WORKER)), at(10), DEFAULTS).status.progress
    assert progress
    assert (progress.step, progress.resumed_step) == (97, 80)


def test_a_lost_status_is_found_again_by_a_report():
    report = Report(attempt=4, time=text(9), progress={"step": 7})
    status = decide(Row(JobStatus(), (MASTER, WORKER), 10, "", 0, []), report=report).status
    assert (status.attempt, status.pods_attempt, status.formed_attempt) == (4, 1, 4)
    assert status.progress
    assert status.progress.attempt == 4


def test_a_lost_status_does_not_mix_new_pods_with_those_of_a_gang_in_place():
    report = Report(attempt=4, time=text(9), progress={"step": 7})
    decision = decide(Row(JobStatus(), (MASTER,), 10, "", 0, []), report=report)
    assert (decision.status.phase, decision.status.attempt) == ("Restarting", 4)
    assert acts(decision) == ["delete master-0 in 5"]


def test_a_report_of_a_program_that_is_no_recipe_proves_nothing():
    report = Report(attempt=4, time=text(9), progress={"step": 7})
    observed = Observed(pods=make_pods(make_job()), report=report)
    assert plan(make_job(), RUNNING, observed, at(10), DEFAULTS).status.attempt == 1


def test_new_pods_end_the_story_in_place():
    row = ROWS["new pods have the next number"]
    assert decide(row).status.pods_attempt is None
