"""Recipe `noted`: a tiny network whose ranks note every step, with its time, as it is done."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from bench.noted.config import Config
from bench.notes import Notebook
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.recipe import Batch, Data, Gathered, Loss, Modules, Recipe, Stage
from trainyard_trainer.registry import recipe


class Points:
    """A few points again and again, so that a long run is as quick to begin as a short one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._points = torch.randn(1024, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.batch(torch.tensor(index), 0)

    def batch(self, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        points = self._points[indices % len(self._points)]
        return points, points[..., :4].argmax(dim=-1)


@recipe("noted")
class Noted(Recipe[Config]):
    """One epoch of `steps` steps, without evaluation."""

    config_class = Config
    final_splits = ()

    def build_modules(self) -> dict[str, nn.Module]:
        return {"model": nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))}

    def build_data(self, stage: Stage) -> Data:
        return Data(train=Points(self.config.steps * self.config.training.batch_size))

    def build_optimizers(
        self, stage: Stage, modules: Mapping[str, nn.Module]
    ) -> dict[str, Optimizer]:
        optimizers = super().build_optimizers(stage, modules)
        notebook = Notebook(self.site.rank)
        optimizers["main"].register_step_post_hook(
            lambda *_: notebook.write(self.position.step + 1)
        )
        return optimizers

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        time.sleep(self.config.pause_seconds)
        points, classes = batch
        yield Loss("main", F.cross_entropy(modules["model"](points), classes))

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        raise NotImplementedError  # No split is evaluated.

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        raise NotImplementedError
