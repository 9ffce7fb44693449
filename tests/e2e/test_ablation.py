"""mar-gan's ablation study as one object: 16 variants, two at a time, while operators are killed.

Small enough for two nodes without a GPU: what the variants score means nothing, that each of them
ran once and what the report makes of their results does.
"""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from demo.jobs import BUCKET, CHECKOUT, upload_folder
from e2e.kube import Namespace
from e2e.sweep_runs import Killer, SweepRun, run_to_its_end

from trainyard_trainer.recipes.mar_gan.synth import Size, write_syndeeplesion
from trainyard_trainer.recipes.mar_gan.variants import ABLATION

pytestmark = pytest.mark.slow
NAME = "mar-gan-ablation"
VARIANTS = ["full", *ABLATION]
KEYS = {key for settings in ABLATION.values() for key in settings}
DATA = Size(patients=(5, 2), masks=(4, 2))
SMALL = [
    "training.epochs=2",
    "training.batch_size=4",
    "training.evaluate_every_epochs=1",
    "data.artifacts_per_slice=4",
    "data.validation_artifacts_per_slice=2",
]
KILLS = 12


def make_sweep(job: dict[str, Any], dataset: str) -> dict[str, Any]:
    """The one of configs/ for this cluster."""
    path = CHECKOUT / "configs" / "sweeps" / f"{NAME}.yaml"
    sweep: dict[str, Any] = yaml.safe_load(path.read_text())
    here = {
        field: job["spec"][field]
        for field in ("storage", "template", "image")
        if field in job["spec"]
    }
    data = {"uri": dataset, "mountPath": "/data"}
    sweep["spec"]["template"]["spec"] |= {**here, "dataset": data, "overrides": SMALL}
    return sweep


@pytest.fixture(scope="module")
def dataset_of_slices(cluster: Any, dataset: str, tmp_path_factory: Any) -> str:
    """A few drawn patients in S3; returns their URI."""
    folder: Path = tmp_path_factory.mktemp("slices")
    write_syndeeplesion(folder, DATA)
    upload_folder(cluster.s3_endpoint, folder, "datasets/ablation")
    return f"s3://{BUCKET}/datasets/ablation"


@pytest.fixture(scope="module")
def run(namespace: Namespace, make_job: Any, cluster: Any, dataset_of_slices: str) -> SweepRun:
    """After its end."""
    namespace.apply(make_sweep(make_job(NAME), dataset_of_slices))
    run, killer = SweepRun(namespace, NAME, cluster.s3_endpoint), Killer(namespace, seed=11)
    run_to_its_end(run, killer, KILLS, seconds=600)
    assert killer.kills >= 5
    return run


@pytest.fixture(scope="module")
def scores(run: SweepRun) -> dict[str, dict[str, float]]:
    """The metrics of each variant's result.json, in their order."""
    found = run.results()
    return {name: found[f"{NAME}-{n}"]["metrics"] for n, name in enumerate(VARIANTS)}


def test_every_variant_was_trained_once(run: SweepRun) -> None:
    trials = run.trials()
    assert set(trials) == {f"{NAME}-{number}" for number in range(len(VARIANTS))}
    assert {trial["status"]["phase"] for trial in trials.values()} == {"Succeeded"}
    counts = run.status()["counts"]
    assert (counts["created"], counts["succeeded"]) == (len(VARIANTS), len(VARIANTS))
    assert set(run.results()) == set(trials)


def test_table_is_the_one_made_by_hand(run: SweepRun, scores: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(run.report("trials.csv"))))
    names = {metric for metrics in scores.values() for metric in metrics}
    for number, (row, (name, metrics)) in enumerate(zip(rows, scores.items(), strict=True)):
        told = {metric: row.pop(metric) for metric in names}
        # Without a radius there is no band around the metal to be measured.
        assert {metric for metric, cell in told.items() if not cell} == names - set(metrics)
        assert {m: float(told[m]) for m in metrics} == pytest.approx(metrics, rel=1e-9)
        assert row == {
            "number": str(number),
            "name": name,
            "job": f"{NAME}-{number}",
            "state": "Succeeded",
            "message": "",
            **dict.fromkeys(KEYS, ""),
            **{key: cell_of(value) for key, value in ABLATION.get(name, {}).items()},
        }


def cell_of(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_variant_but_the_default_loss_trains_another_model(scores: dict[str, Any]) -> None:
    full = scores["full"]["val_psnr"]
    assert [name for name in ABLATION if scores[name]["val_psnr"] == full] == ["A7"]


def test_differences_are_those_to_the_full_model(run: SweepRun, scores: dict[str, Any]) -> None:
    base = scores["full"]["val_psnr"]
    lines = run.report("report.md").partition("## Against full\n\n")[2].partition("\n\n")[0]
    told = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()[2:]]
    assert told == [
        [name, "1", f"{metrics['val_psnr'] - base:+.4g}", "one pair: none"]
        for name, metrics in scores.items()
        if name != "full"
    ]


def test_status_has_the_best_and_no_mean_over_variants(
    run: SweepRun, scores: dict[str, Any]
) -> None:
    values = {name: metrics["val_psnr"] for name, metrics in scores.items()}
    status = run.status()
    assert status["best"]["value"] == pytest.approx(max(values.values()), rel=1e-5)
    assert values[status["best"]["name"]] == max(values.values())
    assert "summary" not in status  # Variants are no repeats of one setting.
    assert "<img" in run.report("report.html")
