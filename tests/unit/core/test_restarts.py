"""What a failure costs, when the next attempt comes, and what a status keeps."""

from dataclasses import replace

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
    pending,
    summary,
    text,
)
from core_scenes import (
    ALL_CREATED,
    BOTH,
    DONE,
    FORMING,
    GROWN,
    JOB,
    MASTER,
    MENDED,
    OWN_FAULT,
    RUNNING,
    STARTING,
    TTL,
    WORKER,
    acts,
    decide,
    failed,
    policy,
    restarting,
)

from trainyard_operator.contract import Cause
from trainyard_operator.decision import Create, DeleteJob
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.status import JobStatus, Restarts


@pytest.mark.parametrize(
    ("used", "seconds"), [(0, 5), (1, 10), (2, 20), (3, 40), (6, 300), (99, 300)]
)
def test_back_off_doubles_up_to_its_bound(used, seconds):
    status = make_status(restarts=Restarts(user=used))
    decision = decide(status, *OWN_FAULT, job=policy(maxRestarts=1000))
    assert decision.status.next_attempt_time == text(10 + seconds)
    assert decision.status.restarts == Restarts(user=used + 1)


def test_the_last_failure_ends_the_job():
    decision = decide(make_status(restarts=Restarts(user=3)), *OWN_FAULT)
    assert decision.status.phase == "Failed"
    assert decision.status.restarts == Restarts(user=3)
    assert decision.events[0].message == (
        "Rank 1 (pod nodules-worker-0, node gpu-1): bad. "
        "No restart left of 3 (runPolicy.maxRestarts)."
    )


def test_a_lost_node_does_not_use_up_max_restarts():
    status = make_status(restarts=Restarts(user=3, infrastructure=9))
    lost = replace(WORKER, phase="Failed", running=False, disruption="DeletionByTaintManager")
    decision = decide(status, MASTER, lost, job=policy(maxRestarts=3))
    assert decision.status.phase == "Restarting"
    assert decision.status.restarts == Restarts(user=3, infrastructure=10)
    assert decision.status.next_attempt_time == text(10)


def test_storage_that_stays_away_is_tried_less_and_less_often():
    storage = exited(1, summary(1, "no answer", cause=Cause.STORAGE))
    status, waits = RUNNING, []
    for _ in range(4):
        status = decide(status, MASTER, make_pod(JOB, 1, **storage)).status
        assert status.next_attempt_time
        waits.append(int(status.next_attempt_time[-3:-1]) - 10)
        status = status.model_copy(update={"phase": "Running", "next_attempt_time": None})
    assert waits == [0, 5, 10, 20]


def test_a_gang_that_never_ran_backs_off_whatever_the_cause():
    refused = make_pod(JOB, 1, phase="Failed", reason="OutOfcpu", message="no cpu")
    status = decide(STARTING, MASTER, refused).status
    assert status.next_attempt_time == text(15)
    again = status.model_copy(update={"phase": "Starting", "next_attempt_time": None})
    assert decide(again, MASTER, refused).status.next_attempt_time == text(20)


def test_a_configuration_error_is_never_retried():
    error = exited(78, summary(78, "spec.config: bad", cause=Cause.CONFIGURATION))
    decision = decide(RUNNING, MASTER, make_pod(JOB, 1, **error))
    assert decision.status.phase == "Failed"
    assert decision.status.failure
    assert decision.status.failure.cause == "ConfigurationError"


def test_an_edit_counts_as_a_restart_that_costs_nothing():
    assert decide(RUNNING, *BOTH, job=GROWN).status.restarts == Restarts(infrastructure=1)


def test_a_mended_job_starts_with_a_new_number_and_a_new_clock():
    mended = decide(failed("ConfigurationError"), job=MENDED).status
    begun = decide(mended, job=MENDED, now=20).status
    assert (begun.phase, begun.attempt, begun.start_time) == ("Starting", 2, text(20))
    assert begun.completion_time is None


def test_attempt_numbers_go_on_after_a_lost_status():
    decision = decide(JobStatus(), *make_pods(JOB, attempt=4))
    assert (decision.status.attempt, decision.status.formed_attempt) == (4, 4)


def test_pods_carry_the_number_of_their_attempt():
    decision = decide(restarting(5), now=10)
    pods = [a.manifest for a in decision.actions if isinstance(a, Create)][1:]
    assert {pod["metadata"]["labels"]["trainyard.dev/attempt"] for pod in pods} == {"2"}
    assert decision.status.attempt == 2


def test_a_refused_object_is_told_and_tried_again():
    error = 'pods "nodules-master-0" is forbidden: violates PodSecurity'
    decision = decide(FORMING, create_error=error)
    assert acts(decision) == ALL_CREATED
    assert decision.wake_at == at(25)
    running = decision.status.condition("Running")
    assert running
    assert (running.status, running.reason, running.message) == (
        "False",
        "ConfigurationError",
        f"The API server refused a pod of this job: {error}.",
    )
    assert decide(decision.status, create_error=error, now=900).status.phase == "Failed"


def test_a_quota_is_waited_for_without_end():
    error = "pods is forbidden: exceeded quota: compute"
    decision = decide(FORMING, create_error=error, now=9999)
    assert (decision.status.phase, decision.wake_at) == ("Starting", at(10014))


def test_an_old_refusal_is_forgotten_once_every_pod_is_there():
    decision = decide(FORMING, *make_pods(JOB, **pending()), create_error="once")
    assert decision.events == ()
    assert decision.wake_at == at(900)


def test_a_recipe_says_where_its_results_lie():
    job = make_job(**RECIPE)
    status = plan(job, JobStatus(), Observed(), at(0), DEFAULTS).status
    assert status.logs
    assert status.logs.uri == "s3://bucket/prefix/research/nodules/uid-1/logs"
    assert status.tensor_board
    assert status.tensor_board.uri == "s3://bucket/prefix/research/nodules/uid-1/tensorboard"


def test_a_decision_leaves_its_input_alone():
    before = RUNNING.model_dump_json(), JOB.model_dump_json()
    decide(RUNNING, *OWN_FAULT)
    assert (RUNNING.model_dump_json(), JOB.model_dump_json()) == before


def test_an_expired_job_is_deleted_itself():
    status = make_status(phase="Succeeded", completion_time=text(0))
    assert decide(status, job=TTL, now=60).actions == (DeleteJob(),)


def test_a_finished_job_still_answers_the_newest_generation():
    status = make_status(phase="Succeeded", completion_time=text(0))
    assert decide(status, job=GROWN).status.observed_generation == 2


def test_the_nodes_of_a_status_are_those_of_the_live_attempt():
    nodes = decide(RUNNING, MASTER, DONE[1]).status.nodes
    assert (nodes.desired, nodes.ready, nodes.succeeded, nodes.failed) == (2, 1, 1, 0)
    assert decide(restarting(30), *BOTH).status.nodes.ready == 0
