"""Three restarts without a new step end a job; what may end by itself does not count."""

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
    summary,
)
from core_scenes import acts

from trainyard_operator.contract import Cause, Report
from trainyard_operator.headway import has_moved
from trainyard_operator.observed import Observed, parse_time
from trainyard_operator.plan import plan
from trainyard_operator.status import (
    Checkpoints,
    Headway,
    JobStatus,
    Progress,
    Restarts,
    SavedCheckpoint,
)

RECIPE_JOB = make_job(**RECIPE, runPolicy={"maxRestarts": 1000})
PROGRAM = make_job(runPolicy={"maxRestarts": 1000})
CODES = {Cause.PEER_LOST: 76, Cause.STORAGE: 1, Cause.STALLED: 1, Cause.USER_EXIT: 1}


def fails(status: JobStatus, cause: Cause, step: int | None, job=RECIPE_JOB, **report):
    """An attempt that came that far; the next one runs, if there is one."""
    said = summary(CODES[cause], "bad", cause=cause, rank=1)
    pods = make_pods(
        job, attempt=status.pods_attempt or status.attempt, **exited(CODES[cause], said)
    )
    progress = {"step": step} if step is not None else None
    known = Report(attempt=status.attempt, time="2026-01-01T12:00:00Z", progress=progress, **report)
    decision = plan(job, status, Observed(pods=pods, report=known), at(10), DEFAULTS)
    changes = {"attempt": status.attempt + 1, "next_attempt_time": None, "phase": "Running"}
    number = status.attempt + 1
    running = decision.status.model_copy(update=changes | {"formed_attempt": number})
    return decision, running


def life(cause: Cause, *steps: int | None, job=RECIPE_JOB, **report) -> list[str]:
    """Phases after each attempt that failed."""
    status, phases = make_status(), []
    for step in steps:
        decision, status = fails(status, cause, step, job, **report)
        phases.append(decision.status.phase)
        if phases[-1] == "Failed":
            break
    return phases


AGAIN = "Restarting"


@pytest.mark.parametrize(
    ("cause", "steps", "phases"),
    [
        (Cause.USER_EXIT, [None] * 9, [AGAIN] * 3 + ["Failed"]),
        (Cause.STALLED, [0] * 9, [AGAIN] * 3 + ["Failed"]),
        (Cause.PEER_LOST, [None] * 9, [AGAIN] * 3 + ["Failed"]),
        (Cause.PEER_LOST, [70, 70, 60, 70, 70], [AGAIN] * 3 + ["Failed"]),
        (Cause.PEER_LOST, [70, 60, 60, 71, 60, 60, 60], [AGAIN] * 6 + ["Failed"]),
        (Cause.PEER_LOST, range(1, 30), [AGAIN] * 29),
        (Cause.STORAGE, [None] * 9, [AGAIN] * 9),
    ],
    ids=[
        "a program that never takes a step",
        "a stall before the first step",
        "a network that never worked",
        "never beyond a step",
        "a new step gives three more",
        "a step an attempt",
        "storage may come back",
    ],
)
def test_three_restarts_without_a_new_step_end_the_job(cause, steps, phases):
    assert life(cause, *steps) == phases


def test_what_reports_no_step_is_bounded_by_max_restarts_alone():
    assert life(Cause.USER_EXIT, *[None] * 9, job=PROGRAM) == [AGAIN] * 9
    assert life(Cause.USER_EXIT, *[5] * 9, job=PROGRAM) == [AGAIN] * 3 + ["Failed"]


def test_a_step_that_another_job_had_taken_is_none():
    assert life(Cause.PEER_LOST, *[500] * 9, resumed_step=500) == [AGAIN] * 3 + ["Failed"]


def test_the_end_says_where_the_job_stood_still():
    spent = Headway(step=6213, saved_step=6000, idle_restarts=3)
    status = make_status(attempt=4, headway=spent, restarts=Restarts(infrastructure=4))
    decision, _ = fails(status, Cause.PEER_LOST, 6213)
    assert decision.events[0].message == (
        "Bad (pod nodules-master-0, node gpu-0). 3 restarts in a row brought no step beyond 6213; "
        "mend the cause, then create the job anew."
    )
    assert decision.status.restarts == Restarts(infrastructure=4)
    assert decision.status.failure
    assert decision.status.failure.cause == "PeerLost"


@pytest.mark.parametrize(("heard", "phase"), [(4, AGAIN), (3, "Failed")])
def test_an_attempt_that_ended_unheard_leaves_it_open_what_the_one_before_it_saved(heard, phase):
    idle = Headway(step=126, saved_step=119, idle_restarts=3)
    said = Progress(step=120, resumed_step=119, attempt=heard)
    status = make_status(attempt=5, headway=idle, progress=said, formed_attempt=5)
    pods = make_pods(RECIPE_JOB, attempt=5, **exited(137))
    assert plan(RECIPE_JOB, status, Observed(pods=pods), at(10), DEFAULTS).status.phase == phase


def test_other_peoples_doing_neither_counts_nor_helps():
    status = make_status(attempt=4, headway=Headway(step=70, idle_restarts=3))
    pods = (make_pod(RECIPE_JOB, attempt=4),)
    gone = plan(RECIPE_JOB, status, Observed(pods=pods), at(10), DEFAULTS)
    assert (gone.status.phase, acts(gone)) == (AGAIN, ["delete master-0 in 5"])
    assert gone.status.headway == status.headway


@pytest.mark.parametrize(
    ("progress", "saved", "moved"),
    [
        (None, None, False),
        (Progress(step=71, attempt=2), None, True),
        (Progress(step=71, attempt=1), None, False),
        (Progress(step=70, attempt=2), None, False),
        (Progress(step=65, attempt=2, resumed_step=60), 60, False),
        (Progress(step=65, attempt=2, resumed_step=60), 65, True),
        (Progress(step=65, attempt=2, resumed_step=64), 60, True),
    ],
    ids=[
        "no report",
        "beyond",
        "said by an earlier attempt",
        "as far as before",
        "repeats what was lost",
        "saves what was lost",
        "goes on from what was saved after the last report",
    ],
)
def test_a_step_is_new_if_none_took_it_or_none_saved_it(progress, saved, moved):
    latest = SavedCheckpoint(step=saved) if saved else None
    known = {"headway": Headway(step=70, saved_step=60), "checkpoints": Checkpoints(latest=latest)}
    assert has_moved(make_status(2, progress=progress, **known)) is moved


def test_back_off_is_short_again_after_a_new_step() -> None:
    status, waits = make_status(), []
    for step in (10, 20, 15, 18, 30):
        decision, status = fails(status, Cause.USER_EXIT, step)
        due = parse_time(decision.status.next_attempt_time)
        waits.append((due - at(10)).seconds)
    assert waits == [5, 5, 20, 40, 5]


@pytest.mark.parametrize(
    ("job", "known", "settles"),
    [
        (RECIPE_JOB, make_status(), True),
        (RECIPE_JOB, make_status(progress=Progress(attempt=1, step=3)), False),
        (PROGRAM, make_status(), False),
    ],
    ids=["no step is known", "a new step is known", "a program that reports none"],
)
def test_last_report_is_waited_for_while_no_new_step_is_known(job, known, settles) -> None:
    bad = exited(1, summary(1, "bad", cause=Cause.USER_EXIT, rank=1), seconds=1)
    pods = (make_pod(job, 0), make_pod(job, 1, **bad))
    decision = plan(job, known, Observed(pods=pods), at(2), DEFAULTS)
    assert decision.status.phase == ("Running" if settles else "Restarting")
    assert not settles or decision.wake_at == at(4)
