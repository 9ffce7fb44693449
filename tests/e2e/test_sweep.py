"""Five folds of the digits as one object, two at a time, while the operator is killed."""

import csv
import io
import statistics
from typing import Any

import pytest
from e2e.kube import Namespace
from e2e.sweep_runs import Killer, SweepRun, run_to_its_end
from patience import HANG_SECONDS

NAME = "folds"
FOLDS = 5
KILLS = 5


def make_sweep(job: dict[str, Any]) -> dict[str, Any]:
    """Of the digits job, on one node each."""
    config = {**job["spec"]["config"], "training": {**job["spec"]["config"]["training"]}}
    config["training"]["epochs"] = 3
    return {
        "apiVersion": job["apiVersion"],
        "kind": "TrainingSweep",
        "metadata": {"name": NAME},
        "spec": {
            "template": {"spec": {**job["spec"], "nodes": 1, "config": config}},
            "method": "folds",
            "folds": FOLDS,
            "objective": {"metric": "val_accuracy", "goal": "maximize"},
            "parallelism": 2,
        },
    }


@pytest.fixture(scope="module")
def run(namespace: Namespace, make_job: Any, cluster: Any) -> SweepRun:
    """After its end."""
    namespace.apply(make_sweep(make_job(NAME)))
    run = SweepRun(namespace, NAME, cluster.s3_endpoint)
    killer = Killer(namespace, seed=5, between=(2, 6))
    run_to_its_end(run, killer, KILLS, seconds=HANG_SECONDS)
    assert killer.kills == KILLS
    return run


def test_every_fold_was_trained_once(run: SweepRun) -> None:
    trials = run.trials()
    assert sorted(trials) == [f"{NAME}-{fold}" for fold in range(FOLDS)]
    assert {trial["status"]["phase"] for trial in trials.values()} == {"Succeeded"}
    counts = run.status()["counts"]
    assert (counts["created"], counts["succeeded"]) == (FOLDS, FOLDS)


def test_summary_is_what_the_results_give_by_hand(run: SweepRun) -> None:
    values = [result["metrics"]["val_accuracy"] for result in run.results().values()]
    assert len(values) == FOLDS
    summary = run.status()["summary"]
    assert summary["mean"] == pytest.approx(statistics.fmean(values), abs=1e-4)
    assert summary["std"] == pytest.approx(statistics.stdev(values), abs=1e-4)


def test_report_has_the_values_of_the_results(run: SweepRun) -> None:
    rows = csv.DictReader(io.StringIO(run.report("trials.csv")))
    told = {row["job"]: float(row["val_accuracy"]) for row in rows}
    exact = {job: result["metrics"]["val_accuracy"] for job, result in run.results().items()}
    assert told == pytest.approx(exact, abs=1e-6)
    for name in ("report.md", "report.html"):
        assert run.report(name)


def test_best_fold_can_be_fetched_by_the_sweeps_name(
    run: SweepRun, namespace: Namespace, tmp_path: Any
) -> None:
    printed = namespace.trainyard("fetch", f"sweep/{NAME}", "--best", "-d", str(tmp_path))
    assert (tmp_path / printed.strip().rpartition("/")[2] / "model.pt").is_file()
