"""A status that somebody wrote by hand never stops the operator from deciding."""

import copy

import pytest
from core_objects import (
    DEFAULTS,
    RECIPE,
    T0,
    at,
    make_job,
    make_pods,
    make_status,
    standing_by,
    text,
)
from core_scenes import acts, decide, policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainyard_operator.contract import Report
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.status import (
    Checkpoints,
    Condition,
    FailureStatus,
    Goodput,
    Headway,
    HistoryEntry,
    JobStatus,
    NodeFault,
    Progress,
    Restarts,
    SavedCheckpoint,
    parse_status,
)

FULL = make_status(
    4,
    pods_attempt=3,
    next_attempt_time=text(5),
    completion_time=text(9),
    restarts=Restarts(user=1, infrastructure=2),
    headway=Headway(step=7, saved_step=5, idle_restarts=1),
    node_faults=[NodeFault(node="gpu-1", attempts=2, last_attempt=3)],
    progress=Progress(step=9, attempt=4, resumed_step=5, last_report_time=text(8)),
    checkpoints=Checkpoints(latest=SavedCheckpoint(step=5, time=text(4))),
    goodput=Goodput(productive_seconds=5, ratio="0.5"),
    failure=FailureStatus(cause="UserExit", message="bad", attempt=3),
    history=[
        HistoryEntry(time=text(0), attempt=1, type="Restarted", reason="UserExit", message="")
    ],
    conditions=[
        Condition(type=name, status="True", reason="Why", last_transition_time=text(0))
        for name in ("Accepted", "Running", "Suspended", "Failed", "StorageDegraded")
    ],
).to_dict()
GARBAGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**18),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["Running", "Succeeded", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]),
    st.sampled_from(["2026-01-01T12:00:00", "2026-01-01", "2030-01-01T00:00:00+14:00"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["type", "step", "nodes", "cause"]), st.text(max_size=3)),
)
JOBS = [
    make_job(),
    make_job(**RECIPE),
    make_job(elastic={"minNodes": 1, "maxNodes": 2}),
    policy(activeDeadlineSeconds=10**9, ttlSecondsAfterFinished=10**9, startupDeadlineSeconds=1),
    policy(suspend=True),
]


def places(node, path=()) -> list[tuple]:
    """Paths of everything in it."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    inner = [
        p
        for key, value in items
        if isinstance(value, dict | list)
        for p in places(value, (*path, key))
    ]
    return [
        (*path, key) for key, _ in (node.items() if isinstance(node, dict) else enumerate(node))
    ] + inner


PLACES = places(FULL)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.lists(st.tuples(st.sampled_from(PLACES), GARBAGE), min_size=1, max_size=4),
    job=st.sampled_from(JOBS),
    pods=st.sampled_from(["none", "running", "standing by", "pending"]),
)
def test_any_garbage_in_a_status_leads_to_a_decision(changes, job, pods):
    raw = copy.deepcopy(FULL)
    for path, value in changes:
        put(raw, path, value)
    status = parse_status(raw)
    fields = {
        "running": {"attempt": 3, "ip": "10.0.0.1", "order_token": "x"},
        "standing by": {"attempt": 3, **standing_by(attempt=4)},
        "pending": {"attempt": 4, "phase": "Pending", "unschedulable": "no room", "node": None},
    }
    observed = Observed(pods=() if pods == "none" else make_pods(job, **fields[pods]))
    for seconds in (10, 20):
        decision = plan(job, status, observed, at(seconds), DEFAULTS)
        status = parse_status(decision.status.to_dict())
        assert status == decision.status


def put(node, path: tuple, value) -> None:
    """Write a value there, unless what held it is gone."""
    for key in path[:-1]:
        if not isinstance(node, dict | list) or (isinstance(node, list) and len(node) <= key):
            return
        node = node.get(key) if isinstance(node, dict) else node[key]
    if isinstance(node, dict):
        node[path[-1]] = value


def test_what_was_not_broken_is_kept():
    raw = FULL | {"startTime": "yesterday", "phase": "Confused", "attempt": 4}
    status = parse_status(raw)
    assert (status.start_time, status.phase) == (None, None)
    assert (status.attempt, status.restarts) == (4, Restarts(user=1, infrastructure=2))


@pytest.mark.parametrize("raw", [None, {}, {"attempt": -1}, {"conditions": [{"type": "X"}]}])
def test_what_is_left_of_nothing_is_a_new_status(raw):
    assert parse_status(raw) == JobStatus()


def test_pods_of_an_attempt_to_come_are_not_believed_in():
    """They would be made and deleted for ever."""
    assert parse_status({"attempt": 2, "podsAttempt": 99}).pods_attempt is None


def test_a_back_off_that_no_clock_can_have_meant_is_over():
    for due, waits in ((text(300), True), ("2027-01-01T00:00:00Z", False)):
        status = make_status(phase="Restarting", next_attempt_time=due)
        assert (acts(decide(status, now=1)) == []) is waits


def test_a_wiped_status_goes_on_with_the_pods_that_are_there():
    decision = plan(
        make_job(), JobStatus(), Observed(pods=make_pods(make_job(), attempt=4)), T0, DEFAULTS
    )
    assert (decision.status.phase, decision.status.attempt, acts(decision)) == ("Running", 4, [])


@pytest.mark.parametrize("field", ["step", "steps", "epoch", "percent"])
@pytest.mark.parametrize("number", [10**30, -1, 1e308])
def test_a_number_that_no_status_can_hold_is_not_taken_over(field, number):
    said = Report(attempt=1, time=text(1), progress={field: number}, kept=10**30)
    status = decide(make_status(), *make_pods(make_job()), report=said).status
    assert (status.progress, status.checkpoints.kept) == (None, None)


def test_an_attempt_that_nobody_counted_to_is_not_followed():
    job, said = make_job(**RECIPE), Report(attempt=10**12, time=text(1), progress={"step": 1})
    status = decide(make_status(), *make_pods(job), job=job, report=said).status
    assert status.attempt == 1
