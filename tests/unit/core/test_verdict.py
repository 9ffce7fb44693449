"""Who is to blame, told apart by evidence."""

import pytest
from core_objects import at, exited, make_job, make_pod, summary

from trainyard_operator.contract import Cause
from trainyard_operator.status import FailureStatus
from trainyard_operator.verdict import (
    first_failure,
    is_success,
    lingers_until,
    settles_at,
    summary_of,
)

JOB = make_job(resources={"limits": {"memory": "64Gi"}})
MASTER, WORKER = "nodules-master-0", "nodules-worker-0"
PEER = exited(76, summary(76, "rank 0: lost rank 1", cause=Cause.PEER_LOST, rank=0), seconds=1)
RUNC = 'failed to create task: runc: exec: "trian.py": executable file not found in $PATH: unknown'


def judge(*pods: dict, formed: bool = True) -> FailureStatus | None:
    """The culprit among pods 0, 1, ... with these fields."""
    records = tuple(make_pod(JOB, index, **fields) for index, fields in enumerate(pods))
    return first_failure(JOB, 1, records, formed=formed)


CAUSES = {
    "a program's own exit": (
        exited(1, "Traceback (most recent call last):\n\nValueError: bad\n"),
        Cause.USER_EXIT,
        "Pod nodules-worker-0 (node gpu-1) exited with code 1: ValueError: bad.",
    ),
    "an exit without a word": (
        exited(2),
        Cause.USER_EXIT,
        "Pod nodules-worker-0 (node gpu-1) exited with code 2.",
    ),
    "a signal": (
        exited(139),
        Cause.USER_EXIT,
        "Pod nodules-worker-0 (node gpu-1) exited with code 139 (SIGSEGV).",
    ),
    "a rank's own exit": (
        exited(1, summary(1, "rank 5: bad", cause=Cause.USER_EXIT, rank=5)),
        Cause.USER_EXIT,
        "Rank 5 (pod nodules-worker-0, node gpu-1): bad.",
    ),
    "a rank out of memory": (
        exited(
            137,
            summary(
                137,
                "rank 5 exceeded its 64 GiB memory limit; raise resources.limits.memory",
                cause=Cause.OUT_OF_MEMORY,
                rank=5,
            ),
        ),
        Cause.OUT_OF_MEMORY,
        "Rank 5 (pod nodules-worker-0, node gpu-1) exceeded its 64 GiB memory limit; "
        "raise resources.limits.memory.",
    ),
    "a container out of memory": (
        exited(137, reason="OOMKilled"),
        Cause.OUT_OF_MEMORY,
        "Pod nodules-worker-0 (node gpu-1) exceeded its memory limit of 64Gi; "
        "raise resources.limits.memory.",
    ),
    "a configuration error": (
        exited(78, summary(78, "spec.config.training: unknown key 'lr'.", cause="Whatever")),
        Cause.CONFIGURATION,
        "spec.config.training: unknown key 'lr'.",
    ),
    "a command that does not exist": (
        exited(128, RUNC, reason="StartError"),
        Cause.CONFIGURATION,
        'Pod nodules-worker-0 (node gpu-1) cannot execute "trian.py": executable file not found '
        "in $PATH. Correct spec.command or spec.image.",
    ),
    "a stall": (
        exited(1, summary(1, "rank 0: no step for 600 s", cause=Cause.STALLED, rank=0)),
        Cause.STALLED,
        "Rank 0 (pod nodules-worker-0, node gpu-1): no step for 600 s.",
    ),
    "storage": (
        exited(1, summary(1, "https://s3.example does not answer", cause=Cause.STORAGE)),
        Cause.STORAGE,
        "https://s3.example does not answer (pod nodules-worker-0, node gpu-1).",
    ),
    "a stop on request": (
        exited(75, summary(75, "stopped at step 7")),
        Cause.CHECKPOINTED,
        "Stopped at step 7 (pod nodules-worker-0, node gpu-1).",
    ),
    "a lost peer": (
        PEER,
        Cause.PEER_LOST,
        "Rank 0 (pod nodules-worker-0, node gpu-1): lost rank 1.",
    ),
    "an eviction by the kubelet": (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory. "},
        Cause.EVICTED,
        "Pod nodules-worker-0 (node gpu-1) was evicted: The node was low on memory.",
    ),
    "a drain": (
        exited(143) | {"disruption": "EvictionByEvictionAPI", "deadline": at(60)},
        Cause.EVICTED,
        "Pod nodules-worker-0 (node gpu-1) was evicted.",
    ),
    "preemption": (
        exited(75, summary(75, "saved step 7")) | {"disruption": "PreemptionByScheduler"},
        Cause.PREEMPTED,
        "Pod nodules-worker-0 (node gpu-1) was preempted: saved step 7.",
    ),
    "a lost node": (
        {"phase": "Failed", "disruption": "DeletionByTaintManager"},
        Cause.NODE_LOST,
        "Pod nodules-worker-0 (node gpu-1) was lost with its node.",
    ),
    "a node that shut down": (
        {"phase": "Failed", "reason": "Terminated", "message": "imminent node shutdown"},
        Cause.NODE_LOST,
        "Pod nodules-worker-0 (node gpu-1) was lost with its node: imminent node shutdown.",
    ),
    "a container that the kubelet lost": (
        exited(137, "The container could not be located", reason="ContainerStatusUnknown"),
        Cause.NODE_LOST,
        "Pod nodules-worker-0 (node gpu-1) was lost with its node.",
    ),
    "a kubelet's refusal": (
        {"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough cpu"},
        Cause.UNSCHEDULABLE,
        "Pod nodules-worker-0 (node gpu-1) was refused by its node: Node didn't have enough cpu.",
    ),
    "kubectl delete pod": (
        exited(143, "Terminated") | {"deadline": at(60)},
        Cause.POD_DELETED,
        "Pod nodules-worker-0 (node gpu-1) was deleted.",
    ),
    "a deadline of the template": (
        {"phase": "Failed", "reason": "DeadlineExceeded"},
        Cause.DEADLINE,
        "Pod nodules-worker-0 (node gpu-1) ran longer than spec.template.spec."
        "activeDeadlineSeconds.",
    ),
}


@pytest.mark.parametrize(("pod", "cause", "message"), CAUSES.values(), ids=CAUSES)
def test_evidence_gives_a_cause_and_a_sentence(pod, cause, message):
    failure = judge({}, pod)
    assert failure is not None
    assert (failure.cause, failure.message) == (cause, message)
    assert (failure.pod, failure.node, failure.attempt) == (WORKER, "gpu-1", 1)


def test_a_failure_keeps_exit_code_rank_and_the_last_log_lines():
    lines = [f"line {n}" for n in range(9)]
    own = exited(1, summary(3, "rank 1: bad", cause=Cause.USER_EXIT, rank=1, log_tail=lines))
    failure = judge({}, own)
    assert failure is not None
    assert (failure.exit_code, failure.rank, failure.log_tail) == (3, 1, lines[-5:])
    failure = judge({}, exited(1, "\n".join(lines)))
    assert failure is not None
    assert (failure.exit_code, failure.rank, failure.log_tail) == (1, None, lines[-5:])


def test_nothing_has_failed_while_pods_run_or_end_well():
    assert judge({}, exited(0)) is None


def test_a_pod_missing_from_a_formed_attempt_was_deleted():
    failure = judge({})
    assert failure == FailureStatus(
        cause="PodDeleted", message="Pod nodules-worker-0 was deleted.", pod=WORKER, attempt=1
    )
    assert judge({}, formed=False) is None


def test_a_pod_that_leaves_is_no_failure_until_another_one_fails():
    leaving = {"deadline": at(60), "disruption": "EvictionByEvictionAPI"}
    assert judge(leaving, {}) is None
    failure = judge(leaving, PEER)
    assert failure is not None
    assert (failure.cause, failure.pod) == (Cause.EVICTED, MASTER)


OWN = exited(1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1), seconds=9)
CULPRITS = {
    "a peer's report never hides the culprit": (PEER, OWN, WORKER),
    "the first of two exits": (exited(1, seconds=5), exited(1, seconds=4), WORKER),
    "the first node of two at once": (exited(1, seconds=5), exited(1, seconds=5), MASTER),
    "a signal that no peer's death sends": (exited(1, seconds=4), exited(137, seconds=5), WORKER),
    "an abort may be NCCL's": (exited(1, seconds=4), exited(134, seconds=5), MASTER),
    "the companion's fractions of a second": (
        exited(1, summary(1, "rank 0 exited", ended=at(4.7).timestamp()), seconds=4),
        exited(1, summary(1, "rank 1 exited", ended=at(4.6).timestamp()), seconds=4),
        WORKER,
    ),
    "memory before an exit": (exited(1, seconds=1), exited(137, reason="OOMKilled"), WORKER),
    "a mute exit is explained by a lost node": (
        exited(1, "NCCL error", seconds=1),
        {"deadline": at(60), "disruption": "DeletionByTaintManager"},
        WORKER,
    ),
    "a rank's own account is not": (OWN, {"deadline": at(60)}, MASTER),
    "storage before its echo": (
        PEER,
        exited(1, summary(1, "no answer", cause=Cause.STORAGE), seconds=9),
        WORKER,
    ),
}


@pytest.mark.parametrize(("first", "second", "name"), CULPRITS.values(), ids=CULPRITS)
def test_the_culprit_comes_before_what_followed_from_it(first, second, name):
    failure = judge(first, second)
    assert failure is not None
    assert failure.pod == name


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ((PEER, {}), at(4)),
        ((exited(1, seconds=1), {}), at(4)),
        ((OWN, {}), None),
        ((PEER, exited(0)), None),
        ((exited(137, reason="OOMKilled"), {}), None),
    ],
    ids=["lost peer", "mute exit", "own account", "all have ended", "out of memory"],
)
def test_a_failure_that_may_be_an_echo_waits_three_seconds(pods, expected):
    records = tuple(make_pod(JOB, index, **fields) for index, fields in enumerate(pods))
    failure = first_failure(JOB, 1, records, formed=True)
    assert failure is not None
    assert settles_at(failure, records) == expected


STORED = exited(0, summary(0, "done", result=True), seconds=5)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ((exited(0), exited(0)), True),
        ((exited(0), {}), False),
        ((exited(0), exited(1)), False),
        ((exited(0),), False),
        ((STORED, exited(1)), True),
        ((STORED,), True),
        ((STORED, {}), False),
        ((exited(0), STORED | {}), True),
        ((), False),
    ],
)
def test_success_needs_every_pod_or_the_stored_result(pods, expected):
    records = tuple(make_pod(JOB, index, **fields) for index, fields in enumerate(pods))
    assert is_success(records, 2) is expected


def test_peers_of_a_stored_result_are_waited_for_a_minute():
    assert lingers_until((make_pod(JOB, **STORED), make_pod(JOB, 1))) == at(65)
    assert lingers_until((make_pod(JOB, **exited(0)), make_pod(JOB, 1))) is None


@pytest.mark.parametrize(
    "message", ["", "no JSON", "[1]", "null", '{"exit_code": "x", "message": 1}', '{"a": 1}', "{"]
)
def test_a_termination_message_that_is_no_summary_is_a_log(message):
    assert summary_of(make_pod(JOB, **exited(1, message))) is None


def test_a_summary_of_a_newer_trainer_is_read():
    message = '{"exit_code": 1, "message": "bad", "invented": true}'
    found = summary_of(make_pod(JOB, **exited(1, message)))
    assert found is not None
    assert found.message == "bad"


def test_sentences_stay_short_whatever_a_program_says():
    for message in ("x" * 4096, summary(1, "y" * 3000), summary(78, "z" * 3000)):
        failure = judge({}, exited(1, message))
        assert failure is not None
        assert len(failure.message) <= 1100
