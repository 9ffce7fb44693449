"""A trial goes on where its sweep says so, and no advice speaks of it as of a job alone."""

from typing import Any

import pytest
from core_sweeps import make_spec

from trainyard.jobs import Job
from trainyard.local import runner
from trainyard.state import new_local_job, new_local_sweep
from trainyard.story import next_command
from trainyard.trials import sweep_of, why_held
from trainyard_operator.status import HistoryEntry, JobStatus
from trainyard_operator.sweep.names import (
    HELD_ANNOTATION,
    HELD_REASON_ANNOTATION,
    SWEEP_LABEL,
    SWEEP_UID_LABEL,
)

LABELS = {SWEEP_LABEL: "asha", SWEEP_UID_LABEL: "u"}
BECAUSE = "Step 40: 0.2 is not among the best 1 of 3."
HELD = {"asha-1": ["EarlyStopping", BECAUSE]}


def keep_trial(phase: str = "Suspended", held: Any = HELD) -> None:
    metadata = {"name": "asha", "namespace": "default", "uid": "u"}
    stored = {"metadata": metadata, "spec": make_spec(), "status": {}, "held": held}
    new_local_sweep("asha", "u").save(stored)
    stored = {
        "metadata": {"name": "asha-1", "uid": "t", "labels": LABELS},
        "spec": {"recipe": "classification"},
        "status": {"phase": phase},
    }
    new_local_job("asha-1", "t").save(stored)


def cluster_job(**notes: str) -> Job:
    metadata = {"name": "asha-1", "labels": LABELS, "annotations": notes}
    return Job({"metadata": metadata, "spec": {}, "status": {"phase": "Suspended"}})


@pytest.mark.parametrize(("held", "why"), [(HELD, BECAUSE), ({}, "it was stopped")])
def test_story_of_a_trial_says_that_its_sweep_holds_it(trainyard, held, why: str) -> None:
    keep_trial(held=held)
    assert trainyard("get", "asha-1").out.splitlines()[-2:] == [
        f"       held by sweep asha: {why}",
        "next:  trainyard get sweep/asha",
    ]


def test_trial_whose_runner_is_gone_names_its_sweep_next(trainyard) -> None:
    keep_trial(phase="Running")
    assert trainyard("get", "asha-1").out.splitlines()[-1] == "next:  trainyard get sweep/asha"


def test_trial_is_resumed_by_its_sweep_alone(trainyard) -> None:
    keep_trial()
    ran = trainyard("resume", "asha-1")
    assert (ran.code, ran.err) == (
        1,
        "error: asha-1 is a trial of sweep asha, which alone lets it go on\n"
        "help: trainyard get sweep/asha\n",
    )


def test_trial_of_this_machine_is_suspended_with_its_sweep_alone(trainyard) -> None:
    keep_trial(phase="Running")
    ran = trainyard("suspend", "asha-1")
    assert (ran.code, ran.err) == (
        1,
        "error: asha-1 is a trial of sweep asha, and its process is the sweep's\n"
        "help: trainyard suspend sweep/asha\n",
    )


def test_trial_of_a_cluster_is_held_where_its_sweep_says_so() -> None:
    notes = {HELD_ANNOTATION: "EarlyStopping", HELD_REASON_ANNOTATION: BECAUSE}
    job = cluster_job(**notes)
    assert (sweep_of(job), why_held(job)) == ("asha", BECAUSE)
    assert next_command(job) == "trainyard get sweep/asha"


def test_trial_of_a_cluster_that_a_person_suspended_is_theirs_to_resume() -> None:
    job = cluster_job()
    assert sweep_of(job) is None
    assert next_command(job) == "trainyard resume asha-1"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS, "Stopped by sweep asha; what it saved stays."),
        ({}, "Stopped; the same command goes on from the last checkpoint."),
    ],
)
def test_stop_of_a_trial_speaks_of_its_sweep(labels: dict[str, str], message: str) -> None:
    entry = HistoryEntry(
        time="2026-01-01T12:00:00Z",
        attempt=1,
        type="Suspended",
        reason="Suspended",
        message="Suspended; set runPolicy.suspend to false to go on from the last checkpoint.",
    )
    local = new_local_job("asha-1", "t")
    job = Job({"metadata": {"name": "asha-1", "labels": labels}, "status": {}}, local=local)
    told = runner._in_local_words(JobStatus(history=[entry]), job)
    assert told.history == [entry.model_copy(update={"message": message})]
