"""Jobs with spec.elastic: fewer nodes while some are lost, all of them once they are back."""

import pytest
from core_objects import at, make_job, make_pod, make_pods, make_status, pending, text
from core_scenes import acts, decide

from trainyard_operator.elastic import resized
from trainyard_operator.status import ElasticStatus, JobStatus

BOUNDS = {"minNodes": 1, "maxNodes": 4}
JOB = make_job(4, elastic=BOUNDS)
NARROW = make_job(2, elastic=BOUNDS)
HOMELESS = {"phase": "Pending", "node": None, "unschedulable": "0/2 nodes are available."}
STARTING = make_status(phase="Starting", formed_attempt=0)
NO_ROOM = "No room for all of 4 nodes; going on with 2 (spec.elastic)."
DELETED = [f"delete {pod} in 5" for pod in ("master-0", "worker-0", "worker-1", "worker-2")]
"""Nothing was trained that had to be saved."""


def narrowed(nodes: int = 2, *, since: float = 0, tries: int = 0, **changes) -> JobStatus:
    now = ElasticStatus(nodes=nodes, since=text(since), tries=tries)
    return make_status(**{"elastic": now} | changes)


def gang(placed: int, job=JOB) -> list:
    """The pods of an attempt, of which only the first ones have a node."""
    return [
        make_pod(job, index, **({} if index < placed else HOMELESS))
        for index in range(job.spec.nodes)
    ]


@pytest.mark.parametrize(
    ("bounds", "placed", "nodes"),
    [
        ({"minNodes": 1, "maxNodes": 4}, 3, 3),
        ({"minNodes": 1, "maxNodes": 4}, 1, 1),
        ({"minNodes": 3, "maxNodes": 4}, 3, 3),
        ({"minNodes": 3, "maxNodes": 4}, 1, 3),
        ({"minNodes": 1, "maxNodes": 4}, 0, 2),
    ],
    ids=["one lost", "three lost", "the least", "not below the least", "no gang placed: half"],
)
def test_next_attempt_has_as_many_nodes_as_found_room(bounds, placed, nodes):
    job = make_job(4, elastic=bounds)
    decision = decide(STARTING, *gang(placed, job), job=job, now=30)
    assert decision.status.elastic == ElasticStatus(nodes=nodes, since=text(30))
    assert decision.status.next_attempt_time == text(30)


def test_a_narrower_attempt_is_told_and_counted_as_no_fault_of_the_program():
    decision = decide(STARTING, *gang(2), job=JOB, now=30)
    assert acts(decision) == DELETED
    assert [event.message for event in decision.events] == [NO_ROOM]
    assert (decision.status.restarts.user, decision.status.restarts.infrastructure) == (0, 1)


WAITING = {
    "not long": (JOB, 29, at(30)),
    "at the least": (make_job(4, elastic={"minNodes": 4, "maxNodes": 4}), 300, None),
    "not elastic": (make_job(4), 300, None),
}


@pytest.mark.parametrize(("job", "now", "wake_at"), WAITING.values(), ids=WAITING)
def test_attempt_goes_on_waiting_for_places(job, now, wake_at):
    decision = decide(STARTING, *gang(2, job), job=job, now=now)
    assert (decision.status.phase, decision.status.elastic) == ("Starting", None)
    assert decision.wake_at == wake_at


def test_pods_that_only_start_slowly_are_waited_for():
    pods = make_pods(JOB, **pending())
    assert decide(STARTING, *pods, job=JOB, now=300).status.elastic is None


def test_pods_of_a_narrower_attempt_know_of_no_other_width():
    status = narrowed(next_attempt_time=text(0), phase="Restarting")
    decision = decide(status, job=JOB)
    assert acts(decision) == ["create service", "create master-0", "create worker-0"]
    env = decision.actions[1].manifest["spec"]["containers"][0]["env"]
    values = {entry["name"]: entry.get("value") for entry in env}
    assert (values["WORLD_SIZE"], values["TRAINYARD_NODES"]) == ("2", "2")
    assert decision.events[0].message == "Starting attempt 2: 2 nodes, 2 ranks."


def test_a_narrower_gang_runs_as_a_whole_one():
    decision = decide(narrowed(), *make_pods(NARROW), job=JOB, now=10)
    assert (decision.status.phase, decision.actions) == ("Running", ())
    assert (decision.status.nodes.desired, decision.status.nodes.ready) == (2, 2)
    assert decision.wake_at == at(120)


@pytest.mark.parametrize(
    ("tries", "seconds"), [(0, 120), (1, 240), (3, 960), (5, 3600), (5000, 3600)]
)
def test_all_nodes_are_tried_again_ever_more_seldom(tries, seconds):
    pods = make_pods(NARROW)
    before = decide(narrowed(tries=tries), *pods, job=JOB, now=seconds - 1)
    assert (before.wake_at, before.actions) == (at(seconds), ())
    decision = decide(narrowed(tries=tries), *pods, job=JOB, now=seconds)
    assert decision.status.elastic == ElasticStatus(nodes=4, since=text(seconds), tries=tries + 1)
    assert acts(decision) == ["delete master-0", "delete worker-0"]
    assert decision.events[0].message == "Trying 4 nodes again, from a new checkpoint."


def test_a_try_in_vain_is_remembered():
    status = narrowed(4, tries=2, phase="Starting", formed_attempt=0)
    decision = decide(status, *gang(2), job=JOB, now=30)
    assert decision.status.elastic == ElasticStatus(nodes=2, since=text(30), tries=2)


def test_with_all_nodes_back_nothing_is_remembered():
    decision = decide(narrowed(4, tries=2), *make_pods(JOB), job=JOB, now=10)
    assert (decision.status.elastic, decision.wake_at) == (None, None)


EDITS = {
    "scaled down": (make_job(1, elastic=BOUNDS), 1),
    "higher bound": (make_job(4, elastic={"minNodes": 3, "maxNodes": 4}), 3),
    "elastic no more": (make_job(4), 4),
}


@pytest.mark.parametrize(("job", "nodes"), EDITS.values(), ids=EDITS)
def test_an_edit_of_the_spec_has_the_last_word_on_the_width(job, nodes):
    assert resized(job, narrowed()).spec.nodes == nodes
