"""A trial that early stopping stopped and promoted, beside one that was left alone."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard_trainer.digits import write_digits
from trainyard_trainer.metrics_table import read_metrics
from trainyard_trainer.storage import open_storage

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAINING = {"epochs": 4, "batch_size": 64, "schedule": {"name": "constant"}}
RUNG = 40
"""Steps of two epochs; the next rung would be the end."""
TEMPLATE: dict[str, Any] = {
    "recipe": "classification",
    "config": {"training": TRAINING, "data": {"image_size": 32}},
    "checkpoint": {"everyEpochs": 1},
}
RATES = [0.003, 0.0003, 1e-5, 2e-5]
PROMOTED = 0
"""Stopped while it is the only one at its rung, and promoted once it is known to be of the best."""


def write(name: str, kind: str, spec: dict[str, Any]) -> Path:
    manifest = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump(manifest))
    return path


def curve(pattern: str) -> list[tuple[str, str, str]]:
    """Step, accuracy and loss of each evaluation, as they were written."""
    [home] = Path("runs").glob(pattern)
    rows = read_metrics(open_storage(home.absolute().as_uri()))
    assert rows is not None
    found = csv.DictReader(rows.to_csv().splitlines())
    return [(r["step"], r["val_accuracy"], r["val_loss"]) for r in found if r["val_accuracy"]]


def test_a_promoted_trials_curve_is_that_of_an_uninterrupted_one(trainyard) -> None:
    write_digits(Path("digits"))
    search = {
        "template": {"spec": TEMPLATE},
        "method": "grid",
        "parameters": {"training.learning_rate": {"values": RATES}},
        "objective": {"metric": "val_accuracy", "goal": "maximize"},
        "earlyStopping": {"method": "asha", "minSteps": RUNG, "reductionFactor": 2},
    }
    ran = trainyard("run", write("asha", "TrainingSweep", search), "--dataset", "digits")
    assert ran.code == 0, ran.err
    story = [line for line in ran.err.splitlines() if line.startswith(f"asha-{PROMOTED} (")]
    states = [line.split("): ")[1].split(",")[0] for line in story]
    # A look may fall between its rest and the verdict.
    told = [state for state in states if state != "Suspended"]
    assert told == ["Running", "Stopped", "Running", "Succeeded"], ran.err
    assert "2 of 4 trials succeeded, 2 were stopped early." in ran.out
    whole = trainyard(
        "run",
        write("alone", "TrainingJob", TEMPLATE),
        "--dataset",
        "digits",
        f"training.learning_rate={RATES[PROMOTED]}",
    )
    assert whole.code == 0, whole.err
    alone = curve("default/alone/*")
    assert len(alone) == TRAINING["epochs"]
    assert curve(f"default/asha/*/trials/default/asha-{PROMOTED}/*") == alone
