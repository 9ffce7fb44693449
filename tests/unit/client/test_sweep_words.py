"""What is typed for a sweep on this machine, and what commands answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainyard.state import new_local_job, new_local_sweep, remember_last
from trainyard_operator.sweep.names import SETTING_ANNOTATION, TRIAL_LABEL

PROGRAM = {"command": ["train"]}
OBJECTIVE = {"metric": "val_loss", "goal": "minimize"}
RECIPE = {"recipe": "classification", "storage": {"uri": "file:///nowhere"}}


def keep_sweep(
    *phases: str, spec: dict[str, Any] = PROGRAM, values: tuple[float, ...] = (), **status: Any
) -> None:
    """A grid called tiny that has ended, with so many trials."""
    rows: list[dict[str, Any]] = [
        {"number": n, "name": f"tiny-{n}", "job": f"tiny-{n}", "phase": phase}
        for n, phase in enumerate(phases)
    ]
    for row, value in zip(rows, values, strict=False):
        row["value"] = value
    done = {"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "Done."}
    new_local_sweep("tiny", "u").save(
        {
            "metadata": {"name": "tiny", "namespace": "default", "uid": "u"},
            "spec": {"method": "grid", "objective": OBJECTIVE, "template": {"spec": spec}},
            "status": {
                "phase": "Succeeded",
                "trials": rows,
                "conditions": [done | {"lastTransitionTime": "2026-01-01T12:00:00Z"}],
                **status,
            },
        }
    )


def keep_trial(number: int, loss: str, lr: float, fold: int | None = None) -> None:
    """A program that has ended and reported a loss."""
    name, setting = f"tiny-{number}", {"overrides": {"lr": lr}}
    notes = setting if fold is None else setting | {"fold": fold}
    new_local_job(name, f"u{number}").save(
        {
            "metadata": {
                "name": name,
                "uid": f"u{number}",
                "labels": {TRIAL_LABEL: str(number)},
                "annotations": {SETTING_ANNOTATION: json.dumps(notes)},
            },
            "spec": PROGRAM,
            "status": {"phase": "Succeeded", "progress": {"metrics": {"val_loss": loss}}},
        }
    )


def test_programs_are_compared_by_what_they_reported_last(trainyard) -> None:
    keep_sweep("Succeeded", "Succeeded")
    keep_trial(0, "0.04", 0.1)
    keep_trial(1, "0.01", 0.2)
    ran = trainyard("compare", "sweep/tiny")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["JOB", "LR", "VAL_LOSS"],
        ["tiny-0", "0.1", "0.04"],
        ["tiny-1", "0.2", "0.01"],
    ]
    found = json.loads(trainyard("compare", "sweep/tiny", "-o", "json").out)
    assert (found["mean"], found["std"]) == ({}, {})


def test_objective_is_compared_first_as_the_sweep_ranks_it(trainyard, place: Path) -> None:
    spec = {"recipe": "classification", "storage": {"uri": (place / "runs").as_uri()}}
    keep_sweep("Succeeded", spec=spec, values=(0.9,))
    metadata = {"name": "tiny-0", "namespace": "default", "uid": "u0"}
    new_local_job("tiny-0", "u0").save({"metadata": metadata, "spec": spec, "status": {}})
    result = {"metrics": {"val_loss": 0.7, "val_accuracy": 0.1, "test_accuracy": 0.8}}
    folder = place / "runs/default/tiny-0/u0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    ran = trainyard("compare", "sweep/tiny")
    assert ran.out == "JOB      VAL_LOSS   TEST_ACCURACY\ntiny-0   0.9        0.8\n"
    alone = trainyard("compare", "tiny-0")
    assert alone.out.splitlines()[0] == "JOB      TEST_ACCURACY"
    named = trainyard("compare", "sweep/tiny", "--metric", "val_accuracy")
    assert named.out == "JOB      VAL_ACCURACY\ntiny-0   0.1\n"


def test_repeats_are_compared_with_their_mean(trainyard) -> None:
    summary = {"metric": "val_loss", "mean": 0.025, "trials": 2}
    keep_sweep("Succeeded", "Succeeded", summary=summary)
    keep_trial(0, "0.04", 0.1, fold=0)
    keep_trial(1, "0.01", 0.1, fold=1)
    assert [line.split() for line in trainyard("compare", "sweep/tiny").out.splitlines()] == [
        ["JOB", "FOLD", "VAL_LOSS"],
        ["tiny-0", "0", "0.04"],
        ["tiny-1", "1", "0.01"],
        ["mean", "0.025"],
        ["std", "0.02121"],
    ]


@pytest.mark.parametrize(
    ("status", "message", "help_"),
    [
        ({"phase": "Running"}, "'tiny-0' has no result yet", "trainyard get tiny-0"),
        ({"phase": "Succeeded"}, "'tiny-0' reported no metrics", "trainyard logs tiny-0"),
    ],
)
def test_program_that_cannot_be_compared_says_why(trainyard, status, message, help_) -> None:
    stored = {"metadata": {"name": "tiny-0", "uid": "t"}, "spec": PROGRAM, "status": status}
    new_local_job("tiny-0", "t").save(stored)
    ran = trainyard("compare", "tiny-0")
    assert (ran.code, ran.err) == (3, f"error: {message}\nhelp: {help_}\n")


BEST = {"number": 0, "name": "tiny-0", "job": "tiny-0", "value": 0.5}
URI = "file:///runs/report"


@pytest.mark.parametrize(
    ("spec", "status", "command"),
    [
        (PROGRAM, {"best": BEST | {"checkpoint": "file:///c"}}, "fetch sweep/tiny"),
        (RECIPE, {"best": BEST}, "fetch sweep/tiny"),
        (PROGRAM, {"best": BEST, "reportUri": URI}, "fetch sweep/tiny --what report"),
        (PROGRAM, {}, "get sweep/tiny"),
    ],
    ids=["a program's copy", "a recipe's checkpoint", "the report alone", "nothing stored"],
)
def test_watch_names_what_there_is_to_fetch(trainyard, spec, status, command) -> None:
    keep_sweep("Succeeded", spec=spec, **status)
    assert trainyard("watch", "sweep/tiny").err.splitlines()[-1] == f"next: trainyard {command}"


@pytest.mark.parametrize("word", ["sweep", "sweeps", "tsw", "trainingsweep", "trainingsweeps"])
def test_sweeps_are_called_what_kubectl_calls_them(trainyard, word: str) -> None:
    keep_sweep()
    assert trainyard("get", word).out.splitlines()[1].split()[:2] == ["tiny", "Succeeded"]
    assert trainyard("get", f"{word}/tiny").code == 0


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        (
            ("Succeeded", "Failed", "Running"),
            " of its trials: tiny-0, tiny-1, tiny-2\nhelp: trainyard logs tiny-1",
        ),
        (("Succeeded", "Running"), " of its trials: tiny-0, tiny-1\nhelp: trainyard logs tiny-1"),
        ((), " of its trials\nhelp: trainyard get sweep/tiny"),
        (
            ("Succeeded",) * 10,
            " of its trials: tiny-0, tiny-1, tiny-2, tiny-3, tiny-4, tiny-5, tiny-6, tiny-7 and 2 "
            "more\nhelp: trainyard logs tiny-9",
        ),
    ],
    ids=["the failed one", "the newest", "none", "many"],
)
def test_logs_of_a_sweep_names_its_trials(trainyard, phases, sentence: str) -> None:
    keep_sweep(*phases)
    ran = trainyard("logs", "sweep/tiny")
    start = "error: sweep 'tiny' is many jobs, and this command takes one"
    assert (ran.code, ran.err) == (2, f"{start}{sentence}\n")


def test_last_is_the_sweep_after_a_sweep_was_started(trainyard) -> None:
    keep_sweep("Succeeded")
    keep_trial(0, "0.04", 0.1)
    remember_last("local", "sweep/tiny", "default")
    told = trainyard("get", "sweep/tiny").out
    assert trainyard("get", "@last").out == told
    assert "Done." in trainyard("watch").out
    assert trainyard("compare", "@last").out == "JOB      VAL_LOSS\ntiny-0   0.04\n"
    assert "help: trainyard logs tiny-0" in trainyard("logs").err
    assert trainyard("delete", "@last", "-y").out == "sweep/tiny\n"


ALONE = "on this machine, and no cluster is configured"


@pytest.mark.parametrize("verb", ["get", "logs", "watch", "fetch"])
@pytest.mark.parametrize(
    ("name", "hint"), [("tinny", "; did you mean 'sweep/tiny'?"), ("kk", "")], ids=["near", "far"]
)
def test_sweep_that_is_not_there(trainyard, verb: str, name: str, hint: str) -> None:
    keep_sweep()
    ran = trainyard(verb, f"sweep/{name}")
    assert (ran.code, ran.err) == (
        3,
        f"error: there is no sweep '{name}' {ALONE}{hint}\nhelp: trainyard get sweeps\n",
    )


@pytest.mark.parametrize("verb", ["get", "logs", "delete", "checkpoints"])
@pytest.mark.parametrize("name", ["sweep/", "tj/"])
def test_kind_without_a_name_is_refused(trainyard, verb: str, name: str) -> None:
    keep_trial(0, "0.04", 0.1)
    ran = trainyard(verb, name)
    told = {
        "sweep/": "names no sweep; write sweep/NAME\nhelp: trainyard get sweeps\n",
        "tj/": "names no job; write its name\nhelp: trainyard get\n",
    }
    assert (ran.code, ran.err) == (2, f"error: '{name}' {told[name]}")


@pytest.mark.parametrize("verb", ["checkpoints", "fetch", "evaluate"])
def test_best_trial_is_named_where_it_stands_for_the_sweep(
    trainyard, place: Path, verb: str
) -> None:
    spec = {"recipe": "classification", "storage": {"uri": (place / "runs").as_uri()}}
    keep_sweep("Succeeded", spec=spec, values=(0.5,), best=BEST)
    metadata = {"name": "tiny-0", "namespace": "default", "uid": "u0"}
    new_local_job("tiny-0", "u0").save({"metadata": metadata, "spec": spec, "status": {}})
    told = trainyard(verb, "sweep/tiny").err.splitlines()[0]
    assert told == "the best trial of sweep/tiny is tiny-0, val_loss 0.5"
    assert "the best trial" not in trainyard(verb, "sweep/tiny", "-o", "json").err


def test_get_of_a_sweeps_name_alone_names_the_sweep(trainyard) -> None:
    keep_sweep()
    ran = trainyard("get", "tiny")
    told = "error: there is no job 'tiny', but a sweep\nhelp: trainyard get sweep/tiny\n"
    assert (ran.code, ran.err) == (3, told)


@pytest.mark.parametrize("words", ["sweeps", "sweep/tiny"])
def test_names_of_sweeps_are_those_that_commands_take(trainyard, words: str) -> None:
    keep_sweep()
    assert trainyard("get", words, "-o", "name").out == "sweep/tiny\n"


def test_watch_of_a_sweep_is_a_line_of_json_for_each_change(trainyard) -> None:
    keep_sweep("Succeeded")
    ran = trainyard("watch", "sweep/tiny", "-o", "json")
    found = json.loads(ran.out)
    assert (found["name"], found["status"]["phase"]) == ("sweep/tiny", "Succeeded")
    assert ran.err == ""
