"""Recipe `noted`: a tiny network whose ranks note every step, with its time, as it is done."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from bench.noted.config import Config
from bench.notes import Notebook
from torch import nn
from torch.optim import Optimizer

from trainyard_trainer.recipe import (
    Batch,
    Data,
    Gathered,
    Loss,
    Modules,
    Recipe,
    Stage,
    TensorSamples,
)
from trainyard_trainer.registry import recipe


@recipe("noted")
class Noted(Recipe[Config]):
    """One epoch of `steps` steps, without evaluation."""

    config_class = Config
    final_splits = ()

    def build_modules(self) -> dict[str, nn.Module]:
        return {"model": nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))}

    def build_data(self, stage: Stage) -> Data:
        generator = torch.Generator().manual_seed(0)
        size = self.config.steps * self.config.training.batch_size
        points = torch.randn(size, 16, generator=generator)
        return Data(train=TensorSamples(points, points[:, :4].argmax(dim=1)))

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
