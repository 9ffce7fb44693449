"""What restarts cost a program that does not account for it itself."""

from core_objects import (
    DEFAULTS,
    RECIPE,
    at,
    exited,
    make_job,
    make_pod,
    make_pods,
    summary,
)

from trainyard_operator.contract import Cause, Report
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.status import Goodput, JobStatus

JOB = make_job()
OWN = exited(1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1))


def report(attempt: int, step: int, saved: int | None = None, **fields) -> Report:
    latest = {"step": saved} if saved else None
    time = at(step).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Report(attempt=attempt, time=time, progress={"step": step}, latest=latest, **fields)


def broken(attempt: int, job=JOB):
    return make_pod(job, attempt=attempt), make_pod(job, 1, attempt=attempt, **OWN)


STEPS = [
    ("created", {}, (), 0, None),
    ("running", {}, make_pods(JOB), 10, None),
    ("reporting", {}, make_pods(JOB), 100, report(1, 80, 60)),
    ("failed", {}, broken(1), 110, report(1, 100, 80)),
    ("again", {}, (), 120, None),
    ("running again", {}, make_pods(JOB, attempt=2), 130, None),
    ("suspended", {"suspend": True}, make_pods(JOB, attempt=2), 180, None),
    ("resumed", {}, (), 1000, None),
    ("running still", {}, make_pods(JOB, attempt=3), 1010, None),
    ("succeeded", {}, make_pods(JOB, attempt=3, **exited(0)), 1110, None),
]


def test_a_life_is_accounted_for_at_its_turns():
    status, known = JobStatus(), {}
    for name, policy, pods, seconds, said in STEPS:
        job = make_job(runPolicy=policy)
        observed = Observed(pods=pods, report=said)
        status = plan(job, status, observed, at(seconds), DEFAULTS).status
        known[name] = status.goodput
    first = Goodput(productive_seconds=80, lost_steps=20, restart_seconds=0, ratio="0.73")
    again = first.model_copy(update={"restart_seconds": 20, "ratio": "0.62"})
    resumed = Goodput(productive_seconds=130, lost_steps=20, restart_seconds=30, ratio="0.13")
    assert known == {
        "created": None,
        "running": None,
        "reporting": None,
        "failed": first,
        "again": first,
        "running again": again,
        "suspended": again.model_copy(update={"productive_seconds": 130, "ratio": "0.72"}),
        "resumed": again.model_copy(update={"productive_seconds": 130, "ratio": "0.72"}),
        "running still": resumed,
        "succeeded": resumed.model_copy(update={"productive_seconds": 230, "ratio": "0.21"}),
    }


def test_what_a_recipe_says_of_itself_is_left_alone():
    job = make_job(**RECIPE)
    own = {"productiveSeconds": 3, "checkpointSeconds": 0, "ratio": "0.5"}
    observed = Observed(pods=make_pods(job), report=report(1, 5, goodput=own))
    running = plan(job, JobStatus(), Observed(), at(0), DEFAULTS).status
    running = plan(job, running, observed, at(5), DEFAULTS).status
    failed = plan(job, running, Observed(pods=broken(1, job)), at(9), DEFAULTS).status
    assert failed.goodput == Goodput(productive_seconds=3, checkpoint_seconds=0, ratio="0.5")


def test_the_last_failure_is_told_with_what_it_lost():
    job = make_job(runPolicy={"maxRestarts": 0})
    status = plan(job, JobStatus(), Observed(), at(0), DEFAULTS).status
    observed = Observed(pods=broken(1, job), report=report(1, 7, 5))
    failed = plan(job, status, observed, at(9), DEFAULTS).status
    assert (failed.history[-1].type, failed.history[-1].lost_steps) == ("Failed", 2)
