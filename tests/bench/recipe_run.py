"""The first two epochs of a recipe's example in the engine: how long steps wait for their data.

    python recipe_run.py RECIPE FOLDER_OF_DATA PLACE WORKERS

Nothing but the number of workers differs from configs/. Evaluations are left out. Leaves
PLACE/run.json, as `Waits` has it.
"""

import contextlib
import csv
import json
import os
import sys
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.process import peak_mb
from bench.recipe_loop import example
from unit.engine.tiny import storage_of, tiny_rank, train

from trainyard_trainer.config import build_config
from trainyard_trainer.errors import Stopped
from trainyard_trainer.registry import load_recipe

EPOCHS = 2
WINDOW = 2
"""Steps whose share is one number; of a run's first ones, which start the workers, none counts."""


def main(name: str, data: Path, place: Path, workers: int) -> None:
    """Trains, and tells of it."""
    training = {
        "num_workers": workers,
        "log_every_steps": WINDOW,
        "evaluate_every_epochs": 1000,
    }
    config = build_config(load_recipe(name).config_class, [example(name, data)])
    whole = config.model_dump(mode="json")
    whole["training"] |= training
    rank = tiny_rank(place, recipe=name, config=whole, dataset_path=str(data))
    with contextlib.suppress(Stopped):
        train(rank, lambda made: made.position.run_epoch >= EPOCHS)
    lines = storage_of(rank).read("metrics.csv").decode().splitlines()
    rows = [row for row in csv.DictReader(lines) if row["data_wait_share"]][1:]
    by_epoch = [
        100 * fmean(float(row["data_wait_share"]) for row in rows if int(row["epoch"]) == epoch)
        for epoch in range(EPOCHS)
    ]
    found = {"first": by_epoch[0], "later": by_epoch[1], "memory_mb": peak_mb(os.getpid())}
    (place / "run.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
