import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainyard_trainer.recipes.mar_gan import ablation
from trainyard_trainer.recipes.mar_gan.ablation import Row

SCORES = {"test_psnr": 30.0, "test_ssim": 0.9, "test_mae": 0.01, "test_input_psnr": 20.0}


def options(*words: str) -> Any:
    return ablation.build_parser().parse_intermixed_args(
        ["job.yaml", "--output_dir", "out", *words]
    )


def finish(directory: Path, name: str, uid: str, **metrics: float) -> None:
    folder = directory / "runs" / "default" / ablation.job_name(name) / uid
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"metrics": SCORES | metrics}))


def test_a_run_is_the_variant_with_the_guides_flags() -> None:
    given = options(
        "--num_epochs", "10", "--gpus_per_node", "4", "--dataset", "data", "training.seed=1"
    )
    assert ablation.run_command(given, "B3-r7") == [
        sys.executable,
        *("-m", "trainyard.cli", "run", "job.yaml"),
        *("--name", "ablation-b3-r7", "--storage", "out/runs", "--dataset", "data"),
        "training.metal_aware.dilation_radius=7",
        "training.epochs=10",
        "spec.processesPerNode=4",
        "training.seed=1",
    ]


def test_a_step_takes_its_parts_away_whatever_the_jobs_file_sets() -> None:
    parts = ("feature_matching", "edge", "physics", "metal_consistency")
    assert ablation.settings_of("v2") == [
        "training.loss_weights.mse=1.0",
        "training.loss_weights.reconstruction=0.0",
        *(f"training.loss_weights.{part}=0.0" for part in parts),
    ]
    assert ablation.settings_of("full") == []


def test_the_study_begins_with_the_full_model() -> None:
    names = ablation.names_of(None)
    assert names[:3] == ["full", "A0", "A1"]
    assert len(names) == 16
    assert ablation.names_of("A7, v3") == ["A7", "v3"]


def test_an_unknown_run_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        ablation.main(["job.yaml", "--output_dir", "out", "--only", "A9"])
    assert "error: --only: there is no run 'A9'; write some of baseline" in capsys.readouterr().err


def test_the_table_compares_with_the_full_model_and_names_failures() -> None:
    rows = [
        Row("full", "all components", SCORES),
        Row("A0", "MSE only", SCORES | {"test_psnr": 28.5}),
        Row("A1", "no physics", {}),
    ]
    assert ablation.table_markdown(rows).splitlines()[2:] == [
        "| full | all components | 30.00 | +0.00 | 0.9000 | 0.0100 | failed | failed |",
        "| A0 | MSE only | 28.50 | -1.50 | 0.9000 | 0.0100 | failed | failed |",
        "| A1 | no physics | failed |  | failed | failed | failed | failed |",
    ]
    lines = ablation.table_csv(rows).splitlines()
    assert lines[0].startswith("run,what,test_psnr,test_ssim,")
    assert lines[2].startswith("A0,MSE only,28.5,0.9,0.01,")
    assert lines[3] == "A1,no physics" + 10 * ","


def test_finished_runs_are_not_repeated_and_end_in_table_and_plot(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    started = []
    monkeypatch.setattr(ablation.subprocess, "run", lambda words, check: started.append(words))
    for name in ("full", "A0"):
        finish(tmp_path, name, "u1")
    with pytest.raises(SystemExit) as ended:
        ablation.main(["job.yaml", "--output_dir", str(tmp_path), "--only", "full,A0,A6"])
    assert ended.value.code == 1
    assert [words[-1] for words in started] == ["training.loss_weights.edge=0.0"]
    output = capsys.readouterr()
    assert output.out.startswith("Run 3 of 3: A6, no edge.\n| run | what |")
    assert output.err == "error: these runs failed: A6; their output is above.\n"
    assert len((tmp_path / "ablation.csv").read_text().splitlines()) == 4
    with Image.open(tmp_path / "ablation.png") as image:
        assert image.size == (900, 450)
