"""The report in storage, made from what trials left there."""

import json
from pathlib import Path

import pytest

from trainyard_operator.layout import RESULT_FILE, metrics_piece, run_prefix
from trainyard_operator.sweep.table import TABLE_ENV, ReportedTrial, SweepTable
from trainyard_trainer import sweep_report
from trainyard_trainer.storage import Storage, open_storage

PNG = b"\x89PNG"


def make_table(method: str = "random") -> SweepTable:
    trials = tuple(
        ReportedTrial(
            number=number,
            name=f"digits-{number}",
            job=f"digits-{number}",
            uid=f"u{number}",
            state="Succeeded" if number < 5 else "Failed",
            overrides={"training.learning_rate": 10.0**-number, "model.variant": "ab"[number % 2]},
            value=0.5 if number < 5 else None,
            message="" if number < 5 else "exit code 1",
        )
        for number in range(6)
    )
    return SweepTable(
        name="digits",
        namespace="research",
        uid="u",
        method=method,
        metric="val_accuracy",
        goal="maximize",
        trials=trials,
    )


def left_by(storage: Storage, trial: ReportedTrial) -> None:
    """A run's result and table, as the trainer writes them."""
    home = storage.child(f"trials/{run_prefix('research', trial.job, trial.uid)}")
    score = 0.5 + trial.number / 10
    result = {"metrics": {"val_accuracy": score, "test_accuracy": score - 0.01}}
    home.write(RESULT_FILE, json.dumps(result).encode())
    rows = f"step,epoch,stage,attempt,time,val_accuracy\n1,0,train,1,t,0.2\n2,0,train,1,t,{score}\n"
    home.write(metrics_piece(1, 0, 0), rows.encode())


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    found = open_storage(tmp_path.as_uri())
    for trial in make_table().trials[:5]:
        left_by(found, trial)
    return found


def test_the_objective_is_what_result_json_says(storage):
    full = sweep_report.read_trials(storage, make_table())
    assert [trial.value for trial in full.trials] == [0.5, 0.6, 0.7, 0.8, 0.9, None]
    assert full.trials[4].metrics == {"val_accuracy": 0.9, "test_accuracy": 0.89}
    assert full.trials[4].curve == ((1, 0.2), (2, 0.9))
    assert full.trials[5].curve == ()


@pytest.mark.slow
def test_a_report_has_tables_and_plots(storage, tmp_path):
    sweep_report.write_report(storage, make_table())
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == [
        "report.html",
        "report.md",
        "trials.csv",
    ]
    page = (tmp_path / "report" / "report.html").read_text()
    for name in ("learning curves", "parallel coordinates", "importance"):
        assert f'<img alt="{name}"' in page
    assert "4 more" not in page
    assert "Best val_accuracy 0.9 (digits-4)" in page


@pytest.mark.slow
def test_an_ablation_shows_its_differences(storage, tmp_path):
    sweep_report.write_report(storage, make_table("list"))
    assert '<img alt="differences"' in (tmp_path / "report" / "report.html").read_text()


def test_without_matplotlib_the_page_says_so(storage, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    sweep_report.write_report(storage, make_table())
    page = (tmp_path / "report" / "report.html").read_text()
    assert "No plots: the image has no matplotlib" in page


def test_the_command_reads_its_table_from_the_environment(storage, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.setenv(TABLE_ENV, make_table().to_text())
    assert sweep_report.main([tmp_path.as_uri()]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path.as_uri()}/report: 5 of 6 trials")
    monkeypatch.setenv(TABLE_ENV, "nonsense")
    assert sweep_report.main([tmp_path.as_uri()]) == 1
    assert capsys.readouterr().err.startswith(f"{TABLE_ENV}: not a sweep's table")
