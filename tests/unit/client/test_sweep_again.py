"""`trainyard run` of a sweep that was run before: go on, begin anew, or say why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from core_sweeps import make_spec, mixed_here, write_sweep_file

from trainyard.errors import Interrupted
from trainyard.local.runner import held
from trainyard.local.sweep import LocalSweep
from trainyard.state import LocalJob, local_jobs, local_sweeps, new_local_job, new_local_sweep
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.desired import spec_hash
from trainyard_operator.sweep.names import SWEEP_UID_LABEL

LIST = {"method": "list", "folds": None, "trials": [{"name": "A0"}, {"name": "A1"}]}
UNLIKE = [{"name": "A0"}, {"name": "A1", "overrides": {"training.epochs": 2}}]

WIDE = {"distribution": "int_uniform", "min": 1, "max": 99}
ELSEWHERE = {"recipe": "classification", "storage": {"uri": "s3://bucket/others"}}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: LocalSweep) -> None:
        raise Interrupted("nothing runs in this test")

    monkeypatch.setattr(LocalSweep, "run", run)


def write_sweep(**fields: Any) -> Path:
    return write_sweep_file(make_spec(**fields))


def keep_sweep(created: int = 0, phase: str = "Running", **fields: Any) -> LocalJob:
    """As a runner that is gone left it, with one trial."""
    spec = make_spec(**fields)
    spec["template"]["spec"]["backend"] = "pods"
    begun_by = spec_hash(SweepSpec.model_validate(spec))
    local = new_local_sweep("digits", "before")
    metadata = {"name": "digits", "namespace": "default", "uid": "before"}
    status = {"phase": phase, "specHash": begun_by, "counts": {"total": 3, "created": created}}
    local.save({"metadata": metadata, "spec": spec, "status": status})
    trial = {"name": "digits-0", "uid": "t", "labels": {SWEEP_UID_LABEL: "before"}}
    new_local_job("digits-0", "t").save({"metadata": trial, "spec": {}, "status": {}})
    return local


def kept_uids() -> set[str]:
    return {local.directory.name for local in local_sweeps()}


def first_line(trainyard: Any, *words: str) -> str:
    return str(trainyard("run", "sweep.yaml", *words).err.splitlines()[0])


def test_same_sweep_goes_on(trainyard) -> None:
    keep_sweep(created=1)
    write_sweep()
    assert first_line(trainyard) == "going on with sweep digits; --fresh begins anew"
    assert kept_uids() == {"before"}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_sweep_that_has_ended_begins_anew_and_says_so(trainyard, phase: str) -> None:
    keep_sweep(created=3, phase=phase)
    write_sweep()
    told = "the last run of sweep digits has ended; a new one begins"
    assert first_line(trainyard) == told
    assert len(kept_uids()) == 2


def test_last_run_in_another_folder_is_told_with_that_folder(trainyard, place: Path) -> None:
    there = {"recipe": "classification", "storage": {"uri": (place / "a b").as_uri()}}
    keep_sweep(created=3, phase="Succeeded", template={"spec": there})
    write_sweep()
    told = f"the last run of sweep digits, whose results lie in {place}/a b, has ended; a new one"
    assert first_line(trainyard, "--storage", "runs") == f"{told} begins"


def test_dry_run_over_an_unfinished_sweep_says_what_the_run_would(trainyard) -> None:
    local = keep_sweep(created=2)
    stored = local.object
    for number, phase in enumerate(("Succeeded", "Running")):
        name, labels = f"digits-{number}", {SWEEP_UID_LABEL: "before"}
        metadata = {"name": name, "uid": "t" * (number + 1), "labels": labels}
        trial = {"metadata": metadata, "spec": {}, "status": {"phase": phase}}
        new_local_job(name, "t" * (number + 1)).save(trial)
    write_sweep()
    ran = trainyard("run", "sweep.yaml", "--dry-run")
    assert (ran.code, local.object) == (0, stored)
    assert ran.out.splitlines() == [
        "keep trainingjob/digits-0, Succeeded",
        "go on with trainingjob/digits-1",
        "create trainingjob/digits-2 data.fold=2 data.folds=3",
    ]
    assert ran.err.splitlines() == [
        "going on with sweep digits; --fresh begins anew",
        "nothing was started; there would be 3 trials, 2 of them there already",
    ]
    fresh = trainyard("run", "sweep.yaml", "--dry-run", "--fresh")
    assert fresh.out.splitlines()[0] == "create trainingjob/digits-0 data.fold=0 data.folds=3"
    documents = json.loads(trainyard("run", "sweep.yaml", "--dry-run", "-o", "json").out)
    assert [one["metadata"]["name"] for one in documents] == ["digits-2"]


def test_dry_run_lists_trials_beyond_a_lowered_max_trials(trainyard) -> None:
    search = {"method": "random", "folds": None, "parameters": {"training.seed": WIDE}}
    keep_sweep(created=2, **search, maxTrials=4)
    for number, phase in enumerate(("Succeeded", "Running")):
        metadata = {"name": f"digits-{number}", "labels": {SWEEP_UID_LABEL: "before"}}
        trial = {"metadata": metadata, "spec": {}, "status": {"phase": phase}}
        new_local_job(f"digits-{number}", "t").save(trial)
    write_sweep(**search, maxTrials=1)
    ran = trainyard("run", "sweep.yaml", "--dry-run")
    assert ran.out.splitlines() == [
        "keep trainingjob/digits-0, Succeeded",
        "go on with trainingjob/digits-1",
    ]
    assert ran.err.splitlines()[1:] == [
        "nothing was started; there would be 2 trials, 2 of them there already",
    ]


def test_dry_run_leaves_a_sweep_without_trials_where_it_is(trainyard) -> None:
    keep_sweep(created=0)
    write_sweep(folds=4)
    ran = trainyard("run", "sweep.yaml", "--dry-run")
    assert ran.err.splitlines()[0] == (
        "no trial of sweep digits had begun; it begins anew with the changed spec"
    )
    assert (len(ran.out.splitlines()), kept_uids()) == (4, {"before"})


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_storage_within_that_of_a_known_sweep_is_refused(trainyard, words) -> None:
    keep_sweep(created=3, phase="Succeeded")
    within = "s3://bucket/sweeps/default/digits/before/trials/"
    write_sweep()
    ran = trainyard("run", "sweep.yaml", "--name", "other", "--storage", within, *words)
    told = "storage.uri: lies within the storage of TrainingSweep 'default/digits'; give"
    assert (ran.code, ran.err) == (
        5,
        f"error: spec.template.spec.{told} each sweep a prefix outside of the other's\n",
    )
    ran = trainyard("run", "classification", "--storage", within, *words)
    assert (ran.code, ran.err) == (
        5,
        f"error: spec.{told} the job a prefix outside of the other's\n",
    )
    assert kept_uids() == {"before"}


def test_storage_beside_that_of_a_known_sweep_is_taken(trainyard) -> None:
    keep_sweep(created=3, phase="Succeeded")
    write_sweep()
    beside = "s3://bucket/sweeps/default/digits/before-2"
    ran = trainyard("run", "sweep.yaml", "--name", "other", "--storage", beside)
    assert ran.err == "error: nothing runs in this test\n"


def test_fresh_needs_no_word_about_the_last_run(trainyard) -> None:
    keep_sweep(created=3, phase="Succeeded")
    write_sweep()
    assert first_line(trainyard, "--fresh") == "error: nothing runs in this test"


def test_changed_sweep_without_trials_begins_anew(trainyard) -> None:
    keep_sweep(created=0)
    write_sweep()
    told = "no trial of sweep digits had begun; it begins anew with the changed spec"
    assert first_line(trainyard, "--storage", "runs") == told
    assert "before" not in kept_uids()
    assert len(kept_uids()) == 1
    assert list(local_jobs()) == []


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ({}, {"folds": 4}, "spec.folds"),
        ({}, {"template": {"spec": ELSEWHERE}}, "spec.template.spec.storage.uri"),
        ({}, {"foldParameter": "training.seed"}, "spec.foldParameter"),
        (LIST, LIST | {"trials": UNLIKE}, "spec.trials.1.overrides"),
        (LIST, LIST | {"trials": UNLIKE[:1]}, "spec.trials"),
    ],
)
def test_change_that_would_mix_results_is_named(before, after, path: str, trainyard) -> None:
    keep_sweep(created=1, **before)
    write_sweep(**after)
    ran = trainyard("run", "sweep.yaml")
    [message, help_] = ran.err.splitlines()
    assert (ran.code, kept_uids()) == (5, {"before"})
    assert message == f"error: {path}: {mixed_here('digits', 's3://bucket/sweeps')}"
    assert help_ == "help: trainyard run sweep.yaml --fresh"
    dry = trainyard("run", "sweep.yaml", "--dry-run")
    assert (dry.code, dry.out, dry.err) == (5, "", ran.err)


@pytest.mark.parametrize("words", [(), ("--fresh",), ("--fresh", "--dry-run")])
def test_second_runner_of_a_sweep_is_refused_with_how_to_follow_the_first(trainyard, words) -> None:
    local = keep_sweep(created=1)
    write_sweep(folds=4)
    stored = local.object
    with held(local):
        ran = trainyard("run", "sweep.yaml", *words)
        pid = local.runner_pid
    assert (ran.code, ran.err) == (
        1,
        f"error: 'sweep/digits' already runs on this machine, process {pid}\n"
        "help: trainyard watch sweep/digits\n",
    )
    assert (local.object, kept_uids()) == (stored, {"before"})
