"""What people are told: events, conditions, history."""

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

from trainyard_operator.contract import Cause, Report
from trainyard_operator.decision import Decision, Event
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.status import (
    Checkpoints,
    HistoryEntry,
    JobStatus,
    Progress,
    Restarts,
    SavedCheckpoint,
)
from trainyard_operator.story import edited, restarts_in_a_row, success_sentence

JOB = make_job()
FROM_LAST = "going on with new pods from the last checkpoint"
OWN = exited(1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1))
STEPS = [
    ("created", {}, (), 0),
    ("pulling", {}, make_pods(JOB, **pending("not found", "ErrImagePull")), 2),
    ("still pulling", {}, make_pods(JOB, **pending("Back-off: not found", "ImagePullBackOff")), 4),
    ("pulled", {}, make_pods(JOB, **pending()), 6),
    ("running", {}, make_pods(JOB), 8),
    ("still running", {}, make_pods(JOB), 9),
    ("failed", {}, (make_pod(JOB), make_pod(JOB, 1, **OWN)), 10),
    ("back-off", {}, (), 12),
    ("again", {}, (), 15),
    ("suspended", {"suspend": True}, (), 20),
    ("still suspended", {"suspend": True}, (), 25),
    ("resumed", {}, (), 30),
    ("running again", {}, make_pods(JOB, attempt=3), 40),
    ("succeeded", {}, make_pods(JOB, attempt=3, **exited(0)), 50),
    ("after the end", {}, (), 60),
]


@pytest.fixture(scope="module")
def tale() -> dict[str, Decision]:
    """A job's life, decision by decision."""
    status, decisions = JobStatus(), {}
    for name, policy, pods, seconds in STEPS:
        job = make_job(runPolicy=policy)
        decisions[name] = plan(job, status, Observed(pods=pods), at(seconds), DEFAULTS)
        status = decisions[name].status
    return decisions


def test_events_come_with_transitions_alone(tale):
    told = {name: [(e.type, e.reason, e.message) for e in d.events] for name, d in tale.items()}
    assert told == {name: [] for name in tale} | {
        "created": [("Normal", "Starting", "Starting attempt 1: 2 nodes, 2 ranks.")],
        "pulling": [
            (
                "Warning",
                "ImagePull",
                "Pod nodules-master-0 cannot pull 'registry.example/mine:1': no such image or "
                "tag. Correct spec.image; retrying for 900 s.",
            )
        ],
        "running": [("Normal", "Running", "Attempt 1 runs: 2 nodes, 2 ranks.")],
        "failed": [
            (
                "Warning",
                "UserExit",
                "Rank 1 (pod nodules-worker-0, node gpu-1): bad. Restart 1 of 3.",
            )
        ],
        "again": [("Normal", "Starting", "Starting attempt 2: 2 nodes, 2 ranks.")],
        "suspended": [
            (
                "Normal",
                "Suspended",
                "Suspended; set runPolicy.suspend to false to go on from the last checkpoint.",
            )
        ],
        "resumed": [("Normal", "Starting", "Starting attempt 3: 2 nodes, 2 ranks.")],
        "running again": [("Normal", "Running", "Attempt 3 runs: 2 nodes, 2 ranks.")],
        "succeeded": [("Normal", "Succeeded", "Done in 3 attempts.")],
    }


def conditions(decision: Decision) -> dict[str, tuple[str, str, str]]:
    """Status, reason and transition time by type."""
    return {
        c.type: (c.status, c.reason, c.last_transition_time) for c in decision.status.conditions
    }


def test_conditions_say_why_and_since_when(tale):
    assert {name: conditions(decision)["Running"] for name, decision in tale.items()} == {
        "created": ("False", "Starting", text(0)),
        "pulling": ("False", "ImagePull", text(0)),
        "still pulling": ("False", "ImagePull", text(0)),
        "pulled": ("False", "Starting", text(0)),
        "running": ("True", "Running", text(8)),
        "still running": ("True", "Running", text(8)),
        "failed": ("False", "UserExit", text(10)),
        "back-off": ("False", "UserExit", text(10)),
        "again": ("False", "Starting", text(10)),
        "suspended": ("False", "Suspended", text(10)),
        "still suspended": ("False", "Suspended", text(10)),
        "resumed": ("False", "Starting", text(10)),
        "running again": ("True", "Running", text(40)),
        "succeeded": ("False", "Succeeded", text(50)),
        "after the end": ("False", "Succeeded", text(50)),
    }
    assert conditions(tale["succeeded"]) == {
        "Accepted": ("True", "Valid", text(0)),
        "Suspended": ("False", "Active", text(30)),
        "Running": ("False", "Succeeded", text(50)),
        "Succeeded": ("True", "Succeeded", text(50)),
    }
    assert conditions(tale["suspended"])["Suspended"] == ("True", "Suspended", text(20))


def test_history_tells_the_life_of_a_job(tale):
    history = tale["after the end"].status.history
    assert [(entry.time, entry.attempt, entry.type, entry.reason) for entry in history] == [
        (text(0), 1, "Starting", "Starting"),
        (text(2), 1, "Waiting", "ImagePull"),
        (text(8), 1, "Running", "Running"),
        (text(10), 1, "Restarted", "UserExit"),
        (text(15), 2, "Starting", "Starting"),
        (text(20), 2, "Suspended", "Suspended"),
        (text(30), 3, "Starting", "Starting"),
        (text(40), 3, "Running", "Running"),
        (text(50), 3, "Succeeded", "Succeeded"),
    ]


def test_the_reason_column_says_why_a_job_is_in_its_phase(tale):
    assert tale["pulling"].status.display.reason == "ImagePull"
    assert tale["pulled"].status.display.reason == "Starting"
    assert tale["failed"].status.display.reason == "UserExit"
    assert tale["suspended"].status.display.reason == "Suspended"


def test_a_failed_job_says_so_in_its_condition():
    job = make_job(runPolicy={"maxRestarts": 0})
    pods = (make_pod(job), make_pod(job, 1, **OWN))
    decision = plan(job, make_status(), Observed(pods=pods), at(9), DEFAULTS)
    condition = decision.status.condition("Failed")
    assert condition
    sentence = (
        "Rank 1 (pod nodules-worker-0, node gpu-1): bad. "
        "No restart left of 0 (runPolicy.maxRestarts)."
    )
    assert (condition.status, condition.reason, condition.message) == ("True", "UserExit", sentence)
    assert decision.events == (Event(type="Warning", reason="UserExit", message=sentence),)
    assert decision.status.completion_time == text(9)


def test_a_mended_job_is_no_longer_failed():
    error = exited(78, summary(78, "spec.config: bad"))
    status = make_status()
    failed = plan(JOB, status, Observed(pods=make_pods(JOB, **error)), at(9), DEFAULTS).status
    job = make_job(args=["--mended"], metadata={"generation": 2})
    decision = plan(job, failed, Observed(), at(20), DEFAULTS)
    assert conditions(decision)["Failed"] == ("False", "Edited", text(20))
    assert [event.message for event in decision.events] == ["The spec was edited; starting again."]


def test_a_second_refusal_for_another_reason_is_told():
    refused = plan(make_job(template={"spec": []}), JobStatus(), Observed(), at(0), DEFAULTS)
    other = make_job(template={"spec": {"volumes": None}})
    again = plan(other, refused.status, Observed(), at(1), DEFAULTS)
    assert len(again.events) == 1
    assert plan(JOB, again.status, Observed(), at(2), DEFAULTS).status.phase == "Starting"


def test_the_story_carries_steps_and_what_was_lost():
    report = Report(
        attempt=1,
        time=text(8),
        progress={"step": 6213, "steps": 51000},
        latest={"step": 6000},
    )
    pods = (make_pod(JOB), make_pod(JOB, 1, **OWN))
    observed = Observed(pods=pods, report=report)
    status = plan(JOB, make_status(), observed, at(9), DEFAULTS).status
    assert (status.history[-1].step, status.history[-1].lost_steps) == (6213, 213)
    again = plan(JOB, status, Observed(), at(20), DEFAULTS)
    assert again.events[0].message == (
        "Starting attempt 2, last saved at step 6000: 2 nodes, 2 ranks."
    )


def test_history_keeps_the_newest_fifty_entries():
    status = make_status(restarts=Restarts(user=0))
    job = make_job(runPolicy={"maxRestarts": 1000})
    for number in range(60):
        pods = (make_pod(job, attempt=status.attempt), make_pod(job, 1, attempt=status.attempt))
        failed = (pods[0], make_pod(job, 1, attempt=status.attempt, **OWN))
        status = plan(job, status, Observed(pods=failed), at(number), DEFAULTS).status
        status = status.model_copy(update={"phase": "Running", "next_attempt_time": None})
    assert len(status.history) == 50
    assert status.history[-1].time == text(59)


def test_a_whole_status_stays_small_whatever_programs_say():
    huge = exited(1, summary(1, "x" * 4000, cause=Cause.USER_EXIT))
    pods = (make_pod(JOB), make_pod(JOB, 1, **huge, message="y" * 9000))
    status = plan(JOB, make_status(), Observed(pods=pods), at(9), DEFAULTS).status
    assert len(status.model_dump_json()) < 10_000


def entry(type_: str, reason: str) -> HistoryEntry:
    return HistoryEntry(time=text(0), attempt=1, type=type_, reason=reason, message="")


@pytest.mark.parametrize(
    ("reasons", "count"),
    [
        ([], 0),
        (["StorageUnreachable"], 1),
        (["StorageUnreachable", "NodeLost"], 0),
        (["NodeLost", "StorageUnreachable", "StorageUnreachable"], 2),
    ],
)
def test_restarts_in_a_row_are_those_of_one_cause(reasons, count):
    history = [e for r in reasons for e in (entry("Restarted", r), entry("Running", "Running"))]
    assert restarts_in_a_row(make_status(history=history), Cause.STORAGE) == count


@pytest.mark.parametrize(
    ("job", "known", "what"),
    [
        (JOB, {}, "starting again with new pods"),
        (JOB, {"progress": Progress(step=7)}, "starting again with new pods"),
        (make_job(**RECIPE), {}, "starting again with new pods"),
        (make_job(**RECIPE), {"progress": Progress(step=7)}, FROM_LAST),
        (JOB, {"checkpoints": Checkpoints(latest=SavedCheckpoint(step=6))}, FROM_LAST),
    ],
)
def test_an_edit_goes_on_from_a_checkpoint_where_there_is_one(job, known, what):
    assert edited(job, make_status(**known)).message == f"The spec was edited; {what}."


def test_success_names_the_best_checkpoint():
    best = SavedCheckpoint(step=6000, metric="val_accuracy", value="0.98")
    status = make_status()
    checkpoints = status.checkpoints.model_copy(update={"best": best})
    status = status.model_copy(update={"checkpoints": checkpoints})
    assert success_sentence(status) == "Done; best val_accuracy 0.98 at step 6000."
    assert success_sentence(make_status()) == "Done."
