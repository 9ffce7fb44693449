"""One recipe's training steps in the engine, in turns with a plain loop over the same networks.

    python recipe_loop.py RECIPE FOLDER_OF_DATA PLACE

Both get the same batch from memory, so that neither loads anything. The plain loop shares the
process and has networks and optimizers of its own: losses, backward pass, step, no gradients for a
network that was stepped already; no metrics, clipping, schedule, reports or checkpoints.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.baton import Baton
from demo.jobs import CHECKOUT
from unit.engine.tiny import tiny_rank

from trainyard_trainer.config import build_config
from trainyard_trainer.loader import Fetch
from trainyard_trainer.recipe import Batch, Data, Loss, Modules, Recipe, Site, Stage
from trainyard_trainer.registry import load_recipe, recipe
from trainyard_trainer.stage_run import learning, set_trainable
from trainyard_trainer.worker import RankRun

TURN = 3
"""Steps."""
STEPS = 100_000
"""Of an epoch: it never ends."""
EXAMPLES = {"classification": "digits"}
"""The file in configs/, where it is not called after the recipe."""
CHANGES: dict[str, dict[str, Any]] = {
    "lung-nodule": {
        "annotations": "annotations.csv",
        "train_subsets": [0, 1, 2, 3],
        "val_subsets": [4, 5],
        "test_subsets": [6],
    },
    "csr": {"validation_share": 0.2},
}
"""Of `data`, for the small data sets."""


class OneBatch:
    """The same batch whatever is asked for."""

    def __init__(self, batch: Batch, size: int) -> None:
        self._batch, self._size = batch, size

    def __len__(self) -> int:
        return STEPS * self._size

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError  # Batches only.

    def batch(self, indices: Tensor, epoch: int) -> Batch:
        return self._batch


def example(name: str, data: Path) -> dict[str, Any]:
    """The configuration of configs/<recipe>.yaml, on a CPU and the data set in a folder."""
    file = CHECKOUT / "configs" / f"{EXAMPLES.get(name, name)}.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text())["spec"]["config"]
    config.setdefault("data", {})["path"] = str(data)
    config.setdefault("training", {})["device"] = "cpu"
    return config


def first_batch(made: Recipe[Any], stage: Stage) -> tuple[Batch, int]:
    """A training batch of the stage, and how many samples it holds."""
    data, size = made.build_data(stage), stage.batch_size or made.config.training.batch_size
    indices = torch.arange(size) % len(data.train)
    return Fetch(data.train, data, 0, training=True)[(0, indices)], size


def plain_loop(made: Recipe[Any], stage: Stage, batch: Batch) -> Callable[[int], None]:
    """So many steps of forward and backward pass and optimizer."""
    modules: Modules = made.build_modules()
    made.position.stage = stage
    set_trainable(modules, stage, learning(modules))
    for module in modules.values():
        module.train()
    made.begin_stage(stage, Data(train=OneBatch(batch, 1)))
    optimizers = made.build_optimizers(stage, modules)
    owned = {
        name: [p for group in one.param_groups for p in group["params"]]
        for name, one in optimizers.items()
    }

    def run(steps: int) -> None:
        for _ in range(steps):
            set_gradients(owned, on=True)
            losses = made.losses(modules, batch)
            for name in made.updates(tuple(optimizers)):
                loss = next(losses)
                optimizers[name].zero_grad()
                loss.value.backward()  # type: ignore[no-untyped-call]
                optimizers[name].step()
                if len(owned) > 1:
                    set_gradients({name: owned[name]}, on=False)

    return run


def set_gradients(owned: Mapping[str, Sequence[Tensor]], *, on: bool) -> None:
    """Of networks by optimizer: one that was stepped needs none for what follows in the step."""
    for parameters in owned.values():
        for parameter in parameters:
            parameter.requires_grad_(on)


def register(name: str, batch: Batch, size: int, baton: Baton) -> str:
    """The recipe, training on one batch in turns; returns its new name."""
    plain: Any = load_recipe(name)

    @recipe(f"bench-{name}")
    class Timed(plain):  # type: ignore[misc]
        def build_data(self, stage: Stage) -> Data:
            return Data(train=OneBatch(batch, size))

        def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
            baton.step()
            yield from super().losses(modules, batch)

    return f"bench-{name}"


def main(name: str, data: Path, place: Path) -> None:
    """Trains until no more turns are given; the first turn's answer tells the batch size."""
    torch.set_num_threads(1)
    gc.freeze()  # As in the process that ranks are forked from.
    cls, config = load_recipe(name), example(name, data)
    config["data"] |= CHANGES.get(name, {})
    site = Site(data_path=data, scratch=place, device=torch.device("cpu"))
    made = cls(build_config(cls.config_class, [config]), site)
    made.build_modules()
    stage = made.stages()[0]
    batch, size = first_batch(made, stage)
    (place / "batch_size").write_text(str(size))
    run: RankRun

    def was_away(seconds: float) -> None:
        """Its reports are due twice a second: of its own time."""
        run._progress.next_write += seconds

    baton = Baton(TURN, plain_loop(made, stage, batch), was_away)
    run = RankRun(
        tiny_rank(
            place,
            recipe=register(name, batch, size, baton),
            config=made.config.model_dump(mode="json"),
            overrides=[f"training.micro_batch_size={size}"],
            dataset_path=str(data),
        ),
        lambda: False,
    )
    run.train()


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
