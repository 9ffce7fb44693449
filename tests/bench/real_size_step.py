"""The first optimizer step of a recipe in the engine, timed; the process ends with it.

    python real_size_step.py RECIPE CONFIGURATION FOLDER_OF_DATA PLACE

Timed: forward pass, losses, backward pass, optimizers and what the engine does between two steps.
Not timed: reading the batch. Leaves PLACE/step.json, as `Step` has it.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.process import peak_mb
from unit.engine.tiny import tiny_rank

from trainyard_trainer.config import build_config
from trainyard_trainer.gpu_memory import used_mebibytes
from trainyard_trainer.provenance import device_name
from trainyard_trainer.recipe import Batch, Loss, Modules, Recipe
from trainyard_trainer.registry import load_recipe, recipe
from trainyard_trainer.worker import RankRun

STEPS = {"cpu": 1, "cuda": 5}
"""The last one counts: a GPU's first ones choose algorithms and load kernels."""


class Watch:
    """Times the step that counts, tells of it, and ends the process."""

    def __init__(self, file: Path) -> None:
        self._file, self._steps = file, 0
        self._wall = self._cpu = 0.0

    def begin(self) -> None:
        """The batch is there."""
        wait_for_device()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def end(self, made: Recipe[Any]) -> bool:
        """The step is done; whether to stop."""
        wait_for_device()
        seconds, cpu_seconds = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self._steps += 1
        device, stage = made.site.device, made.position.stage
        if self._steps < STEPS[device.type]:
            return False
        is_cpu = device.type == "cpu"
        found = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "memory_mb": peak_mb(os.getpid()) if is_cpu else used_mebibytes(device) * 2**20 / 1e6,
            "samples": (stage.batch_size if stage else None) or made.config.training.batch_size,
            "device": f"{torch.get_num_threads()} threads" if is_cpu else device_name(device),
        }
        self._file.write_text(json.dumps(found))
        os._exit(0)  # Without the checkpoint of a run that stops.


def wait_for_device() -> None:
    """Until what was queued is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def register(name: str, watch: Watch) -> str:
    """The recipe as it is, but for the watch; returns its new name."""
    plain: Any = load_recipe(name)

    @recipe(f"real-size-{name}")
    class Timed(plain):  # type: ignore[misc]
        def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
            watch.begin()
            yield from super().losses(modules, batch)

    return f"real-size-{name}"


def main(name: str, configuration: Path, data: Path, place: Path) -> None:
    """Never returns."""
    layer = yaml.safe_load(configuration.read_text())
    config = build_config(load_recipe(name).config_class, [layer])
    watch = Watch(place / "step.json")
    rank = tiny_rank(
        place,
        recipe=register(name, watch),
        config=config.model_dump(mode="json"),
        dataset_path=str(data),
    )
    run = RankRun(rank, lambda: watch.end(run.recipe))
    run.train()


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
