"""A guide's sweep file means here what it says, or is refused in words of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

RATE = "training.learning_rate"
GUIDE: dict[str, Any] = {
    "method": "random",
    "metric": {"name": "val_accuracy", "goal": "maximize"},
    "parameters": {RATE: {"values": [0.1, 0.2]}},
    "run_cap": 2,
}


@pytest.fixture
def run(trainyard: Any) -> Callable[..., Any]:
    """What a run would be of the guide's file with changes; None leaves a key out."""

    def run(*words: str, **changes: Any) -> Any:
        guide = {key: value for key, value in (GUIDE | changes).items() if value is not None}
        Path("guide.yaml").write_text(yaml.safe_dump(guide, sort_keys=False))
        return trainyard("run", "classification", "--sweep", "guide.yaml", "--dry-run", *words)

    return run


def test_misspelt_goal_is_not_taken_for_a_missing_one(run) -> None:
    ran = run(metric={"name": "val_accuracy", "gaol": "maximize"})
    assert (ran.code, ran.err) == (
        5,
        "error: guide.yaml:4:3: metric: unknown key 'gaol'; did you mean 'goal'?\n",
    )


@pytest.mark.parametrize("name", ["val_accuracy", "val_macro_f1", "valAccuracy", "acc5"])
def test_missing_goal_of_what_is_better_larger_is_asked_for(run, name: str) -> None:
    ran = run(metric={"name": name})
    assert (ran.code, ran.err) == (
        5,
        f"error: guide.yaml:2:1: metric.goal is missing: W&B would minimize '{name}', of which "
        "more is better; write goal: maximize\n",
    )


@pytest.mark.parametrize(
    ("name", "notice"),
    [
        ("val_loss", ""),
        ("train_accuracy_loss", ""),
        (
            "val_epsilon",
            "guide.yaml:2:1: metric.goal is missing; 'val_epsilon' is minimized, as W&B does\n",
        ),
    ],
)
def test_missing_goal_is_minimize_as_wandb_has_it(run, name: str, notice: str) -> None:
    ran = run(metric={"name": name})
    assert ran.code == 0, ran.err
    assert ran.err == f"{notice}nothing was started; there would be 2 trials\n"


def test_goal_and_run_cap_may_be_typed_beside_the_file(run) -> None:
    words = ("spec.objective.goal=maximize", "spec.maxTrials=1", "-o", "json")
    ran = run(*words, metric={"name": "val_accuracy"}, run_cap=None)
    assert [trial["spec"]["checkpoint"]["keepBest"] for trial in json.loads(ran.out)] == [
        {"metric": "val_accuracy", "mode": "max"}
    ]


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        (
            {"values": [1, 2], "probabilities": [0.9, 0.1]},
            "6:3: {}: each of values is as likely as the others here; leave probabilities out",
        ),
        (
            {"value": 1, "probabilities": "x"},
            "6:3: {}: each of values is as likely as the others here; leave probabilities out",
        ),
        ({"values": [1], "vales": [2]}, "9:5: {}: unknown key 'vales'; did you mean 'values'?"),
        (
            {"values": [1], "min": 0},
            "6:3: {}: 'values' and 'min' contradict each other; write one of them",
        ),
        (
            {"values": [1], "distribution": "uniform"},
            "6:3: {}: 'values' and 'distribution: uniform' contradict each other; write one of "
            "them",
        ),
        ({"distribution": "constant"}, "6:3: {}: distribution 'constant' needs value"),
        (
            {"distribution": "normal", "mu": 0, "sigma": 1},
            "6:3: {}: distribution 'normal' is not known; known are 'uniform', 'log_uniform', "
            "'log_uniform_values', 'int_uniform', 'q_uniform', 'categorical', 'constant'",
        ),
        (
            {"parameters": {"base": {"value": 1}}},
            "6:3: {}: holds parameters of its own; write training.learning_rate.base as one key",
        ),
        ([0.1, 0.2], "6:3: {}: write {{values: [0.1, 0.2]}}, or a distribution with min and max"),
        (None, "6:3: {}: write values, or a distribution with min and max"),
        ({"min": 0.1, "max": 1, "q": 0}, "6:3: {}: q must be above 0, such as 0.1"),
        (
            {"distribution": "log_uniform", "min": 0.1, "max": 1, "q": 0.1},
            "6:3: {}: q belongs to uniform and int_uniform; leave it out, or take one of them",
        ),
        ({"min": 0.1, "max": "x"}, "8:5: {}.max must be a number, not 'x'"),
        ({"min": 0.0, "max": 1.0}, "7:5: {}.min: must be more than 0; got 0.0"),
        ({"value": -1}, "6:3: {}: must be more than 0; got -1"),
    ],
)
def test_parameter_that_would_mean_something_else(run, parameter: Any, sentence: str) -> None:
    ran = run(parameters={RATE: parameter})
    told = sentence.format(f"parameters.{RATE}")
    assert (ran.code, ran.err) == (5, f"error: guide.yaml:{told}\n")


@pytest.mark.parametrize(
    ("parameter", "found"),
    [
        ({"value": 8}, [8]),
        ({"value": 8, "distribution": "constant"}, [8]),
        ({"values": [8, 16], "distribution": "categorical"}, [8, 16]),
        ({"distribution": "q_uniform", "min": 8, "max": 9}, [8.0, 9.0]),
        ({"distribution": "q_uniform", "min": 8, "max": 12, "q": 4}, [8.0, 12.0]),
        ({"min": 8, "max": 9}, [8, 9]),
    ],
)
def test_parameter_in_any_of_wandbs_forms(run, parameter: Any, found: list[Any]) -> None:
    trials = json.loads(run("-o", "json", parameters={"training.seed": parameter}).out)
    drawn = [yaml.safe_load(one["spec"]["overrides"][0].split("=")[1]) for one in trials]
    assert sorted(drawn) == found


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"run_cap": None},
            ":1:1: run_cap is missing, and method random would never end; write for instance "
            "run_cap: 20",
        ),
        ({"run_cap": "two"}, ":10:1: run_cap must be a whole number, not 'two'"),
        ({"seed": -1}, ":11:1: seed must be at least 0, not -1"),
        (
            {"metric": None},
            ": 'metric' is missing; write for instance metric: {name: val_accuracy, goal: "
            "maximize}",
        ),
        (
            {"metric": {"name": "val_accuracy", "goal": "maximize", "target": 0.9}},
            ":5:3: metric.target: a sweep here ends with its last trial; leave target out",
        ),
        (
            {"metric": {"name": "val_acuracy", "goal": "maximize"}},
            ":3:3: metric.name: recipe classification reports no 'val_acuracy'; did you mean "
            "'val_accuracy'?",
        ),
        (
            {"metric": {"name": "val_accuracy", "goal": "max"}},
            ":4:3: metric.goal must be one of 'maximize', 'minimize', not 'max'",
        ),
        (
            {"method": "grid", "parameters": {RATE: {"min": 0.1, "max": 0.2}}},
            ": method grid needs values, or a step, for each of its parameters; take random for a "
            "range",
        ),
        (
            {"command": ["${env}", "python", "${program}", "--epochs=3", "${args}"]},
            ":11:1: command is not run, the job beside this file is; leave command out, and write "
            "what it sets beside the job, such as training.epochs=3",
        ),
        (
            {"image_uri": "x"},
            ":11:1: 'image_uri' is not read from a guide's file; write a TrainingSweep, whose "
            "earlyStopping and failurePolicy say more (docs/sweeps.md)",
        ),
    ],
)
def test_file_is_refused_in_its_own_words(run, changes: dict[str, Any], sentence: str) -> None:
    ran = run(**changes)
    assert (ran.code, ran.err) == (5, f"error: guide.yaml{sentence}\n")


def test_what_was_typed_is_called_as_it_was_typed(run) -> None:
    ran = run("spec.parallelism=0", "spec.maxTrials=0")
    assert ran.err == (
        "error: guide.yaml: spec.parallelism must be at least 1, not 0\n"
        "  | guide.yaml: spec.maxTrials must be at least 1, not 0\n"
    )


def test_what_the_job_answers_is_said_to_be_left_out(run) -> None:
    command = ["${env}", "python", "${program}", "${args}"]
    ran = run(program="train.py", command=command, project="lesions")
    assert ran.code == 0
    assert ran.err.splitlines()[0] == (
        "guide.yaml: not needed here and left out: 'program', 'command', 'project'"
    )


def test_key_that_the_file_has_twice_is_refused(run, trainyard) -> None:
    run()
    with Path("guide.yaml").open("a") as file:
        file.write("run_cap: 3\n")
    ran = trainyard("run", "classification", "--sweep", "guide.yaml", "--dry-run")
    line = len(Path("guide.yaml").read_text().splitlines())
    told = f"guide.yaml:{line}:1: run_cap is given twice; leave one of them"
    assert (ran.code, ran.err) == (5, f"error: {told}\n")
