"""What is valid in a sweep's file and hardly meant is told, and runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec, write_sweep_file

RATES = {"training.learning_rate": {"values": [0.1, 0.2]}}
ABOUT_GOAL = "minimizes 'val_accuracy', of which more is better by its name; write maximize unless"
COMMANDS = [("run", "--dry-run"), ("config", "check")]


def notes(trainyard: Any, words: tuple[str, ...], **fields: Any) -> list[str]:
    """Lines on stderr but the last, which is of what the command did."""
    ran = trainyard(*words, write_sweep_file(make_spec(**fields)))
    assert ran.code == 0, ran.err
    return list(ran.err.splitlines()[:-1])


def random(**fields: Any) -> dict[str, Any]:
    return {"method": "random", "folds": None, "parameters": RATES} | fields


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    ("metric", "goal", "told"),
    [
        ("val_accuracy", "minimize", f"{ABOUT_GOAL} that is meant"),
        (
            "val_loss",
            "maximize",
            "maximizes 'val_loss', of which less is better by its name; write minimize unless that "
            "is meant",
        ),
    ],
)
def test_goal_against_the_metrics_name(trainyard, words, metric: str, goal: str, told: str) -> None:
    [line] = notes(trainyard, words, objective={"metric": metric, "goal": goal})
    place, _, sentence = line.partition(": ")
    number = int(place.split(":")[1])
    assert Path("sweep.yaml").read_text().splitlines()[number - 1] == f"    goal: {goal}"
    assert sentence == f"spec.objective.goal: {told}"


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_goal_of_a_metric_whose_name_says_nothing(trainyard, goal: str) -> None:
    spec = make_spec(objective={"metric": "bits", "goal": goal})
    spec["template"]["spec"] = {"command": ["train"], "storage": {"uri": "s3://bucket/sweeps"}}
    ran = trainyard("config", "check", write_sweep_file(spec))
    assert (ran.code, len(ran.err.splitlines())) == (0, 1)


def test_goal_of_a_guides_file_is_called_as_there(trainyard) -> None:
    metric = {"name": "val_accuracy", "goal": "minimize"}
    guide = {"method": "grid", "metric": metric, "parameters": RATES}
    Path("guide.yaml").write_text(yaml.safe_dump(guide, sort_keys=False))
    ran = trainyard("run", "classification", "--sweep", "guide.yaml", "--dry-run")
    assert ran.err.splitlines()[0] == f"guide.yaml:4:3: metric.goal: {ABOUT_GOAL} that is meant"


@pytest.mark.parametrize("words", COMMANDS)
def test_more_trials_than_there_are_settings(trainyard, words) -> None:
    [line] = notes(trainyard, words, **random(maxTrials=4))
    assert line.partition(": ")[2] == (
        "spec.maxTrials: only 2 of 4 trials are possible: parameters have 2 settings"
    )
    single = {"training.learning_rate": {"values": [0.1]}}
    [line] = notes(trainyard, words, **random(maxTrials=4, parameters=single))
    assert line.endswith("only 1 of 4 trials are possible: parameters have 1 setting")


@pytest.mark.parametrize(
    "fields",
    [
        random(maxTrials=2),
        random(maxTrials=4, parameters={"training.seed": {"values": [1, 2, 3, 4]}}),
        random(method="grid", maxTrials=4),
        random(
            maxTrials=4,
            parameters={
                "training.learning_rate": {"distribution": "uniform", "min": 0.1, "max": 0.2}
            },
        ),
    ],
)
def test_no_more_trials_than_settings(trainyard, fields: dict[str, Any]) -> None:
    assert notes(trainyard, ("config", "check"), **fields) == []
