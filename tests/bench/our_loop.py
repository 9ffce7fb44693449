"""The engine's hot loop, in turns with others, and with the raw loop in the same process.

    python our_loop.py mlp|digits FOLDER_OF_IMAGES DIGITS.pt PLACE

The engine's turn is all between two calls of its recipe: data, losses, backward pass, step,
schedule, metrics, reports, agreement; and the CPU time of its other threads. The raw loop shares
the process, so that both have the same memory; it has a network, optimizer and data of its own.
"""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.baton import Baton
from bench.workload import DIGITS_TRAINING, MLP_TRAINING, STEPS, RawLoop, build_work, mlp, points
from demo.jobs import digits_job

from trainyard_operator.contract import RunRequest
from trainyard_trainer.config import RecipeConfig
from trainyard_trainer.context import Rank, RunContext, StorageLocation
from trainyard_trainer.recipe import Batch, Data, Loss, Modules, Recipe, Samples, Stage
from trainyard_trainer.recipes.classification.recipe import Classification
from trainyard_trainer.registry import recipe
from trainyard_trainer.worker import RankRun


class Repeated:
    """The same samples again and again, so that an epoch is as long as the measurement."""

    def __init__(self, samples: Any) -> None:
        self._samples, self._size = samples, len(samples)

    def __len__(self) -> int:
        return STEPS * 64

    def __getitem__(self, index: int) -> Any:
        return self._samples[index % self._size]

    def batch(self, indices: Tensor, epoch: int) -> Any:
        return self._samples.batch(indices % self._size, epoch)


@recipe("bench-mlp")
class Mlp(Recipe[RecipeConfig]):
    """The tiny network."""

    config_class = RecipeConfig
    baton: Baton

    def build_modules(self) -> dict[str, nn.Module]:
        return {"model": mlp()}

    def build_data(self, stage: Stage) -> Data:
        return Data(train=Repeated(points()))

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        self.baton.step()
        inputs, target = batch
        yield Loss("main", F.cross_entropy(modules["model"](inputs), target))

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Any:
        raise NotImplementedError  # Without an evaluation.

    def compute_metrics(self, split: str, gathered: Any) -> dict[str, float]:
        raise NotImplementedError


@recipe("bench-digits")
class Digits(Classification):
    """The digits, every image decoded beforehand."""

    baton: Baton

    def build_data(self, stage: Stage) -> Data:
        train: Samples = super().build_data(stage).train
        Repeated(train).batch(torch.arange(len(train)), 0)
        return Data(train=Repeated(train))

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        self.baton.step()
        return super().losses(modules, batch)


def build_rank(model: str, folder: Path, place: Path) -> Rank:
    """One rank that trains one long epoch; the digits by configs/digits.yaml."""
    config: dict[str, Any] = {"training": dict(MLP_TRAINING)}
    if model == "digits":
        config = digits_job()["spec"]["config"]
        config["training"] = dict(DIGITS_TRAINING)
        config["data"]["path"] = str(folder)
    config["training"] |= {"epochs": 1, "device": "cpu", "evaluate_every_epochs": 2}
    storage = StorageLocation(
        uri=(place / "store").as_uri(), endpoint=None, region=None, compat="aws"
    )
    run = RunContext(
        job="overhead",
        namespace="default",
        uid="1",
        attempt=1,
        nodes=1,
        node_index=0,
        processes_per_node=1,
        master_addr="127.0.0.1",
        master_port=0,
        progress_port=None,
        scratch=place,
        termination_log=place / "termination",
        storage=storage,
        request=RunRequest(recipe=f"bench-{model}", config=config, overrides=[], checkpoint={}),
        config_from=None,
    )
    return Rank(run=run, local_rank=0)


def main(model: str, folder: Path, digits: Path, place: Path) -> None:
    """Trains until no more turns are given."""
    torch.set_num_threads(1)
    gc.freeze()  # As in the process that ranks are forked from.
    run = RankRun(build_rank(model, folder, place), lambda: False)
    progress = run._progress

    def was_away(seconds: float) -> None:
        """Its reports are due twice a second: of its own time."""
        progress.next_write += seconds

    work = build_work(model, digits)
    kind = Digits if model == "digits" else Mlp
    kind.baton = Baton(work.turn, RawLoop(work).run, was_away)
    run.train()


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
