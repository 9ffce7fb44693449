"""Recipe `bench-mlp`: a network so small that a step is all overhead; and the loop by hand.

Both take the same tensors, and indices from a permutation. MLP_SAMPLES tells how many samples an
epoch has, 32 to a step.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.config import RecipeConfig
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

FEATURES, HIDDEN, CLASSES = 16, 32, 4
BATCH_SIZE = 32


def build_network() -> nn.Module:
    """676 parameters."""
    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def build_samples(size: int) -> tuple[Tensor, Tensor]:
    """Noise and random classes."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(size, FEATURES, generator=generator)
    return points, torch.randint(0, CLASSES, (size,), generator=generator)


def run_by_hand(
    network: nn.Module, optimizer: Optimizer, points: Tensor, classes: Tensor, order: Tensor
) -> None:
    """One step for each 32 indices of `order`."""
    for indices in order.split(BATCH_SIZE):
        optimizer.zero_grad()
        F.cross_entropy(network(points[indices]), classes[indices]).backward()
        optimizer.step()


@recipe("bench-mlp")
class Mlp(Recipe[RecipeConfig]):
    """Trains and is not evaluated."""

    config_class = RecipeConfig
    final_splits = ()

    def build_modules(self) -> dict[str, nn.Module]:
        return {"model": build_network()}

    def build_data(self, stage: Stage) -> Data:
        return Data(train=TensorSamples(*build_samples(int(os.environ["MLP_SAMPLES"]))))

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        points, classes = batch
        yield Loss("main", F.cross_entropy(modules["model"](points), classes))

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        return {}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        return {}
