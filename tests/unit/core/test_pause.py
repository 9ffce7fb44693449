"""spec.checkpoint.pauseAtStep: a job rests at an evaluation until the step is raised."""

from dataclasses import replace
from typing import Any

import pytest
from core_objects import RECIPE, exited, make_job, make_pods, make_status, summary
from core_scenes import STOPPED, acts, decide

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Report
from trainyard_operator.pause import paused_at
from trainyard_operator.status import Progress
from trainyard_operator.verdict import SETTLE


def make_pausing(at: int | None, **spec: Any) -> TrainingJob:
    return make_job(2, **RECIPE | {"checkpoint": {"pauseAtStep": at}} | spec)


def make_progress(*steps: int, of: int | None = 90) -> Progress:
    return Progress(step=steps[-1], steps=of, curve=[[step, 0.5] for step in steps], attempt=1)


@pytest.mark.parametrize(
    ("at", "progress", "rests_at"),
    [
        pytest.param(20, make_progress(10, 20), 20, id="evaluated at the step"),
        pytest.param(15, make_progress(10, 20), 20, id="evaluated first after the step"),
        pytest.param(21, make_progress(10, 20), None, id="not there yet"),
        pytest.param(20, Progress(step=25, steps=90), None, id="trained so far, not evaluated"),
        pytest.param(20, make_progress(20, of=20), None, id="at its end"),
        pytest.param(20, make_progress(20, of=None), 20, id="no end foreseen"),
        pytest.param(None, make_progress(20), None, id="not asked to"),
        pytest.param(20, None, None, id="not begun"),
    ],
)
def test_a_job_rests_at_an_evaluation_before_its_end(at, progress, rests_at) -> None:
    assert paused_at(make_pausing(at), make_status(progress=progress)) == rests_at


def test_a_paused_job_is_suspended_without_a_restart() -> None:
    job = make_pausing(20)
    point = {"step": 20, "steps": 90, "curve": [[20, 0.5]]}
    report = Report(attempt=1, time="2026-01-01T12:00:05Z", progress=point)
    last = summary(75, "Paused at step 20; a checkpoint is saved.", report=vars(report))
    decision = decide(make_status(), *make_pods(job, **exited(75, last)), job=job)
    assert (decision.status.phase, acts(decision)) == ("Suspended", STOPPED)
    assert decision.status.restarts.infrastructure == decision.status.restarts.user == 0
    assert decision.events[0].message == (
        "Paused at step 20; raise checkpoint.pauseAtStep, or unset it, to go on."
    )
    settled = decide(decision.status, job=job)
    again = decide(settled.status, job=job)
    assert (again.status, again.actions, again.events) == (settled.status, (), ())
    assert settled.status.phase == "Suspended"


def test_a_peer_that_paused_first_is_no_restart() -> None:
    job = make_pausing(20)
    first, second = make_pods(job)
    last = summary(75, "Paused at step 20.", cause="Checkpointed")
    gone = replace(second, **exited(75, last, seconds=9))
    decision = decide(make_status(), first, gone, job=job)
    assert (decision.status.phase, decision.actions) == ("Running", ())
    assert decision.wake_at is not None
    late = decide(decision.status, first, gone, job=job, now=9 + SETTLE.total_seconds())
    assert late.status.phase == "Restarting"


def test_a_paused_job_goes_on_when_its_step_is_raised() -> None:
    status = make_status(phase="Suspended", next_attempt_time=None, progress=make_progress(20))
    rests = decide(status, job=make_pausing(20))
    goes = decide(rests.status, job=make_pausing(60))
    assert (goes.status.phase, goes.status.attempt) == ("Starting", 2)


def test_a_program_given_as_command_is_not_paused() -> None:
    job = make_job(2, checkpoint={"pauseAtStep": 20})
    assert paused_at(job, make_status(progress=make_progress(20))) is None
