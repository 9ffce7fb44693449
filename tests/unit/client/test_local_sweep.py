"""Sweeps on one machine, with tiny programs in place of training."""

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_sweep, mixed_here, write_sweep_file
from patience import WAIT_SECONDS

from trainyard.local.sweep import trial_line
from trainyard_operator.sweep.record import TrialRecord

PROGRAM = """
import json, os, signal, sys, time
given = dict(word.lstrip("-").split("=") for word in sys.argv[1:])
waits = os.path.exists("wait") and open("wait").read() == given["lr"]
if waits:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with open(os.environ["TRAINYARD_PROGRESS_FILE"] + ".new", "w") as file:
    loss = (float(given["lr"]) - 0.3) ** 2
    json.dump({"step": 1, "metrics": {"val_loss": loss}}, file)
os.replace(file.name, os.environ["TRAINYARD_PROGRESS_FILE"])
with open("begun.txt", "a") as file:
    file.write(f"{given['lr']}\\n")
if os.path.exists("fail"):
    sys.exit(9)
if waits:
    time.sleep(600)
"""
GRID = {"method": "grid", "parameters": {"lr": {"values": [0.1, 0.2, 0.3]}}}


def write_sweep(**fields: Any) -> Path:
    spec = {
        "template": {
            "spec": {
                "command": [sys.executable, "-c", PROGRAM],
                "runPolicy": {"maxRestarts": 0},
            }
        },
        "objective": {"metric": "val_loss", "goal": "minimize"},
        "parallelism": 2,
        **fields,
    }
    return write_sweep_file(spec, "tiny")


def begun() -> list[str]:
    return Path("begun.txt").read_text().split()


@pytest.mark.slow
def test_a_grid_runs_each_trial_once_and_leaves_a_report(trainyard) -> None:
    ran = trainyard("run", write_sweep(**GRID))
    assert ran.code == 0, ran.err
    assert sorted(begun()) == ["0.1", "0.2", "0.3"]
    assert ran.out.splitlines()[0].split() == ["JOB", "LR", "VAL_LOSS"]
    done = "Done: 3 of 3 trials succeeded; best val_loss 0 (tiny-2)."
    told = [line for line in ran.err.splitlines() if not line.startswith("report: ")]
    assert "tiny-2 (lr=0.3): Succeeded, val_loss 0" in told
    assert told[-1] == done
    assert "3 of 3 trials succeeded. Best val_loss 0 (tiny-2)." in ran.out
    [report] = Path("runs").glob("default/tiny/*/report/trials.csv")
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert [(row["job"], row["lr"], row["state"]) for row in rows] == [
        ("tiny-0", "0.1", "Succeeded"),
        ("tiny-1", "0.2", "Succeeded"),
        ("tiny-2", "0.3", "Succeeded"),
    ]
    assert [float(row["val_loss"]) for row in rows] == pytest.approx([0.04, 0.01, 0.0])
    assert trainyard("get", "tiny-2").code == 0
    shown = trainyard("get", "sweep/tiny").out
    assert done in shown
    assert f"report: {report.parent.absolute().as_uri()}" in shown


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_without_repeating_what_is_done(trainyard) -> None:
    write_sweep(**GRID | {"parallelism": 1})
    Path("wait").write_text("0.2")
    words = [sys.executable, "-m", "trainyard.cli", "run", "sweep.yaml"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + WAIT_SECONDS
    while not Path("begun.txt").exists() or len(begun()) < 2:
        assert time.monotonic() < deadline, "no second trial began"
        time.sleep(0.05)
    assert trainyard("suspend", "sweep/tiny").code == 0
    table, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130, said
    assert table.splitlines()[2].split()[:4] == ["tiny-1", "Suspended", "0.2", "0.01"]
    assert "Suspended; run it again to go on.\n" in said
    assert "tiny-1 (lr=0.2): Suspended\n" in said
    assert "error: sweep tiny stopped; its trials keep their checkpoints" in said
    Path("wait").unlink()
    mixed = mixed_here("tiny", f"{Path.cwd()}/runs")
    doubt = (
        "sweep.yaml:9:5: spec.objective.goal: maximizes 'val_loss', of which less is better by its "
        "name; write minimize unless that is meant\n"
    )
    for path, changed, doubted in (
        ("spec.objective.goal", {"objective": {"metric": "val_loss", "goal": "maximize"}}, doubt),
        ("spec.method", {"method": "random"}, ""),
    ):
        write_sweep(**GRID | {"parallelism": 1, "maxTrials": 3} | changed)
        refused = trainyard("run", "sweep.yaml")
        assert (refused.code, refused.err) == (
            5,
            f"{doubted}error: {path}: {mixed}\nhelp: trainyard run sweep.yaml --fresh\n",
        )
    write_sweep(**GRID | {"parallelism": 1})
    ran = trainyard("run", "sweep.yaml")
    assert ran.code == 0, ran.err
    assert "going on with sweep tiny" in ran.err
    assert begun() == ["0.1", "0.2", "0.2", "0.3"]


@pytest.mark.slow
def test_a_sweep_whose_trials_all_fail_has_failed_and_says_why(trainyard) -> None:
    Path("fail").touch()
    ran = trainyard("run", write_sweep(**GRID))
    assert ran.code == 10
    assert "error: sweep tiny failed: No trial succeeded: all of them failed; tiny-0" in ran.err


@pytest.mark.parametrize(
    ("method", "record", "line"),
    [
        ("grid", {"overrides": {"lr": 0.3}}, "tiny-2 (lr=0.3): Succeeded, val_accuracy 0.5123"),
        (
            "grid",
            {"name": "fold-1", "fold": 1, "overrides": {"lr": 0.3}},
            "tiny-2 (fold-1, lr=0.3): Succeeded, val_accuracy 0.5123",
        ),
        (
            "list",
            {"name": "A1", "overrides": {"lr": 0.3}},
            "tiny-2 (A1): Succeeded, val_accuracy 0.5123",
        ),
        ("random", {"phase": "Running"}, "tiny-2: Running"),
        ("folds", {"name": "fold-2", "phase": "Failed"}, "tiny-2 (fold-2): Failed"),
    ],
)
def test_line_of_a_trial_names_its_job_and_what_it_tries(method: str, record, line: str) -> None:
    reported = {} if record.get("phase") else {"metrics": {"val_accuracy": 0.51234}}
    base = {"job": "tiny-2", "uid": "u", "number": 2, "name": "tiny-2", "phase": "Succeeded"}
    found = TrialRecord(**base | reported | record)
    assert trial_line(found, make_sweep(method).spec) == line


RANGE = {"lr": {"distribution": "uniform", "min": 0, "max": 1}}


@pytest.mark.parametrize(
    ("fields", "lines", "told"),
    [
        (GRID, 3, "there would be 3 trials"),
        (GRID | {"maxTrials": 1}, 1, "there would be 1 trial"),
        ({"method": "folds", "folds": 70}, 64, "there would be 70 trials; 6 more"),
        ({"method": "random", "maxTrials": 4, "parameters": RANGE}, 4, "there would be 4 trials"),
        (
            {"method": "bayes", "maxTrials": 12, "parameters": RANGE},
            10,
            "there would be 12 trials; 2 more follow from their results",
        ),
    ],
    ids=["grid", "one", "many", "random", "bayes"],
)
def test_dry_run_shows_every_trial_that_is_known(trainyard, fields, lines: int, told: str) -> None:
    ran = trainyard("run", write_sweep(**fields), "--dry-run")
    shown = ran.out.splitlines()
    assert (ran.code, len(shown)) == (0, lines)
    assert shown[0].startswith("create trainingjob/tiny-0 --")
    assert len(set(shown)) == lines
    assert ran.err == f"nothing was started; {told}\n"
    assert not Path("runs").exists()


def test_dry_run_shows_the_settings_and_a_program_all_trials(trainyard) -> None:
    ran = trainyard("run", write_sweep(**GRID), "--dry-run", "spec.parallelism=3")
    assert ran.out == "".join(f"create trainingjob/tiny-{n} --lr=0.{n + 1}\n" for n in range(3))
    write_sweep(method="folds", folds=70)
    found = json.loads(trainyard("run", "sweep.yaml", "--dry-run", "-o", "json").out)
    assert len(found) == 70


GUIDE = {
    "program": "src/mlops_project/train.py",
    "method": "random",
    "metric": {"name": "val_f1_score", "goal": "maximize"},
    "parameters": {
        "training.learning_rate": {"distribution": "log_uniform", "min": 0.00001, "max": 0.01},
        "data.batch_size": {"values": [16, 32, 64]},
        "model.variant": {"values": ["b0", "b1", "b2"]},
    },
}


def run_guide(trainyard: Any, *words: str, **changes: Any) -> Any:
    Path("guide.yaml").write_text(yaml.safe_dump(GUIDE | changes))
    return trainyard("run", "skin-lesion", "--sweep", "guide.yaml", "--dry-run", *words)


def test_a_guides_sweep_file_runs_beside_a_job(trainyard) -> None:
    ran = run_guide(trainyard, "model=efficientnet", "-o", "json", run_cap=20)
    assert ran.code == 0, ran.err
    first, *others = json.loads(ran.out)
    assert len(others) == 19
    assert first["spec"]["overrides"][0] == "model=efficientnet"
    keys = [text.partition("=")[0] for text in first["spec"]["overrides"][1:]]
    assert keys == ["data.batch_size", "model.variant", "training.learning_rate"]
    assert first["spec"]["checkpoint"]["keepBest"] == {"metric": "val_f1_score", "mode": "max"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"early_terminate": {"type": "hyperband"}},
            "'early_terminate' is not read from a guide's file; write a TrainingSweep",
        ),
        (
            {"parameters": {"training.learning_rte": {"values": [1]}}, "run_cap": 1},
            "unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (
            {"parameters": {"x": {"distribution": "beta", "min": 0, "max": 1}}},
            "parameters.x: distribution 'beta' is not known; known are 'uniform'",
        ),
        ({}, "run_cap is missing, and method random would never end"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_remedy(trainyard, changes, sentence) -> None:
    ran = run_guide(trainyard, **changes)
    assert ran.code == 5
    assert sentence in ran.err


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"parallelism": 0}, "spec.parallelism must be at least 1, not 0"),
        (
            {"parameters": {"lr": {"distribution": "log_uniform", "min": 0, "max": 1}}},
            "spec.parameters.lr: log_uniform has no logarithm of 0 or less: min must be above 0, "
            "such as 1e-5, or take uniform",
        ),
        (
            {"parameters": {"lr": {"distribution": "uniform", "min": 1, "max": 1}}},
            "spec.parameters.lr: the range is empty: min must be smaller than max; give a single "
            "value as values: [x]",
        ),
    ],
)
def test_field_that_cannot_be_is_refused_before_anything_runs(trainyard, fields, sentence) -> None:
    ran = trainyard("run", write_sweep(**GRID | fields))
    assert ran.code == 5
    assert re.sub(r"^error: sweep.yaml:\d+:\d+: ", "", ran.err) == f"{sentence}\n"
    assert not Path("runs").exists()
