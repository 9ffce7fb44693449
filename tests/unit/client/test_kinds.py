"""A file that holds something else than what is wanted is told so in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec

GUIDE: dict[str, Any] = {
    "method": "random",
    "metric": {"name": "val_f1_score", "goal": "maximize"},
    "parameters": {"training.learning_rate": {"values": [0.1, 0.2]}},
    "run_cap": 2,
}


def write(name: str, document: Any) -> str:
    Path(name).write_text(yaml.safe_dump(document, sort_keys=False))
    return name


def sweep(**fields: Any) -> dict[str, Any]:
    metadata = {"name": "digits"}
    return {"kind": "TrainingSweep", "metadata": metadata, "spec": make_spec()} | fields


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("TrainingSweeps", "did you mean 'TrainingSweep'?"),
        ("trainingjob", "did you mean 'TrainingJob'?"),
        ("Pod", "known are 'TrainingJob', 'TrainingSweep'"),
    ],
)
@pytest.mark.parametrize("verb", [["run"], ["config", "check"], ["submit", "--dry-run"]])
def test_unknown_kind_is_all_that_is_said(trainyard, verb, kind: str, hint: str) -> None:
    ran = trainyard(*verb, write("sweep.yaml", sweep(kind=kind)))
    sentence = f"sweep.yaml:1:1: kind: unknown kind '{kind}'; {hint}"
    assert (ran.code, ran.err) == (5, f"error: {sentence}\n")


def test_sweep_where_a_job_is_wanted(trainyard) -> None:
    ran = trainyard("config", "show", write("sweep.yaml", sweep()))
    assert (ran.code, ran.err) == (
        5,
        "error: sweep.yaml:1:1: holds a TrainingSweep, where a TrainingJob is wanted; run, submit "
        "and config check take one, by the name of its file\n",
    )


def test_guides_sweep_beside_a_sweep_instead_of_a_job(trainyard) -> None:
    guide = write("guide.yaml", GUIDE)
    ran = trainyard("run", write("sweep.yaml", sweep()), "--sweep", guide)
    assert (ran.code, ran.err) == (
        2,
        "error: sweep.yaml: holds a TrainingSweep, and --sweep goes beside a job or a recipe; name "
        "one of these, or leave --sweep out\n",
    )


def test_sweep_where_a_guides_is_wanted(trainyard) -> None:
    ran = trainyard("run", "skin-lesion", "--sweep", write("sweep.yaml", sweep()))
    assert (ran.code, ran.err) == (
        5,
        "error: sweep.yaml: holds a TrainingSweep, which needs no job: trainyard run sweep.yaml\n",
    )


@pytest.mark.parametrize("verb", [["run"], ["config", "check"]])
def test_guides_sweep_alone_says_how_it_runs(trainyard, verb) -> None:
    ran = trainyard(*verb, write("guide.yaml", GUIDE))
    assert (ran.code, ran.err) == (
        5,
        "error: guide.yaml: holds a guide's sweep and no job; run it beside one: trainyard run JOB "
        "--sweep guide.yaml\n",
    )


@pytest.mark.parametrize("verb", [["run"], ["config", "check"]])
def test_mistake_of_a_guides_sweep_alone_comes_first(trainyard, verb) -> None:
    metric = {"name": "val_f1_score", "gaol": "maximize"}
    ran = trainyard(*verb, write("guide.yaml", GUIDE | {"metric": metric}))
    told = "guide.yaml:4:3: metric: unknown key 'gaol'; did you mean 'goal'?"
    assert (ran.code, ran.err) == (5, f"error: {told}\n")


@pytest.mark.parametrize(
    ("guide", "sentence"),
    [
        (
            {"metrics" if key == "metric" else key: value for key, value in GUIDE.items()},
            ":2:1: unknown key 'metrics'; did you mean 'metric'?",
        ),
        (
            GUIDE | {"metric": {"goal": "maximize"}},
            ":2:1: metric.name is required, such as metric: {name: val_loss}",
        ),
        (
            GUIDE | {"parameters": ["lr"]},
            ":5:1: parameters: write keys, each with values or a distribution",
        ),
        (
            {"method": "random"},
            ": 'metric' is missing; write for instance metric: {name: val_accuracy, goal: "
            "maximize}\n  | guide.yaml: 'parameters' is missing; write for instance parameters: "
            "{training.learning_rate: {values: [0.1, 0.01]}}",
        ),
        ([1], ": holds no sweep; it has 'method', 'metric' and 'parameters'"),
    ],
)
def test_mistake_in_a_guides_sweep(trainyard, guide: Any, sentence: str) -> None:
    ran = trainyard("run", "skin-lesion", "--sweep", write("guide.yaml", guide))
    assert (ran.code, ran.err) == (5, f"error: guide.yaml{sentence}\n")
