"""ASHA on real training: a search on the digits, beside the same trials left alone.

python tests/bench/sweep_asha.py [--seeds 0,1,2] [--trials 9] [--parallelism 2]

Each sweep is a `trainyard run` of its own. Steps are those that trials report, with those that a
trial took beyond its rung. The ranges are those of the example in docs/sweeps.md. Prints a table of
that page.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainyard_trainer.digits import write_digits

EPOCHS = 9
STEPS_OF_EPOCH = 20
"""Of the digits' images for training, 64 a step."""
STOPPING = {"method": "asha", "minSteps": 2 * STEPS_OF_EPOCH}
"""After 20 steps the running statistics of batch normalisation are to 12 % what they began with,
and what learns fast is evaluated worst; after 40 steps to 1.5 %."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one sweep found, and what it took."""

    best: str
    value: float
    steps: int
    stopped: int


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--parallelism", type=int, default=2)
    told = parser.parse_args()
    print("| seed | best of all | best with asha | stopped | steps |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        write_digits(Path(folder) / "digits")
        for seed in map(int, told.seeds.split(",")):
            fields = {"maxTrials": told.trials, "parallelism": told.parallelism, "seed": seed}
            whole = run(Path(folder), f"whole-{seed}", fields)
            asha = run(Path(folder), f"asha-{seed}", {**fields, "earlyStopping": STOPPING})
            share = asha.steps / whole.steps
            cells = (seed, told_of(whole), told_of(asha), f"{asha.stopped} of {told.trials}")
            print(f"| {' | '.join(map(str, cells))} | {share:.0%} |", flush=True)


def run(folder: Path, name: str, fields: dict[str, Any]) -> Outcome:
    """One sweep on this machine."""
    config = {
        "training": {"epochs": EPOCHS, "batch_size": 64, "log_every_steps": 5},
        "data": {"dataset_name": "digits", "image_size": 32},
        "model": {"architecture": "small_cnn"},
    }
    job = {
        "recipe": "classification",
        "config": config,
        "checkpoint": {"everyEpochs": EPOCHS},
    }
    spec = {
        "template": {"spec": job},
        "method": "random",
        "parameters": {
            "training.learning_rate": {"distribution": "log_uniform", "min": 1e-5, "max": 1e-2},
            "training.optimizer.weight_decay": {"distribution": "uniform", "min": 0, "max": 0.1},
        },
        "objective": {"metric": "val_loss", "goal": "minimize"},
        **fields,
    }
    head = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingSweep"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**head, "metadata": {"name": name}, "spec": spec}))
    words = [sys.executable, "-m", "trainyard.cli", "run", str(path)]
    words += ["--dataset", str(folder / "digits"), "--storage", str(folder / "runs")]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    [report] = folder.glob(f"runs/default/{name}/*/report/trials.csv")
    return outcome(report, list(folder.glob(f"state/trainyard/jobs/{name}-*/*/job.json")))


def outcome(report: Path, jobs: list[Path]) -> Outcome:
    """From the report, and how far each trial came."""
    rows = list(csv.DictReader(report.read_text().splitlines()))
    best = min((row for row in rows if row["val_loss"]), key=lambda row: float(row["val_loss"]))
    return Outcome(
        best=best["name"],
        value=float(best["val_loss"]),
        steps=sum(json.loads(job.read_text())["status"]["progress"]["step"] for job in jobs),
        stopped=sum(row["state"] == "Stopped" for row in rows),
    )


def told_of(one: Outcome) -> str:
    """A cell."""
    return f"{one.value:.4f} ({one.best})"


if __name__ == "__main__":
    main()
