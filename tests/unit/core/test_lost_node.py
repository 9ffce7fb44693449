"""A pod goes away with its node, which may answer still or not."""

from dataclasses import replace

from core_objects import at
from core_scenes import BOTH, FORMING, MASTER, RUNNING, WORKER, acts, decide

TAINTED = {"deadline": at(60), "disruption": "DeletionByTaintManager"}
SILENT = replace(WORKER, **TAINTED, silent=True)


def test_pod_of_a_node_that_does_not_answer_is_given_up_at_once():
    decision = decide(RUNNING, MASTER, SILENT, now=1)
    assert acts(decision) == ["delete master-0 in 5", "delete worker-0 in 0"]
    failure = decision.status.failure
    assert failure is not None
    assert (failure.cause, failure.node) == ("NodeLost", "gpu-1")
    assert decision.status.next_attempt_time is not None


def test_pod_of_a_node_that_is_drained_gets_its_time_for_a_checkpoint():
    decision = decide(RUNNING, MASTER, replace(WORKER, **TAINTED), now=1)
    assert (decision.status.phase, decision.actions) == ("Running", ())


def test_pod_that_never_ran_on_a_lost_node_makes_way_at_once():
    waiting = replace(WORKER, **TAINTED, phase="Pending", running=False)
    decision = decide(FORMING, MASTER, waiting, now=1)
    assert (acts(decision), decision.status.phase) == (["delete worker-0 in 0"], "Starting")


def test_a_node_that_is_only_silent_costs_nothing_yet():
    decision = decide(RUNNING, MASTER, replace(WORKER, silent=True), now=1)
    assert (decision.status.phase, decision.actions) == ("Running", ())
    assert decision.status == decide(RUNNING, *BOTH, now=1).status
