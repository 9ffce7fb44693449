"""What is wrong with a sweep's file is told before anything runs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec


def write_sweep(spec: dict[str, Any], **fields: Any) -> Path:
    manifest = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingSweep",
        "metadata": {"name": "digits"},
        "spec": spec,
        **fields,
    }
    Path("sweep.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return Path("sweep.yaml")


def refusal(trainyard: Any, spec: dict[str, Any], **fields: Any) -> str:
    """The sentence, without the place in the file."""
    ran = trainyard("run", write_sweep(spec, **fields), "--dry-run")
    assert ran.code == 5, ran.err
    found = re.fullmatch(r"error: sweep\.yaml:\d+:\d+: (.*)\n", ran.err, re.DOTALL)
    assert found, ran.err
    return found[1]


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("val_acuracy", "did you mean 'val_accuracy'?"),
        ("test_f1", "did you mean 'test_macro_f1'?"),
        ("psnr", "known are 'val_loss', 'val_accuracy', 'val_macro_f1', 'val_epsilon'"),
    ],
)
def test_objective_that_the_recipe_does_not_report(trainyard, metric: str, sentence: str) -> None:
    spec = make_spec(objective={"metric": metric, "goal": "maximize"})
    assert refusal(trainyard, spec) == (
        f"spec.objective.metric: recipe classification reports no '{metric}'; {sentence}"
    )


@pytest.mark.parametrize("metric", ["val_macro_f1", "accuracy", "test_accuracy", "train_loss"])
def test_objective_that_the_recipe_reports_or_may_report(trainyard, metric: str) -> None:
    spec = make_spec(objective={"metric": metric, "goal": "maximize"})
    assert trainyard("run", write_sweep(spec), "--dry-run").code == 0


def test_objective_of_a_program_is_not_known_beforehand(trainyard) -> None:
    template = {"spec": {"command": ["train"]}}
    spec = make_spec(template=template, objective={"metric": "x", "goal": "minimize"})
    assert trainyard("run", write_sweep(spec), "--dry-run").code == 0
