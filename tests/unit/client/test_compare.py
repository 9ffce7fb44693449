import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from trainyard_operator.layout import run_prefix
from trainyard_trainer.storage import open_storage

ACCURACIES = (0.9, 0.95, 0.8)


@pytest.fixture
def folds(place: Path) -> list[str]:
    """Three ended jobs, one for each fold, and one that has not ended."""
    base = open_storage((place / "bucket").as_uri())
    for fold, accuracy in enumerate(ACCURACIES):
        prefix = run_prefix("default", f"fold-{fold}", "u1")
        result: dict[str, Any] = {
            "config": {"data": {"fold": fold}, "training": {"epochs": 3}},
            "metrics": {"test_accuracy": accuracy, "val_accuracy": 0.5},
        }
        base.write(f"{prefix}/run.json", b"{}")
        base.write(f"{prefix}/result.json", json.dumps(result).encode())
    base.write(f"{run_prefix('default', 'running', 'u1')}/run.json", b"{}")
    return ["fold-0", "fold-1", "fold-2"]


def test_folds_are_shown_with_what_differs_their_mean_and_deviation(trainyard, folds) -> None:
    ran = trainyard("compare", *folds, "--storage", "bucket")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["JOB", "DATA.FOLD", "TEST_ACCURACY"],
        ["fold-0", "0", "0.9"],
        ["fold-1", "1", "0.95"],
        ["fold-2", "2", "0.8"],
        ["mean", f"{statistics.fmean(ACCURACIES):.4g}"],
        ["std", f"{statistics.stdev(ACCURACIES):.4g}"],
    ]


def test_programs_get_the_same_as_a_document(trainyard, folds) -> None:
    ran = trainyard("compare", *folds, "--storage", "bucket", "-o", "json")
    found = json.loads(ran.out)
    assert found["jobs"][1] == {
        "name": "fold-1",
        "config": {"data.fold": 1},
        "metrics": {"test_accuracy": 0.95},
    }
    assert found["std"]["test_accuracy"] == pytest.approx(statistics.stdev(ACCURACIES))


def test_unknown_metric_and_unended_job_are_named(trainyard, folds) -> None:
    ran = trainyard("compare", "fold-0", "--storage", "bucket", "--metric", "test_f1")
    assert (
        ran.err == "error: 'fold-0' has no metric 'test_f1'; it has test_accuracy, val_accuracy\n"
    )
    ran = trainyard("compare", "running", "--storage", "bucket")
    assert (ran.code, ran.err.splitlines()[0]) == (3, "error: 'running' has no result yet")
