"""The ablation study: one run after the other on this machine, then one table and a plot.

    python -m trainyard_trainer.recipes.mar_gan.ablation configs/mar-gan.yaml --dataset DIR \
        --output_dir results/ablation_studies --num_epochs 10 --gpus_per_node 2

Each run is `trainyard run JOB` with the settings of variants.py; one that is done is not run
again, so that the command may be interrupted and repeated. It leaves `ablation.csv`, `ablation.md`
and `ablation.png`.
"""

import argparse
import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.events import encode_png
from trainyard_trainer.pictures import Drawing
from trainyard_trainer.recipes.mar_gan.variants import ABLATION, MEANINGS, STEPS, VARIANTS

COLUMNS = (
    "test_psnr",
    "test_ssim",
    "test_mae",
    "test_rmse",
    "test_mae_metal",
    "test_psnr_metal",
    "test_psnr_band",
    "test_psnr_rest",
    "test_input_psnr",
    "test_li_psnr",
)
REFERENCE = "full"


class Row(NamedTuple):
    """One run's end."""

    name: str
    meaning: str
    metrics: Mapping[str, float]
    """Empty where the run failed."""


def run_command(options: argparse.Namespace, name: str) -> list[str]:
    """What is typed for one run."""
    words = [sys.executable, "-m", "trainyard.cli", "run", options.job]
    words += ["--name", job_name(name), "--storage", str(options.output_dir / "runs")]
    words += ["--dataset", str(options.dataset)] if options.dataset else []
    words += settings_of(name)
    if options.num_epochs:
        words.append(f"training.epochs={options.num_epochs}")
    if options.gpus_per_node:
        words.append(f"spec.processesPerNode={options.gpus_per_node}")
    return [*words, *options.overrides]


def settings_of(name: str) -> list[str]:
    """A variant as assignments: its keys, for what a job's file sets beats a `variant`."""
    return [f"{key}={json.dumps(value)}" for key, value in VARIANTS[name].items()]


def job_name(variant: str) -> str:
    """Of the run of a variant."""
    return f"ablation-{variant.lower()}"


def read_metrics(storage: Path, name: str) -> dict[str, float]:
    """Of the newest finished run of a variant below `storage`; empty if there is none."""
    files = sorted(
        storage.glob(f"*/{job_name(name)}/*/result.json"), key=lambda file: file.stat().st_mtime
    )
    if not files:
        return {}
    found: dict[str, float] = json.loads(files[-1].read_text(encoding="utf-8"))["metrics"]
    return found


def table_csv(rows: Sequence[Row]) -> str:
    """One row a run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "what", *COLUMNS])
    for row in rows:
        values = [row.metrics.get(name) for name in COLUMNS]
        texts = ["" if value is None else f"{value:.6g}" for value in values]
        writer.writerow([row.name, row.meaning, *texts])
    return out.getvalue()


def table_markdown(rows: Sequence[Row]) -> str:
    """The same for people, with what each run's PSNR loses against the full model."""
    full = {row.name: row.metrics.get("test_psnr") for row in rows}.get(REFERENCE)
    lines = [
        "| run | what | PSNR dB | against full | SSIM | MAE | RMSE | metal MAE |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        psnr = row.metrics.get("test_psnr")
        change = "" if psnr is None or full is None else f"{psnr - full:+.2f}"
        names = ("test_ssim", "test_mae", "test_rmse", "test_mae_metal")
        rest = [_text(row.metrics.get(name), 4) for name in names]
        cells = [row.name, row.meaning, _text(psnr, 2), change, *rest]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row]) -> Drawing:
    """PSNR of each run, beside that of the image as it came and interpolated."""
    done = [row for row in rows if "test_psnr" in row.metrics]

    def onto(figure: Any) -> None:
        axis = figure.subplots()
        values = [row.metrics["test_psnr"] for row in done]
        axis.bar([row.name for row in done], values, color="#1f77b4")
        lines = {"test_input_psnr": "uncorrected", "test_li_psnr": "interpolated"}
        for number, (name, label) in enumerate(lines.items()):
            level = done[0].metrics.get(name, math.nan) if done else math.nan
            if not math.isnan(level):
                axis.axhline(level, color=("#d62728", "#2ca02c")[number], label=label)
                values.append(level)
        axis.set_ylim(min(values, default=0) - 1, max(values, default=1) + 1)
        axis.set_ylabel("PSNR of the test images, dB")
        axis.tick_params(axis="x", rotation=45)
        axis.legend()

    return Drawing(draw=onto, inches=(9.0, 4.5))


def _text(value: float | None, digits: int) -> str:
    return "failed" if value is None else f"{value:.{digits}f}"


def write_tables(directory: Path, rows: Sequence[Row]) -> None:
    """ablation.csv, ablation.md and ablation.png."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ablation.csv").write_text(table_csv(rows), encoding="utf-8")
    (directory / "ablation.md").write_text(table_markdown(rows), encoding="utf-8")
    (directory / "ablation.png").write_bytes(encode_png(draw(rows).render()))


def meaning_of(name: str) -> str:
    """For the tables."""
    return MEANINGS.get(name, "all components" if name == REFERENCE else "variant")


def build_parser() -> argparse.ArgumentParser:
    """The guide's flags, and which runs."""
    parser = argparse.ArgumentParser(description="Run the ablation study on this machine.")
    parser.add_argument("job", help="TrainingJob of recipe mar-gan, or 'mar-gan'")
    parser.add_argument("overrides", nargs="*", help="key=value for every run")
    parser.add_argument("--output_dir", type=Path, required=True, help="made if absent")
    parser.add_argument("--dataset", help="data, instead of the file's")
    parser.add_argument("--num_epochs", type=int, help="epochs of each run")
    parser.add_argument("--gpus_per_node", type=int, help="processes of a node")
    parser.add_argument("--only", help="names, such as A0,A7,B1; by default all")
    return parser


def names_of(only: str | None) -> list[str]:
    """The runs, the full model first. Raises ConfigurationError for an unknown name."""
    if only is None:
        return [REFERENCE, *ABLATION]
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in ABLATION and name not in STEPS:
            known = ", ".join([*STEPS, *ABLATION])
            raise ConfigurationError(f"--only: there is no run '{name}'; write some of {known}.")
    return names


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exit code 1 where a run failed."""
    parser = build_parser()
    options = parser.parse_intermixed_args(arguments)
    try:
        names = names_of(options.only)
    except ConfigurationError as error:
        parser.exit(2, f"error: {error}\n")
    storage = options.output_dir / "runs"
    rows: list[Row] = []
    for number, name in enumerate(names, start=1):
        if not read_metrics(storage, name):
            print(f"Run {number} of {len(names)}: {name}, {meaning_of(name)}.", flush=True)
            subprocess.run(run_command(options, name), check=False)
        rows.append(Row(name, meaning_of(name), read_metrics(storage, name)))
        write_tables(options.output_dir, rows)
    print(table_markdown(rows), end="")
    failed = [row.name for row in rows if not row.metrics]
    if failed:
        parser.exit(1, f"error: these runs failed: {', '.join(failed)}; their output is above.\n")


if __name__ == "__main__":
    main()
